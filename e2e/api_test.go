package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// An api is an endpoint that records its requests. Tests can take it down and make it misbehave.
type api struct {
	name    string
	address string
	tls     bool
	hits    atomic.Int64
	handler atomic.Pointer[http.HandlerFunc]

	mu     sync.Mutex
	server *httptest.Server
	seen   []*http.Request // what came in, without bodies
}

// newAPI starts an endpoint that answers with its name. It speaks HTTP/1.1 and h2c.
func newAPI(t testing.TB, name string) *api {
	t.Helper()
	return startAPI(t, &api{name: name})
}

// newAPIs starts an endpoint for each name.
func newAPIs(t testing.TB, names ...string) (apis []*api) {
	t.Helper()
	for _, name := range names {
		apis = append(apis, newAPI(t, name))
	}
	return apis
}

// newTLSAPI is newAPI for an endpoint that speaks HTTP/2 and 1.1 over TLS. Its certificate is good for
// 127.0.0.1 and example.com.
func newTLSAPI(t testing.TB, name string) *api {
	t.Helper()
	return startAPI(t, &api{name: name, tls: true})
}

func startAPI(t testing.TB, a *api) *api {
	t.Helper()
	a.behave(a.fine)
	a.up(t, keepPort(t))
	t.Cleanup(a.down)
	return a
}

// keepPort returns an address with a free port that stays the test's until its end: it can be listened on and left,
// again and again, and no other process gets it meanwhile. Connections are refused while nobody listens.
func keepPort(t testing.TB) (address string) {
	t.Helper()
	address, err := keepPortAt(t, netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// keepPortAt is keepPort for an address and, unless it is 0, a port.
func keepPortAt(t testing.TB, at netip.AddrPort) (address string, err error) {
	t.Helper()
	// A bound socket that does not listen keeps the port. SO_REUSEADDR, which net.Listen sets as well, lets another one listen.
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return "", err
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}); err != nil {
		return "", err
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return "", err
	}
	return netip.AddrPortFrom(at.Addr(), uint16(name.(*syscall.SockaddrInet4).Port)).String(), nil
}

// certificate writes the endpoint's certificate into a file.
func (a *api) certificate(t testing.TB) (file string) {
	t.Helper()
	return certificateOf(t, a.server)
}

func certificateOf(t testing.TB, server *httptest.Server) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "certificate.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// requests returns the heads of all requests so far.
func (a *api) requests() []*http.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.seen)
}

// last returns the head of the latest request.
func (a *api) last(t testing.TB) *http.Request {
	t.Helper()
	seen := a.requests()
	if len(seen) == 0 {
		t.Fatalf("endpoint %s got no request", a.name)
	}
	return seen[len(seen)-1]
}

// up makes the endpoint listen at an address, which keepPort has returned.
func (a *api) up(t testing.TB, address string) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatalf("listening: %v", err)
	}
	a.on(listener)
}

// on makes the endpoint serve a listener.
func (a *api) on(listener net.Listener) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.address = listener.Addr().String()
	a.server = httptest.NewUnstartedServer(http.HandlerFunc(a.serve))
	a.server.Listener.Close()
	a.server.Listener = listener
	a.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	if a.tls {
		a.server.EnableHTTP2 = true
		a.server.StartTLS()
		return
	}
	a.server.Config.Protocols = new(http.Protocols)
	a.server.Config.Protocols.SetHTTP1(true)
	a.server.Config.Protocols.SetUnencryptedHTTP2(true)
	a.server.Start()
}

func (a *api) serve(w http.ResponseWriter, r *http.Request) {
	a.hits.Add(1)
	a.mu.Lock()
	if len(a.seen) < 10_000 {
		a.seen = append(a.seen, r.Clone(context.WithoutCancel(r.Context())))
	}
	a.mu.Unlock()
	(*a.handler.Load())(w, r)
}

// down closes the listener and cuts all connections.
func (a *api) down() {
	a.mu.Lock()
	server := a.server
	a.server = nil
	a.mu.Unlock()
	if server != nil { // it waits for requests, which note that they have come
		server.Listener.Close()
		server.CloseClientConnections()
		server.Close()
	}
}

func (a *api) behave(h http.HandlerFunc) { a.handler.Store(&h) }

// fine answers with the endpoint's name and the digest of the body.
func (a *api) fine(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	fmt.Fprint(w, a.name, digest(string(body)))
}

// digest returns what a good endpoint answers about a body.
func digest(body string) string {
	if body == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(body))
	return fmt.Sprintf(" %x", sum[:4])
}

// answer makes the endpoint answer with a status.
func (a *api) answer(status int, header ...string) {
	a.behave(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, "%s says %d", a.name, status)
	})
}

// hang makes the endpoint accept requests and not answer; the returned function releases them.
func (a *api) hang() (release func()) {
	stop := make(chan struct{})
	a.behave(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-stop:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	})
	return sync.OnceFunc(func() { close(stop) })
}

// echo switches to a protocol in which the endpoint sends a greeting and then returns what it gets.
func (a *api) echo(w http.ResponseWriter, r *http.Request) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\nhello from %s\n", r.Header.Get("Upgrade"), a.name)
	rw.Flush()
	_, _ = io.Copy(conn, rw)
}

// cut drops the connection before the answer.
func cut(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil { // HTTP/2
		panic(http.ErrAbortHandler)
	}
	conn.Close()
}

// silent accepts a request and never answers.
func silent(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// named answers 200 with a text.
func named(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }
}

// status answers with a status alone.
func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// delayed reads the body and waits before it does something.
func delayed(wait time.Duration, then http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if pause(r.Context(), wait) {
			then(w, r)
		}
	}
}

// flush sends what was written.
func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }

// listening serves the connections to a free port, each until serve returns.
func listening(t testing.TB, serve func(net.Conn)) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return listener.Addr().String()
}
