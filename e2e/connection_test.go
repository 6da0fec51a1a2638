package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// dropping returns an address that answers no SYN: it listens, and its queue is full.
func dropping(t *testing.T) (address string) {
	t.Helper()
	address, err := droppingAt(t, syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// droppingAt is dropping with the address and, unless it is 0, the port.
func droppingAt(t *testing.T, at syscall.SockaddrInet4) (address string, err error) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &at); err != nil {
		return "", err
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address = fmt.Sprintf("%s:%d", net.IP(at.Addr[:]), name.(*syscall.SockaddrInet4).Port)
	for vain := 0; vain < 2; vain++ { // a machine that pauses may let one fail
		conn, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if err == nil {
			t.Cleanup(func() { conn.Close() })
			vain = -1
		}
	}
	return address, nil // the queue is full
}

// deaf reads what comes and sends nothing.
func deaf(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// TestAnyMethodMovesOnUntilThereIsAConnection checks that any request moves on if it got no connection, since
// the endpoint cannot have acted on it.
func TestAnyMethodMovesOnUntilThereIsAConnection(t *testing.T) {
	// egress answers CONNECT, and hangs up where that says nothing of a connection.
	egress := func(answer string) string {
		return "network_proxy url http://" + listening(t, func(conn net.Conn) {
			if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil && r.Method == http.MethodConnect {
				fmt.Fprint(conn, answer)
				if answer == "" || strings.Contains(answer, " 200 ") {
					deaf(conn)
				}
			}
		})
	}
	for name, test := range map[string]struct {
		url, kind, transport string
	}{
		"SYN dropped":             {"http://" + dropping(t), "dial", ""},
		"SYN dropped, dial time":  {"http://" + dropping(t), "dial", "dial_timeout 300ms"},
		"SYN dropped, h2c":        {"http://" + dropping(t), "dial", "versions h2c"},
		"SYN dropped, TLS":        {"https://" + dropping(t), "dial", ""},
		"handshake never ends":    {"https://" + listening(t, deaf), "tls", ""},
		"handshake time":          {"https://" + listening(t, deaf), "tls", "tls_timeout 300ms"},
		"handshake HTTP/1.1":      {"https://" + listening(t, deaf), "tls", "versions 1.1"},
		"closed in handshake":     {"https://" + listening(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)); c.Close() }), "tls", ""},
		"closed at once":          {"https://" + listening(t, func(c net.Conn) { c.Close() }), "tls", ""},
		"QUIC, nobody there":      {"https://" + dropping(t), "dial", "versions 3\n\t\ttls_insecure_skip_verify"},
		"CONNECT refused":         {"https://api.invalid", "dial", egress("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")},
		"CONNECT cut":             {"https://api.invalid", "dial", egress("HTTP/1.1 200")},
		"CONNECT never answered":  {"https://api.invalid", "dial", egress("")},
		"handshake after CONNECT": {"https://api.invalid", "dial", egress("HTTP/1.1 200 OK\r\n\r\n")},
	} {
		apart(t, name, func(t *testing.T) {
			two := newAPI(t, "two")
			p := startCaddy(t, fmt.Sprintf("failover {\n\tname api\n\ttimeout 1s\n\tendpoint %s {\n\t\tname one\n\t}\n\tendpoint http://%s {\n\t\tname two\n\t}\n\ttransport http {\n\t\t%s\n\t}\n}", test.url, two.address, test.transport))
			if strings.HasPrefix(test.transport, "versions h2c") || strings.HasPrefix(test.transport, "versions 3") || strings.HasPrefix(test.transport, "network_proxy") {
				p.call("POST", "/", "a body") // which this transport does not bring to the next endpoint either
				eventually(t, "the call has moved on", func() bool { return p.one("two").Attempts > 0 })
			} else {
				p.call("POST", "/", "a body").want(t, "small", 200, "two"+digest("a body"))
				large := randomBody(100_000)
				for _, body := range bothWays(large) {
					p.callWith("POST", "/", body).want(t, "large", 200, "two"+digest(large))
				}
			}
			if got := p.one("one").lastOutcome(); got != test.kind {
				t.Errorf("the failure is %s", got)
			}
		})
	}
}

// A relay stands in front of an endpoint. After it forgets its connections they carry nothing; it serves new ones.
type relay struct {
	address string
	mu      sync.Mutex
	lost    chan struct{} // closed for the connections of before
	made    atomic.Int64  // connections
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	r := &relay{lost: make(chan struct{})}
	r.address = listening(t, func(in net.Conn) {
		r.made.Add(1)
		r.mu.Lock()
		lost := r.lost
		r.mu.Unlock()
		out, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer out.Close()
		var both sync.WaitGroup
		for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
			both.Go(func() {
				buffer := make([]byte, 32<<10)
				for {
					n, err := way[0].Read(buffer)
					select {
					case <-lost: // and nothing is said of it
						_, _ = io.Copy(io.Discard, way[0])
						return
					default:
					}
					if n > 0 {
						_, _ = way[1].Write(buffer[:n])
					}
					if err != nil {
						_ = way[1].(*net.TCPConn).CloseWrite()
						return
					}
				}
			})
		}
		both.Wait()
	})
	return r
}

func (r *relay) forget() {
	r.mu.Lock()
	close(r.lost)
	r.lost = make(chan struct{})
	r.mu.Unlock()
}

// TestADeadConnectionIsNoDeadEndpoint checks that an endpoint behind a relay that forgot its connection is back as
// soon as there is a new one.
func TestADeadConnectionIsNoDeadEndpoint(t *testing.T) {
	for name, test := range map[string]struct{ scheme, versions, options string }{
		"HTTP/2":               {"https", "1.1 2", ""},
		"HTTP/1.1 with TLS":    {"https", "1.1", ""},
		"HTTP/1.1":             {"http", "1.1", ""},
		"h2c":                  {"http", "h2c", ""},
		"HTTP/2 and checks":    {"https", "1.1 2", "\n\thealth {\n\t\tinterval 300ms\n\t\ttimeout 200ms\n\t}"},
		"HTTP/1.1 and checks":  {"https", "1.1", "\n\thealth {\n\t\tinterval 300ms\n\t\ttimeout 200ms\n\t}"},
		"HTTP/2, set_json etc": {"https", "1.1 2", "\n\tidle_timeout 5s"},
	} {
		apart(t, name, func(t *testing.T) {
			serve := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				fmt.Fprint(w, "one")
			})
			one := httptest.NewUnstartedServer(serve)
			one.EnableHTTP2 = true
			one.Config.ErrorLog = log.New(io.Discard, "", 0)
			transport := "versions " + test.versions
			if test.scheme == "https" {
				one.StartTLS()
				transport += "\n\t\ttls_trust_pool file " + certificateOf(t, one)
			} else {
				one.Config.Protocols = new(http.Protocols)
				one.Config.Protocols.SetHTTP1(true)
				one.Config.Protocols.SetUnencryptedHTTP2(true)
				one.Start()
			}
			defer one.Close()
			front := newRelay(t, one.Listener.Addr().String())
			p := startCaddy(t, fmt.Sprintf("failover {\n\tname api\n\ttimeout 1s\n\tendpoint %s://%s {\n\t\tname one\n\t}%s\n\ttransport http {\n\t\t%s\n\t}\n}",
				test.scheme, front.address, test.options, transport))
			var all sync.WaitGroup
			for range 8 { // connections that will be idle
				all.Go(func() { p.call("POST", "/", "a").want(t, "at first", 200, "one") })
			}
			all.Wait()
			front.forget()
			made := front.made.Load()
			if got := p.call("POST", "/", "a"); got.status != http.StatusGatewayTimeout && test.options == "" {
				t.Errorf("on a dead connection: %+v", got)
			}
			timedOut := time.Now()
			for p.get().status != 200 {
				if time.Since(timedOut) > patience {
					t.Fatal("not back")
				}
			}
			// the second of an attempt at another dead connection, the trial's turn, and room; an attempt at each would take 8 s
			if took := time.Since(timedOut); took > 6*time.Second {
				t.Errorf("back after %v", took)
			}
			p.gets(20)
			if got := front.made.Load() - made; got < 1 || got > 12 {
				t.Errorf("%d connections were made", got)
			}
		})
	}
}

// TestChecksLeaveADeadConnection checks that checks stop using a dead connection, without calls that notice it.
func TestChecksLeaveADeadConnection(t *testing.T) {
	one := newTLSAPI(t, "one")
	front := newRelay(t, one.address)
	p := startCaddy(t, fmt.Sprintf("failover {\n\tname api\n\tendpoint https://%s {\n\t\tname one\n\t}\n\thealth {\n\t\tinterval 200ms\n\t\ttimeout 200ms\n\t}\n\ttransport http {\n\t\ttls_insecure_skip_verify\n\t}\n}", front.address))
	eventually(t, "a check has passed", func() bool { c := p.one("one").Check; return c != nil && c.LastResult == "passed" })
	for range 3 {
		made := front.made.Load()
		front.forget()
		eventually(t, "another connection was made", func() bool { return front.made.Load() > made })
		eventually(t, "checks pass again", func() bool { return p.one("one").Check.LastResult == "passed" })
	}
}

// TestAConnectionThatIsLeftCarriesOn checks that other requests on a connection lose nothing after one times out.
func TestAConnectionThatIsLeftCarriesOn(t *testing.T) {
	one := newTLSAPI(t, "one")
	goOn := make(chan struct{})
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hangs":
			silent(w, r)
		case "/slow":
			<-goOn
			fmt.Fprint(w, "slow")
		default:
			fmt.Fprint(w, "a")
			flush(w)
			<-goOn
			fmt.Fprint(w, "b")
		}
	})
	p := startCaddy(t, site("timeout 30s\n\ttimeout /hangs 300ms\n\tbreaker off\n\ttransport http {\n\t\ttls_insecure_skip_verify\n\t}", one))
	stream, err := p.do("GET", "/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	slow := p.waiting("POST", "/slow")
	eventually(t, "the slow request is there", func() bool { return one.hits.Load() == 2 })
	for i := range 3 {
		if got := p.call("GET", "/hangs", ""); got.status != http.StatusGatewayTimeout {
			t.Errorf("request %d that hangs: %+v", i, got)
		}
	}
	close(goOn)
	if body, err := io.ReadAll(stream.Body); string(body) != "ab" || err != nil {
		t.Errorf("the stream ended as %q, %v", body, err)
	}
	if got := receive(t, "the slow answer", slow); got != "200 slow" {
		t.Errorf("the slow request got %s", got)
	}
}

// TestRequestsOfADeadConnectionAreOneFailure has many requests in flight on one HTTP/2 connection that dies. That is
// one failure of the endpoint, unless the next connection dies as well.
func TestRequestsOfADeadConnectionAreOneFailure(t *testing.T) {
	const many = 12
	one := newTLSAPI(t, "one")
	forgets := newRelay(t, one.address)
	var conns sync.Map
	cuts := listening(t, func(in net.Conn) {
		out, err := net.Dial("tcp", one.address)
		if err != nil {
			return
		}
		conns.Store(in, out)
		go func() { _, _ = io.Copy(in, out) }()
		_, _ = io.Copy(out, in)
	})
	cut := func() {
		conns.Range(func(in, out any) bool {
			_ = in.(net.Conn).Close()
			_ = out.(net.Conn).Close()
			conns.Delete(in)
			return true
		})
	}
	for name, test := range map[string]struct {
		address, path string
		dies          func()
	}{
		"forgotten":             {forgets.address, "/silent", forgets.forget},
		"closed":                {cuts, "/silent", cut},
		"closed in a response":  {cuts, "/begun", cut},
		"closed, retries":       {cuts, "/silent", cut},
		"forgotten, and others": {forgets.address, "/silent", forgets.forget},
	} {
		t.Run(name, func(t *testing.T) {
			retries := "off"
			if strings.HasSuffix(name, "retries") {
				retries = "{\n\t\tmethods any\n\t}"
			}
			one.behave(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/silent":
					silent(w, r)
				case "/begun":
					fmt.Fprint(w, "a")
					flush(w)
					silent(w, r)
				default:
					fmt.Fprint(w, "one")
				}
			})
			p := startCaddy(t, fmt.Sprintf("failover {\n\tname api\n\ttimeout 1s\n\tretry %s\n\tendpoint https://%s {\n\t\tname one\n\t}\n\ttransport http {\n\t\ttls_insecure_skip_verify\n\t}\n}", retries, test.address))
			p.gets(3)
			for range 2 {
				before := one.hits.Load()
				var waiting []<-chan string
				for range many {
					waiting = append(waiting, p.waiting("POST", test.path))
				}
				eventually(t, "all are there", func() bool { return one.hits.Load() == before+many })
				if strings.HasSuffix(name, "others") {
					p.gets(3)
				}
				test.dies()
				for _, w := range waiting {
					<-w
				}
				if e := p.one("one"); e.State != "closed" {
					t.Fatalf("the endpoint is %+v", e)
				}
				p.gets(3)
			}
			if e := p.one("one"); e.State != "closed" || e.Failures < many {
				t.Errorf("the endpoint is %+v", e)
			}
			for range 2 { // two connections in a row
				before := one.hits.Load()
				var waiting []<-chan string
				for range many {
					waiting = append(waiting, p.waiting("POST", test.path))
				}
				eventually(t, "all are there", func() bool { return one.hits.Load() == before+many })
				test.dies()
				for _, w := range waiting {
					<-w
				}
			}
			eventually(t, "the endpoint is out", func() bool { return p.one("one").State == "open" })
		})
	}
}

// TestForgottenIdleConnections has an endpoint forget its idle connections, as one does that restarts. Requests that
// are not sent again must find that out once for all of them, and the endpoint must stay in service. An endpoint that ends
// its connections at requests has not forgotten them: each of these failures counts.
func TestForgottenIdleConnections(t *testing.T) {
	const many = 10
	start := func(t *testing.T, fails bool) (p *proxy, forget func()) {
		var age, there atomic.Int64
		all := make(chan struct{})
		address := listening(t, func(conn net.Conn) {
			made := age.Load()
			for r := bufio.NewReader(conn); ; {
				if _, err := http.ReadRequest(r); err != nil {
					return
				}
				if fails && age.Load() > 0 {
					return
				}
				if made != age.Load() {
					_ = conn.(*net.TCPConn).SetLinger(0) // answers by a reset
					return
				}
				if made == 0 {
					if there.Add(1) == many {
						close(all)
					}
					<-all
				}
				fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none")
			}
		})
		p = startCaddy(t, site("", &api{name: "one", address: address}))
		if lost := p.lost(many, func() bool { return p.get().status == 200 }); lost != 0 {
			t.Fatalf("%d lost at first", lost)
		}
		return p, func() { age.Add(1) }
	}
	t.Run("one by one", func(t *testing.T) {
		p, forget := start(t, false)
		forget()
		lost := 0
		for range 5 {
			if p.call("POST", "/", "").status != 200 {
				lost++
			}
		}
		if lost > 1 {
			t.Errorf("%d of 5 lost", lost)
		}
		p.wantTotals("one", totals{Attempts: many + 5, Successes: uint64(many + 5 - lost), Failures: uint64(lost)})
	})
	t.Run("at once", func(t *testing.T) {
		p, forget := start(t, false)
		forget()
		p.lost(many, func() bool { return p.call("POST", "/", "").status == 200 })
		p.wantState("one", "closed")
		p.call("POST", "/", "").want(t, "afterwards", 200, "one")
	})
	t.Run("ended at requests", func(t *testing.T) {
		p, fail := start(t, true)
		fail()
		if lost := p.lost(many, func() bool { return p.call("POST", "/", "").status == 200 }); lost != many {
			t.Errorf("%d of %d lost", lost, many)
		}
		p.wantState("one", "open")
	})
}

// TestAConnectionThatClientsLeaveIsLeft has clients leave responses on a dead HTTP/2 connection, whose bodies do not
// come. The next requests must get another connection long before their timeout.
func TestAConnectionThatClientsLeaveIsLeft(t *testing.T) {
	const many = 20
	one := newTLSAPI(t, "one")
	front := newRelay(t, one.address)
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "one")
		if r.URL.Path == "/stream" {
			flush(w)
			silent(w, r)
		}
	})
	p := startCaddy(t, fmt.Sprintf("failover {\n\tname api\n\ttimeout 1h\n\tendpoint https://%s {\n\t\tname one\n\t}\n\ttransport http {\n\t\ttls_insecure_skip_verify\n\t}\n}", front.address))
	var leave []context.CancelFunc
	var left []<-chan error
	for range many {
		l, done := p.leaving("GET", "/stream")
		leave, left = append(leave, l), append(left, done)
	}
	eventually(t, "all are there", func() bool { return one.hits.Load() == many })
	front.forget()
	answered := false
	for i := 0; i < many && !answered; i++ { // the connection has to be silent for a while
		leave[i]()
		receive(t, "a client leaves", left[i])
		answered = p.asks(p.client, "GET", "/", 500*time.Millisecond)
	}
	if !answered {
		t.Error("requests go on using the dead connection")
	}
	for _, l := range leave {
		l()
	}
}

// TestADeadAddressOfAName has a name with two addresses, the first of which answers no SYN. The other one must serve,
// although the timeout is shorter than what a system's dial spends on the first.
func TestADeadAddressOfAName(t *testing.T) {
	var one *api
	for dead, err := "", error(nil); dead == "" || err != nil; {
		one = newAPI(t, "one")
		port := one.server.Listener.Addr().(*net.TCPAddr).Port
		if dead, err = droppingAt(t, syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 2}, Port: port}); err != nil && !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
	ns := newNameServer(t)
	ns.set("a.test. A", "127.0.0.2", "127.0.0.1")
	_, port, _ := net.SplitHostPort(one.address)
	p := startCaddy(t, fmt.Sprintf("failover {\n\tname api\n\ttimeout 1900ms\n\tendpoint http://a.test:%s {\n\t\tname one\n\t}\n\ttransport http {\n\t\tresolvers %s\n\t\tkeepalive off\n\t}\n}", port, ns.address))
	eventually(t, "a request is served", func() bool { return p.call("POST", "/", "x").status == 200 })
}
