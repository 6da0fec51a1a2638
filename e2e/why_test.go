package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// expired starts an endpoint whose certificate was good for 127.0.0.1 until yesterday, and
// returns its address and the certificate in a file.
func expired(t *testing.T) (address, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String(), certificateOf(t, server)
}

// TestAFailureSaysWhy checks what the event, the log line and the status say about a failure.
func TestAFailureSaysWhy(t *testing.T) {
	expiredAt, certificate := expired(t)
	a := newAPI(t, "one")
	for name, c := range map[string]struct {
		url     string
		fails   http.HandlerFunc
		options string
		outcome string
		what    string
	}{
		"status":      {"http://" + a.address, status(503), "", "status", "503"},
		"another":     {"http://" + a.address, status(502), "", "status", "502"},
		"refused":     {"http://" + keepPort(t), nil, "", "dial", "connection refused"},
		"certificate": {"https://" + expiredAt, nil, "transport http {\n\t\ttls_trust_pool file " + certificate + "\n\t}", "tls", "certificate has expired"},
		"timeout":     {"http://" + a.address, silent, "timeout 700ms", "timeout", "timeout after 700ms"},
		"reset": {"http://" + listening(t, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1024))
			c.Close()
		}), nil, "", "reset", "connection closed before a response"},
		"cut":    {"http://" + a.address, cutInside, "commit complete", "truncated", "connection closed in mid-response"},
		"silent": {"http://" + a.address, halfAnswered, "commit complete\nidle_timeout 700ms", "stalled", "silent for 700ms"},
		"denied": {"http://" + a.address, status(401), "quota endpoint", "denied", "401"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.fails != nil {
				a.behave(func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body) // or it would not see that the client has gone
					c.fails(w, r)
				})
			}
			p := startCaddy(t, fmt.Sprintf("failover {\n\tname api\n\tendpoint %s {\n\t\tname one\n\t}\n\tendpoint %s {\n\t\tname two\n\t}\n\tretry {\n\t\tmethods any\n\t}\n\t%s\n}",
				c.url, "http://"+newAPI(t, "two").address, strings.ReplaceAll(c.options, "\n", "\n\t")))
			before := p.newestEvent()
			for range 5 {
				p.call("POST", "/v1/chat?key=of-the-client", "{}").want(t, "a call", 200, "two"+digest("{}"))
			}
			var opened, moved event
			eventually(t, "the breaker opens", func() bool {
				for _, e := range p.events(before) {
					switch e.Kind {
					case "breaker_opened":
						opened = e
					case "failover":
						moved = e
					}
				}
				return opened.ID != 0 && moved.ID != 0
			})
			for _, e := range []event{opened, moved} {
				if d := e.Details; d["cause"] != c.what || d["method"] != "POST" || d["path"] != "/v1/chat" {
					t.Errorf("%s: %v, want %s", e.Kind, d, c.what)
				}
			}
			if n, _ := opened.Details["failures"].(float64); n < 3 || n > 5 {
				t.Errorf("opened after %v failures", opened.Details["failures"])
			}
			var line map[string]any
			eventually(t, "the log has it", func() bool {
				for _, l := range p.lines("breaker_opened") {
					line = l
				}
				return line != nil
			})
			if line["cause"] != c.what || line["method"] != "POST" || line["path"] != "/v1/chat" {
				t.Errorf("the log line: %v", line)
			}
			one := p.one("one")
			if f := one.Cause; f == nil || f.What != c.what || f.Method != "POST" || f.Path != "/v1/chat" || f.Count < 3 {
				t.Errorf("the status: cause %+v", f)
			}
			if f := one.LastFailure; f == nil || f.What != c.what || f.Outcome != c.outcome {
				t.Errorf("the status: last failure %+v", f)
			}
		})
	}
}

// halfAnswered begins an answer and does not end it.
func halfAnswered(w http.ResponseWriter, r *http.Request) {
	_, _ = w.Write([]byte("half"))
	flush(w)
	<-r.Context().Done()
}

// cutInside breaks off inside an answer.
func cutInside(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "100")
	_, _ = w.Write([]byte("half"))
	flush(w)
	panic(http.ErrAbortHandler)
}

// TestWhyIsNotTheClients checks that reasons never show keys, queries, line breaks, or characters that
// change how text is displayed.
func TestWhyIsNotTheClients(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.answer(503)
	p := startCaddy(t, site("", one, two))
	before := p.newestEvent()
	const path = "/%1b%5B2J%0a%E2%80%AE%u/sk-Secr3tOfTheTest0/"
	p.call("GET", strings.ReplaceAll(path, "%u", "")+strings.Repeat("x", 5000)+"?key=Secr3tOfTheTest1", "").want(t, "a call", 200, "two")
	eventually(t, "the failover is told", func() bool { return len(p.events(before)) > 0 })
	told := p.readText(fmt.Sprint("/failover/events?pool=api&since=", before)) + p.readText("/failover/pools/api")
	for _, l := range p.lines("failover") {
		told += fmt.Sprint(l)
	}
	for _, secret := range []string{"Secr3tOfTheTest0", "Secr3tOfTheTest1", "\x1b", "\u202e", `\u202e`, `\u001b`, strings.Repeat("x", 200)} {
		if strings.Contains(told, secret) {
			t.Errorf("%q is told", secret)
		}
	}
	if !strings.Contains(told, "%1b%5B2J%0a%E2%80%AE") || !strings.Contains(told, "xxxxx") {
		t.Errorf("the path is not told: %.500s", told)
	}
}

// TestChecksSayWhy checks that failed checks say what failed.
func TestChecksSayWhy(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site(oftenChecked("uri /health?deep=1\nmethod GET"), one, two))
	p.waitForCheck("one", "up", checkPassed)
	before := p.newestEvent()
	one.answer(503)
	var opened event
	eventually(t, "the breaker opens", func() bool {
		for _, e := range p.events(before) {
			if e.Kind == "breaker_opened" && e.Reason == "check_failed" && opened.ID == 0 {
				opened = e
			}
		}
		return opened.ID != 0
	})
	if d := opened.Details; d["cause"] != "503" || d["method"] != "GET" || d["path"] != "/health" || d["check"] != "status 503" {
		t.Errorf("the event: %v", d)
	}
	one.down()
	p.waitForCheck("one", "down", "dial: connection refused")
}
