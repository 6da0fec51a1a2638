package failover

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// badPath is where every endpoint of these tests misbehaves, in the same way.
const badPath = "/bad"

// TestOneClientHurtsNoOther sends requests that fail wherever they go beside those of
// other clients. These are to be answered as if the others were not there, no breaker
// opens, and a primary that really fails is left as quickly as without them.
func TestOneClientHurtsNoOther(t *testing.T) {
	status := func(code int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			for i := 0; i+1 < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
		}
	}
	for _, hostile := range []struct {
		name    string
		bad     http.HandlerFunc
		rate    int
		method  string
		options string
		own     bool // credentials
	}{
		{"500 everywhere, now and then", status(500), 10, http.MethodGet, "", false},
		{"500 everywhere", status(500), 100, http.MethodGet, "", false},
		{"500 everywhere, not sent again", status(500), 100, http.MethodPost, "", false},
		{"500 everywhere, slowly", after20ms(status(500)), 100, http.MethodGet, "", false},
		{"cut everywhere", cut, 100, http.MethodGet, "", false},
		{"403 everywhere", status(403), 50, http.MethodGet, "", true},
		{"429 everywhere", status(429, "Retry-After", "60"), 50, http.MethodPost, "", true},
		{"429 everywhere, rarely", status(429, "Retry-After", "60"), 1, http.MethodPost, "", true},
		{"slow everywhere", func(w http.ResponseWriter, r *http.Request) { _ = pauseFor(r.Context(), time.Minute) }, 20, http.MethodGet, "timeout 2s", false},
	} {
		t.Run(hostile.name, func(t *testing.T) {
			apis := []*api{newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")}
			options := hostile.options + "\nbreaker {\nopen_for 500ms\nstep 100ms\n}"
			for _, a := range apis {
				a.behave(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == badPath {
						hostile.bad(w, r)
						return
					}
					a.fine(w, r)
				})
			}
			config := site(options, apis...)
			if hostile.own {
				config = strings.ReplaceAll(config, "{\nname", "{\nheader Authorization secret\nname")
			}
			p := startCaddy(t, config)
			good := p.startLoad(200, http.MethodGet, "/", "")
			lasting(500 * time.Millisecond)
			bad := p.startLoad(hostile.rate, hostile.method, badPath, "")
			opened := p.watchBreakers(t, "one", "two", "three")
			lasting(2500 * time.Millisecond)
			if list := opened.stop(); len(list) > 0 {
				t.Errorf("opened: %v", list)
			}
			if failed, all := good.failedSoFar(); failed*200 > all {
				t.Errorf("%d of %d good calls failed: %q", failed, all, good.errors)
			}
			// a real failure beside the hostile requests
			apis[0].answer(503)
			primary := stateOf(t, "api", "one")
			took := eventually(t, 5*time.Second, "the primary is out", func() bool { return primary.breakerNow() != stateClosed })
			t.Logf("a primary that answers 503 is left after %v", took)
			lasting(500 * time.Millisecond)
			apis[0].behave(apis[0].fine)
			back := eventually(t, 20*time.Second, "the primary has its share again", func() bool {
				return primary.breakerNow() == stateClosed && shareOf(t, "api", "one") > 0.9
			})
			t.Logf("back after %v", back)
			bad.stop()
			good.stop()
			t.Logf("%d good calls, %d failed; p99 %v", len(good.times), good.failed, good.quantile(0.99))
			if good.failed*200 > len(good.times) {
				t.Errorf("%d of %d good calls failed: %q", good.failed, len(good.times), good.errors)
			}
		})
	}
}

func after20ms(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if pauseFor(r.Context(), 20*time.Millisecond) == nil {
			h(w, r)
		}
	}
}

func (l *load) failedSoFar() (failed, all int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed, len(l.times)
}

// A breakerWatch notes which breakers are not closed.
type breakerWatch struct {
	quit chan struct{}
	done sync.WaitGroup
	seen map[string]string
}

func (p *proxy) watchBreakers(t *testing.T, names ...string) *breakerWatch {
	w := &breakerWatch{quit: make(chan struct{}), seen: make(map[string]string)}
	states := make(map[string]*endpointState)
	for _, name := range names {
		states[name] = stateOf(t, "api", name)
	}
	w.done.Go(func() {
		ticker := time.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		for {
			for name, s := range states {
				s.mu.Lock()
				if s.breaker.state != stateClosed {
					w.seen[name] = s.breaker.reason
				}
				s.mu.Unlock()
			}
			select {
			case <-w.quit:
				return
			case <-ticker.C:
			}
		}
	})
	return w
}

func (w *breakerWatch) stop() map[string]string {
	close(w.quit)
	w.done.Wait()
	return w.seen
}

// TestRequestsThatAreNotSent sends requests that net/http refuses to send on. Their
// clients get 400, and no endpoint is blamed.
func TestRequestsThatAreNotSent(t *testing.T) {
	for _, test := range []struct {
		name    string
		request string
		tls     bool
		options string
	}{
		{name: "a trailer with a space", request: "PUT / HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\nTrailer: foo bar\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
		{name: "an upgrade to h2c beside HTTP/2 endpoints", tls: true,
			request: "GET / HTTP/1.1\r\nHost: api.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"},
		{name: "a line break in a header from a placeholder", options: "header_up X-Q {query.q}",
			request: "GET /?q=a%0d%0ab HTTP/1.1\r\nHost: api.test\r\n\r\n"},
		{name: "a trailer that HTTP/2 forbids", tls: true,
			request: "PUT / HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\nTrailer: Host\r\n\r\n5\r\nhello\r\n0\r\nHost: a\r\n\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			newOne := newAPI
			options := test.options
			if test.tls {
				newOne = newTLSAPI
				options += "\ntransport http {\ntls_insecure_skip_verify\n}"
			}
			one, two := newOne(t, "one"), newOne(t, "two")
			config := site(options, one, two)
			if test.tls {
				config = strings.ReplaceAll(config, "http://", "https://")
			}
			p := startCaddy(t, config)
			if status, _ := p.get("/"); status != http.StatusOK {
				t.Fatalf("status %d", status)
			}
			for i := range 12 {
				conn, err := net.Dial("unix", p.socket)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.WriteString(conn, test.request)
				line := make([]byte, 12)
				_, err = io.ReadFull(conn, line)
				conn.Close()
				if err != nil || !bytes.Equal(line, []byte("HTTP/1.1 400")) {
					t.Fatalf("request %d: answered %q (%v), want 400", i, line, err)
				}
			}
			for _, name := range []string{"one", "two"} {
				s := stateOf(t, "api", name)
				if state := s.breakerNow(); state != stateClosed {
					t.Errorf("%s: %v", name, state)
				}
			}
			if status, _ := p.get("/"); status != http.StatusOK {
				t.Errorf("a good request: status %d", status)
			}
		})
	}
}
