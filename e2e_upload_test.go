package failover

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// paused begins an upload of 5,000 bytes, of which it sends one.
func (p *proxy) paused() (net.Conn, *bufio.Reader) {
	conn, reader := p.raw("PUT / HTTP/1.1\nHost: api.test\nContent-Length: 5000")
	fmt.Fprint(conn, "a")
	return conn, reader
}

// TestPausedUploadsFillNoSlot has more of them than the endpoint may have attempts. No
// good call is refused, and the uploads that go on are answered.
func TestPausedUploadsFillNoSlot(t *testing.T) {
	const limit = 20
	one := newAPI(t, "one")
	p := startCaddy(t, fmt.Sprintf("failover {\n\tname api\n\tendpoint http://%s {\n\t\tname one\n\t\tmax_requests %d\n\t}\n}", one.address, limit))
	var conns []net.Conn
	var readers []*bufio.Reader
	for range 2 { // the second round finds the slots that the first has left
		for range limit {
			conn, reader := p.paused()
			conns, readers = append(conns, conn), append(readers, reader)
		}
		s := stateOf(t, "api", "one")
		eventually(t, 5*time.Second, "the uploads fill no slot", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.vacant == len(conns)
		})
	}
	for range 3 * limit {
		if status, body := p.get("/"); status != 200 {
			t.Fatalf("got %d %q", status, body)
		}
	}
	for i, conn := range conns {
		fmt.Fprint(conn, strings.Repeat("a", 4999))
		if got := p.rest(readers[i]); got.status != 200 || got.body != "one"+digest(strings.Repeat("a", 5000)) {
			t.Fatalf("upload %d got %+v", i, got)
		}
	}
	s := stateOf(t, "api", "one")
	eventually(t, 2*time.Second, "nothing is in flight", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.busy.Load() == 0 && s.vacant == 0
	})
}

// TestUploadsThatNeverBeginFillNoSlot: their clients were told to go on, and do not.
func TestUploadsThatNeverBeginFillNoSlot(t *testing.T) {
	one := newAPI(t, "one")
	p := startCaddy(t, fmt.Sprintf("failover {\n\tname api\n\tendpoint http://%s {\n\t\tname one\n\t\tmax_requests 2\n\t}\n}", one.address))
	for range 2 {
		_, reader := p.raw("PUT / HTTP/1.1\nHost: api.test\nContent-Length: 5000\nExpect: 100-continue")
		wantLine(t, reader, "HTTP/1.1 100 Continue\r")
	}
	s := stateOf(t, "api", "one")
	eventually(t, 5*time.Second, "the uploads fill no slot", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.vacant == 2
	})
	if status, body := p.get("/"); status != 200 {
		t.Fatalf("got %d %q", status, body)
	}
}

// TestUploadsThatTrickleFillNoSlot: a byte now and then is no use of an endpoint.
func TestUploadsThatTrickleFillNoSlot(t *testing.T) {
	one := newAPI(t, "one")
	p := startCaddy(t, fmt.Sprintf("failover {\n\tname api\n\tendpoint http://%s {\n\t\tname one\n\t\tmax_requests 1\n\t}\n}", one.address))
	conn, _ := p.paused()
	s := stateOf(t, "api", "one")
	eventually(t, 5*time.Second, "the upload fills no slot", func() bool {
		fmt.Fprint(conn, "a")
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.vacant == 1
	})
	if status, body := p.get("/"); status != 200 {
		t.Fatalf("got %d %q", status, body)
	}
}

// TestASlotIsFilledWhileTheEndpointIsAtWork, however slow the upload was before.
func TestASlotIsFilledWhileTheEndpointIsAtWork(t *testing.T) {
	one := newAPI(t, "one")
	defer one.hang()()
	p := startCaddy(t, fmt.Sprintf("failover {\n\tname api\n\tendpoint http://%s {\n\t\tname one\n\t\tmax_requests 1\n\t}\n}", one.address))
	conn, _ := p.paused()
	s := stateOf(t, "api", "one")
	vacant := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.vacant
	}
	eventually(t, 5*time.Second, "the upload fills no slot", func() bool { return vacant() == 1 })
	fmt.Fprint(conn, strings.Repeat("a", 4999))
	eventually(t, 5*time.Second, "the upload fills its slot", func() bool { return vacant() == 0 })
	if status, _ := p.get("/"); status != 503 {
		t.Errorf("got %d from an endpoint that has as much as it may", status)
	}
}

// h2cSite is a configuration whose site speaks HTTP/2 without TLS as well.
func (p *proxy) loadH2C(site string) {
	p.t.Helper()
	config := strings.Replace(p.caddyfile(site), "admin off", "admin off\n\tservers {\n\t\tprotocols h1 h2c\n\t}", 1)
	if err := p.loadCaddyfile(config); err != nil {
		p.t.Fatal(err)
	}
}

// TestTheDeadlineEndsACallThatWaitsForItsClient with 408, whether the endpoint has been
// asked or not, over HTTP/1 and HTTP/2. It counts against no endpoint.
func TestTheDeadlineEndsACallThatWaitsForItsClient(t *testing.T) {
	before := bodies.Used()
	one, two := newAPI(t, "one"), newAPI(t, "two")
	const deadline = 400 * time.Millisecond
	directive := site("\n\ttimeout 10s\n\tretry {\n\t\tmethods any\n\t\tdeadline 400ms\n\t}", one, two)
	edited := strings.Replace(site("\n\tretry {\n\t\tdeadline 400ms\n\t}", one), "name one\n", "name one\n\t\tset_json a 1\n", 1)
	edited = strings.Replace(edited, "name api", "name edited", 1)
	p := startCaddy(t, directive)
	p.loadH2C("route /json {\n" + edited + "\n}\nroute {\n" + directive + "\n}")
	h2 := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", p.socket)
	}}
	h2.Protocols = new(http.Protocols)
	h2.Protocols.SetUnencryptedHTTP2(true)
	defer h2.CloseIdleConnections()
	for name, transport := range map[string]http.RoundTripper{"HTTP/1": p.client.Transport, "HTTP/2": h2} {
		for what, length := range map[string]int64{"a small body": 100, "an upload": 5000, "an upload of unknown length": -1, "json": -1} {
			t.Run(name+", "+what, func(t *testing.T) {
				body, rest := io.Pipe()
				defer rest.Close()
				go fmt.Fprint(rest, "a")
				path := "/"
				if what == "json" {
					path = "/json"
				}
				r, err := http.NewRequest("POST", "http://api.test"+path, body)
				if err != nil {
					t.Fatal(err)
				}
				r.ContentLength = length
				began := time.Now()
				resp, err := transport.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if took := time.Since(began); resp.StatusCode != 408 || took < deadline || took > deadline+time.Second {
					t.Errorf("got %d after %v", resp.StatusCode, took)
				}
			})
		}
	}
	if status, body := p.get("/"); status != 200 {
		t.Errorf("afterwards got %d %q", status, body)
	}
	for _, name := range []string{"one", "two"} {
		if got := stateOf(t, "api", name).totalsNow(); got.Failures != 0 {
			t.Errorf("endpoint %s has %+v", name, got)
		}
	}
	eventually(t, 2*time.Second, "no memory is taken", func() bool { return bodies.Used() <= before })
}

// TestTheDeadlineOfAnEndpointIsStill504 where the client's body came at once.
func TestTheDeadlineOfAnEndpointIsStill504(t *testing.T) {
	one := newAPI(t, "one")
	defer one.hang()()
	p := startCaddy(t, site("\n\tretry {\n\t\tmethods any\n\t\tdeadline 200ms\n\t}", one))
	for _, size := range []int{0, 10, 5000, 50_000} {
		if got := p.call("POST", "/", strings.Repeat("a", size)); got.status != 504 {
			t.Errorf("%d bytes: got %d", size, got.status)
		}
	}
}

// TestAnEndpointThatLeavesAPausedUploadIsLeft at once: the client need not send first.
// What it sends then goes to the next endpoint, whole, or it has its answer.
func TestAnEndpointThatLeavesAPausedUploadIsLeft(t *testing.T) {
	before := bodies.Used()
	for name, begin := range map[string]func(testing.TB, string) *api{"HTTP/1": newAPI, "HTTP/2": newTLSAPI} {
		for _, retries := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, retries %v", name, retries), func(t *testing.T) {
				one, two := begin(t, "one"), begin(t, "two")
				one.behave(cut)
				if one.tls {
					one.behave(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }) // resets the stream
				}
				options := "\n\ttimeout 10s"
				if retries {
					options += retrying
				}
				directive := site(options, one, two)
				if one.tls {
					directive = strings.ReplaceAll(directive, "endpoint http:", "endpoint https:")
					directive = strings.TrimSuffix(directive, "}") + "\ttransport http {\n\t\ttls_trust_pool file " + one.certificate(t) + " " + two.certificate(t) + "\n\t}\n}"
				}
				p := startCaddy(t, directive)
				body := randomBody(5000)
				conn, reader := p.raw("POST / HTTP/1.1\nHost: api.test\nContent-Length: 5000")
				fmt.Fprint(conn, body[:1000])
				if retries {
					eventually(t, 2*time.Second, "the next endpoint is asked", func() bool { return two.hits.Load() == 1 })
					fmt.Fprint(conn, body[1000:])
					if got := p.rest(reader); got.status != 200 || got.body != "two"+digest(body) {
						t.Errorf("got %+v", got)
					}
				} else {
					began := time.Now()
					if got := p.rest(reader); got.status != 502 {
						t.Errorf("got %+v", got)
					}
					if took := time.Since(began); took > 2*time.Second {
						t.Errorf("the answer took %v", took)
					}
				}
				if got := stateOf(t, "api", "one").totalsNow(); got.Failures != 1 {
					t.Errorf("the endpoint has %+v", got)
				}
				eventually(t, 2*time.Second, "no memory is taken", func() bool { return bodies.Used() <= before })
			})
		}
	}
}
