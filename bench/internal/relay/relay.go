// Package relay passes TCP connections on, and can lose them.
package relay

import (
	"net"
	"sync"
	"sync/atomic"
)

// A Relay passes connections on to a server. A connection that it has lost stays open and is
// silent, as behind a firewall that has forgotten it. All methods are safe for concurrent use.
type Relay struct {
	Address string // where it listens

	to       string
	listener net.Listener

	mu     sync.Mutex
	deaf   bool // loses new connections too
	lines  map[*line]bool
	closed bool
}

// A line is a connection and its continuation to the server.
type line struct {
	client, server net.Conn
	lost           atomic.Bool
}

// New starts a relay to a server's address on a free port of loopback. Close ends it.
func New(to string) (*Relay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &Relay{Address: l.Addr().String(), to: to, listener: l, lines: make(map[*line]bool)}
	go r.accept()
	return r, nil
}

// Lose loses all open connections for good. New ones work.
func (r *Relay) Lose() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for l := range r.lines {
		l.lost.Store(true)
	}
}

// Deafen loses all open connections for good, and until Heal also every new one.
func (r *Relay) Deafen() {
	r.mu.Lock()
	r.deaf = true
	r.mu.Unlock()
	r.Lose()
}

// Heal lets new connections work.
func (r *Relay) Heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deaf = false
}

// Close stops listening and cuts all connections.
func (r *Relay) Close() {
	r.listener.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for l := range r.lines {
		l.close()
	}
}

func (r *Relay) accept() {
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			return
		}
		go r.serve(conn)
	}
}

// serve passes a connection on until one side ends it.
func (r *Relay) serve(client net.Conn) {
	server, err := net.Dial("tcp", r.to)
	if err != nil {
		client.Close()
		return
	}
	l := &line{client: client, server: server}
	defer l.close()
	if !r.keep(l) {
		return
	}
	defer r.forget(l)
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		go func() {
			l.pass(way[0], way[1])
			done <- struct{}{}
		}()
	}
	<-done
}

// keep registers a line. It reports false if the relay is closed.
func (r *Relay) keep(l *line) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.lost.Store(r.deaf)
	r.lines[l] = true
	return !r.closed
}

func (r *Relay) forget(l *line) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.lines, l)
}

func (l *line) close() {
	l.client.Close()
	l.server.Close()
}

// pass copies from one side to the other until one of them ends. Once the line is lost it drops
// what it reads, and the end of the server does not reach the client.
func (l *line) pass(from, to net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if !l.lost.Load() {
			if _, failed := to.Write(buffer[:n]); failed != nil {
				return
			}
		}
		switch {
		case err == nil:
		case from == l.server && l.lost.Load():
			from = l.client // the client hears nothing, and goes on
		default:
			return
		}
	}
}
