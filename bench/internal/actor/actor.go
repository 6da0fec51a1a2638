// Package actor runs endpoints that play faults.
package actor

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// What an actor answers at each path while it is well.
const (
	CheckPath   = "/health"  // the path that proxies check
	CallPath    = "/call"    // an answer within QuickAnswer
	LastingPath = "/lasting" // an answer that takes 400 ms
	StreamPath  = "/stream"  // an event stream of 300 ms
	SocketPath  = "/socket"  // a WebSocket
)

// Header fields of answers.
const (
	NameHeader   = "X-Endpoint" // the name of the actor that answered
	BreaksHeader = "X-Breaks"   // set if the actor breaks the answer off
)

// An Actor is an endpoint that plays a behaviour. Its methods may be called at
// any time, from any goroutine.
type Actor struct {
	Name    string
	Address string // stays the same over crashes

	Attempts atomic.Int64 // requests other than checks
	Refused  atomic.Int64 // attempts answered with a failure status
	Checks   atomic.Int64

	plays atomic.Pointer[Behaviour]

	mu       sync.Mutex
	listener net.Listener
	server   *http.Server      // nil while crashed
	sockets  map[net.Conn]bool // WebSockets, which the server no longer knows
	crashed  time.Time         // when it crashed last
}

// New starts an actor that is well, on a free port of loopback. Crash ends it.
func New(name string) (*Actor, error) {
	a := &Actor{Name: name, Address: "127.0.0.1:0", sockets: make(map[net.Conn]bool)}
	a.Play(Well)
	return a, a.up()
}

// Play replaces the actor's behaviour, for requests from now on.
func (a *Actor) Play(b Behaviour) { a.plays.Store(&b) }

// Heal makes the actor well, and listen again if it has crashed.
func (a *Actor) Heal() error {
	a.Play(Well)
	return a.up()
}

// up makes the actor listen, unless it does.
func (a *Actor) up() error {
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
	a.listener, a.server = listener, &http.Server{Handler: a}
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
	a.listener.Close() // the server does not know it before Serve has begun
	a.server.Close()
	a.server = nil
	for conn := range a.sockets {
		conn.Close()
	}
}

// CrashedSince reports whether the actor has crashed at a time or after it.
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
