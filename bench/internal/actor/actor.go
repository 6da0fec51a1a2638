// Package actor runs endpoints that simulate faults.
package actor

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/certificate"
)

// Paths and what a healthy actor responds to each.
const (
	CheckPath   = "/health"  // path of health checks
	CallPath    = "/call"    // a response within QuickAnswer
	LastingPath = "/lasting" // a response after 1.5 s
	StreamPath  = "/stream"  // an event stream of 300 ms
	SocketPath  = "/socket"  // a WebSocket
	DeadlyPath  = "/deadly"  // status 500
)

// Header fields of responses.
const (
	NameHeader   = "X-Endpoint" // name of the actor
	BreaksHeader = "X-Breaks"   // set if the actor breaks off the response
)

// ModelHeader is the header field in which a request may name a model.
const ModelHeader = "X-Model"

// An Actor is an endpoint with a behaviour. All methods are safe for concurrent use.
type Actor struct {
	Name    string
	Address string // stays the same after a crash

	Attempts atomic.Int64 // requests other than checks
	Refused  atomic.Int64 // attempts that got a failure status
	Checks   atomic.Int64

	secure *tls.Config // nil: without TLS
	plays  atomic.Pointer[Behaviour]

	mu       sync.Mutex
	listener net.Listener
	server   *http.Server      // nil while crashed
	sockets  map[net.Conn]bool // WebSockets, which the server does not track
	crashed  time.Time         // time of the latest crash
}

// openedKey is the key of a request's context under which the time stands when its connection
// was opened.
type openedKey struct{}

// New starts a healthy actor on a free port of loopback. Crash ends it.
func New(name string) (*Actor, error) {
	a := &Actor{Name: name, Address: "127.0.0.1:0", sockets: make(map[net.Conn]bool)}
	a.Play(Well)
	return a, a.listen()
}

// NewSecure is New for an actor that speaks HTTP/2 and HTTP/1.1 over TLS, with a certificate that
// no client trusts.
func NewSecure(name string) (*Actor, error) {
	pair, err := certificate.New()
	if err != nil {
		return nil, fmt.Errorf("making a certificate: %w", err)
	}
	own, err := pair.TLS()
	if err != nil {
		return nil, fmt.Errorf("reading a certificate: %w", err)
	}
	a := &Actor{Name: name, Address: "127.0.0.1:0", sockets: make(map[net.Conn]bool)}
	a.secure = &tls.Config{Certificates: []tls.Certificate{own}}
	a.Play(Well)
	return a, a.listen()
}

// Play sets the actor's behaviour for later requests.
func (a *Actor) Play(b Behaviour) { a.plays.Store(&b) }

// Heal makes the actor healthy. It listens again if it had crashed.
func (a *Actor) Heal() error {
	a.Play(Well)
	return a.listen()
}

// listen makes the actor listen unless it already does.
func (a *Actor) listen() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.server != nil {
		return nil
	}
	listener, err := net.Listen("tcp", a.Address)
	if err != nil {
		return fmt.Errorf("starting endpoint %s: %w", a.Name, err)
	}
	a.Address = listener.Addr().String()
	quiet := log.New(io.Discard, "", 0) // clients that leave are part of the play
	a.listener, a.server = listener, &http.Server{Handler: a, TLSConfig: a.secure.Clone(), ErrorLog: quiet, ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, openedKey{}, time.Now())
	}}
	if a.secure != nil {
		go a.server.ServeTLS(listener, "", "")
		return nil
	}
	go a.server.Serve(listener)
	return nil
}

// Crash cuts all connections and refuses new ones.
func (a *Actor) Crash() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.server == nil {
		return
	}
	a.crashed = time.Now()
	a.listener.Close() // the server does not know the listener before Serve starts
	a.server.Close()
	a.server = nil
	for conn := range a.sockets {
		conn.Close()
	}
}

// CrashedSince reports whether the actor crashed at or after the given time.
func (a *Actor) CrashedSince(at time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.crashed.Before(at)
}

// ServeHTTP implements http.Handler.
func (a *Actor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == CheckPath {
		a.Checks.Add(1)
	} else {
		a.Attempts.Add(1)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	(*a.plays.Load())(a, w, r, body)
}
