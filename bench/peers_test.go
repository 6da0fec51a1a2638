package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

// failsBodies reads a request with a body and then fails in a way.
func failsBodies(failure behaviour) behaviour {
	return func(a *actor, w http.ResponseWriter, r *http.Request, body []byte) {
		if len(body) > 0 {
			failure(a, w, r, body)
			return
		}
		well(a, w, r, body)
	}
}

func TestPeers(t *testing.T) {
	b := &bench{ctx: t.Context(), dir: t.TempDir()}
	caddy, err := b.buildCaddy()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("bodies", func(t *testing.T) { b.sendBodiesAgain(t, caddy) })
	t.Run("TLS", func(t *testing.T) { b.agreeOnTLS(t, caddy) })
}

// sendBodiesAgain asks every proxy whether a POST that an endpoint has read and
// failed gets to another one with its body, as its description says.
func (b *bench) sendBodiesAgain(t *testing.T, caddy string) {
	largest := map[string]int{ // that is sent again
		"stock": 0, "control": 0, "failover": 0, "policy": 0,
		"stock+": maxBody, "failover=": maxBody, "failover+": maxBody, "nginx": maxBody,
		"HAProxy": 14 << 10,
	}
	failures := map[string]behaviour{
		"503":                unavailable,
		"cut off unanswered": func(*actor, http.ResponseWriter, *http.Request, []byte) { panic(http.ErrAbortHandler) },
	}
	for _, p := range speedPeers {
		if !p.available() {
			continue
		}
		for _, protocol := range []string{h1, h2c, h2tls} {
			t.Run(p.name+" "+protocol, func(t *testing.T) {
				for what, failure := range failures {
					for _, size := range []int{2 << 10, maxBody} {
						again := b.sendsAgain(t, p, caddy, protocol, failure, size)
						if want := size <= largest[p.name]; again != want {
							t.Errorf("%s, %d bytes: sent again is %t, want %t", what, size, again, want)
						}
					}
				}
			})
		}
	}
}

// sendsAgain tells whether a client of a proxy sees nothing of an endpoint that
// fails.
func (b *bench) sendsAgain(t *testing.T, p peer, caddy, protocol string, failure behaviour, size int) bool {
	var actors [2]*actor
	for i := range actors {
		a, err := newActor(fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		defer a.crash()
		actors[i] = a
	}
	actors[0].play(failsBodies(failure))
	proxy, err := b.start(p, protocol, caddy, []string{actors[0].address, actors[1].address})
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.stop()
	client, url := proxy.client()
	client.Timeout = 20 * time.Second
	defer client.CloseIdleConnections()
	body := filler[:size]
	for try := 0; actors[0].attempts.Load() == 0; try++ {
		if try == 20 {
			t.Fatalf("the failing endpoint gets no request\n%s", proxy.tail())
		}
		r, err := http.NewRequest(http.MethodPost, url+"/call", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.GetBody = nil // so that the client itself cannot send it again
		resp, err := client.Do(r)
		if err != nil {
			t.Logf("no answer: %v", err)
			return false
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusOK {
			return false
		}
		if want := whole(body); !bytes.Equal(text, want) {
			t.Fatalf("the other endpoint got another body: %q, want %q", text, want)
		}
	}
	return true
}

// agreeOnTLS: what encryption costs is compared only where it is the same.
func (b *bench) agreeOnTLS(t *testing.T, caddy string) {
	s, err := newSink()
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	suite := uint16(0)            // of the first proxy
	seen := make(map[string]bool) // a binary's TLS is the same for all its configurations
	for _, p := range speedPeers {
		if seen[p.binary] || !p.available() {
			continue
		}
		seen[p.binary] = true
		proxy, err := b.start(p, h2tls, caddy, []string{s.address()})
		if err != nil {
			t.Fatal(err)
		}
		defer proxy.stop()
		client, url := proxy.client()
		defer client.CloseIdleConnections()
		resp, err := client.Get(url + "/10")
		if err != nil {
			t.Fatalf("%s: %v\n%s", p.name, err, proxy.tail())
		}
		resp.Body.Close()
		c := resp.TLS
		if suite == 0 {
			suite = c.CipherSuite
		}
		if resp.ProtoMajor != 2 || c.Version != tls.VersionTLS13 || c.CipherSuite != suite {
			t.Errorf("%s: %s, %s, %s", p.name, resp.Proto, tls.VersionName(c.Version), tls.CipherSuiteName(c.CipherSuite))
		}
	}
}
