package peers_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/actor"
	"github.com/apifailover/caddy-failover/bench/internal/client"
	"github.com/apifailover/caddy-failover/bench/internal/load"
	"github.com/apifailover/caddy-failover/bench/internal/payload"
	"github.com/apifailover/caddy-failover/bench/internal/peers"
	"github.com/apifailover/caddy-failover/bench/internal/relay"
	"github.com/apifailover/caddy-failover/bench/internal/run"
)

// failBodies reads a request with a body and then fails.
func failBodies(failure actor.Behaviour) actor.Behaviour {
	return func(a *actor.Actor, w http.ResponseWriter, r *http.Request, body []byte) {
		if len(body) > 0 {
			failure(a, w, r, body)
			return
		}
		actor.Well(a, w, r, body)
	}
}

func TestPeers(t *testing.T) {
	t.Chdir("../..")
	r := &run.Run{Dir: t.TempDir()}
	caddy, err := r.BuildCaddy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l := peers.Launcher{Dir: r.Dir, Caddy: caddy}
	t.Run("while all is well", func(t *testing.T) { sendBodiesAgain(t, l, peers.ForSpeed(), client.Protocols()) })
	t.Run("while endpoints fail", func(t *testing.T) { sendBodiesAgain(t, l, peers.ForFaults(), []client.Protocol{client.H1}) })
	t.Run("HTTP/2 to endpoints", func(t *testing.T) { speakHTTP2(t, l) })
	t.Run("variants", func(t *testing.T) { serve(t, l) })
	t.Run("TLS", func(t *testing.T) { agreeOnTLS(t, l) })
}

// sendBodiesAgain checks for every peer whether a POST and its body reach another endpoint
// after one has read it and failed.
func sendBodiesAgain(t *testing.T, l peers.Launcher, all []peers.Peer, protocols []client.Protocol) {
	failures := map[string]actor.Behaviour{"503": actor.Unavailable, "cut off unanswered": actor.Abort}
	chosen, err := peers.Choose(all, "", t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range chosen {
		for _, protocol := range protocols {
			if !p.Serves(protocol, 2) || p.NeedsNPM() {
				continue
			}
			t.Run(fmt.Sprint(p.Name, " ", protocol), func(t *testing.T) {
				for what, failure := range failures {
					for _, size := range []int{2 << 10, payload.MaxSize} {
						again := sendsAgain(t, l, p, protocol, failure, size)
						if want := size <= p.Resends; again != want {
							t.Errorf("%s, %d bytes: sent again is %t, want %t", what, size, again, want)
						}
					}
				}
			})
		}
	}
}

// sendsAgain reports whether a failing endpoint stays hidden from a peer's client.
func sendsAgain(t *testing.T, l peers.Launcher, p peers.Peer, protocol client.Protocol, failure actor.Behaviour, size int) bool {
	var actors [2]*actor.Actor
	for i := range actors {
		a, err := actor.New(fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		defer a.Crash()
		actors[i] = a
	}
	actors[0].Play(failBodies(failure))
	proxy, err := l.Start(t.Context(), p, protocol, []string{actors[0].Address, actors[1].Address})
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Stop()
	c, url := proxy.Client()
	c.Timeout = 20 * time.Second
	defer c.CloseIdleConnections()
	body := payload.Of(size)
	for try := 0; actors[0].Attempts.Load() == 0; try++ {
		if try == 20 {
			t.Fatalf("the failing endpoint gets no request\n%s", proxy.Tail())
		}
		r, err := http.NewRequest(http.MethodPost, url+actor.CallPath, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.GetBody = nil // keep the client from sending it again
		resp, err := c.Do(r)
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
		if want := payload.Answer(body); !bytes.Equal(text, want) {
			t.Fatalf("the other endpoint got another body: %q, want %q", text, want)
		}
	}
	return true
}

// speakHTTP2 checks that every peer for such endpoints speaks HTTP/2 to them.
func speakHTTP2(t *testing.T, l peers.Launcher) {
	a, err := actor.NewSecure("a")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Crash()
	var proto atomic.Value
	a.Play(func(a *actor.Actor, w http.ResponseWriter, r *http.Request, body []byte) {
		if r.URL.Path == actor.CallPath {
			proto.Store(r.Proto)
		}
		actor.Well(a, w, r, body)
	})
	chosen, err := peers.Choose(peers.ForHTTP2(), "", t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range chosen {
		if p.Cannot != "" {
			continue
		}
		proxy, err := l.Start(t.Context(), p, client.H1, []string{a.Address})
		if err != nil {
			t.Fatal(err)
		}
		defer proxy.Stop()
		proto.Store("no request")
		ask(t, proxy)
		if got := proto.Load(); got != "HTTP/2.0" {
			t.Errorf("%s: %s", p.Name, got)
		}
	}
}

// serve checks that the variants of the plugin serve requests, in a fleet also while its engine
// accepts connections and never answers.
func serve(t *testing.T, l peers.Launcher) {
	a, err := actor.New("a")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Crash()
	silent, err := relay.New(a.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	silent.Deafen()
	l.Engine = silent.Address
	for _, p := range []peers.Peer{peers.Scoped("scope {method}"), peers.Scoped("scope json model"), peers.InFleet()} {
		proxy, err := l.Start(t.Context(), p, client.H1, []string{a.Address})
		if err != nil {
			t.Fatal(err)
		}
		defer proxy.Stop()
		ask(t, proxy)
	}
}

// ask sends a peer a request, which must succeed.
func ask(t *testing.T, proxy *peers.Running) {
	t.Helper()
	c, url := proxy.Client()
	defer c.CloseIdleConnections()
	resp, err := c.Get(url + actor.CallPath)
	if err != nil {
		t.Fatalf("%s: %v\n%s", proxy.Name, err, proxy.Tail())
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("%s: %s\n%s", proxy.Name, resp.Status, proxy.Tail())
	}
}

// agreeOnTLS checks that every program chooses the same cipher suite, so that its cost can
// be compared. A program uses the same TLS settings for all its peers.
func agreeOnTLS(t *testing.T, l peers.Launcher) {
	s, err := load.NewSink()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	chosen, err := peers.Choose(peers.ForSpeed(), "", t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	suite := uint16(0) // suite of the first program
	seen := make(map[*peers.Program]bool)
	for _, p := range chosen {
		if seen[p.Program] || !p.Serves(client.H2TLS, 1) {
			continue
		}
		seen[p.Program] = true
		proxy, err := l.Start(t.Context(), p, client.H2TLS, []string{s.Address()})
		if err != nil {
			t.Fatal(err)
		}
		defer proxy.Stop()
		c, url := proxy.Client()
		defer c.CloseIdleConnections()
		resp, err := c.Get(url + "/10")
		if err != nil {
			t.Fatalf("%s: %v\n%s", p.Name, err, proxy.Tail())
		}
		resp.Body.Close()
		if suite == 0 {
			suite = resp.TLS.CipherSuite
		}
		if resp.ProtoMajor != 2 || resp.TLS.Version != tls.VersionTLS13 || resp.TLS.CipherSuite != suite {
			t.Errorf("%s: %s, %s, %s", p.Name, resp.Proto, tls.VersionName(resp.TLS.Version), tls.CipherSuiteName(resp.TLS.CipherSuite))
		}
	}
}

func TestChoose(t *testing.T) {
	names := func(list []peers.Peer) (names []string) {
		for _, p := range list {
			names = append(names, p.Name)
		}
		return names
	}
	chosen, err := peers.Choose(peers.ForSpeed(), "stock+,stock,unknown", t.Logf)
	if got := fmt.Sprint(names(chosen)); err != nil || got != "[stock stock+]" {
		t.Errorf("chosen are %v, %v", got, err)
	}
	if _, err := peers.Choose(peers.ForSpeed(), "unknown", t.Logf); err == nil {
		t.Error("an unknown name was accepted")
	}
}
