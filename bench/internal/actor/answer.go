package actor

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/payload"
	"github.com/apifailover/caddy-failover/bench/internal/websocket"
)

// answer sends a correct response after a delay, or nothing if the client leaves first.
func (a *Actor) answer(w http.ResponseWriter, r *http.Request, body []byte, after time.Duration) {
	select {
	case <-time.After(after):
	case <-r.Context().Done():
		return
	}
	if r.URL.Path == SocketPath {
		a.socket(w, r)
		return
	}
	text := payload.Answer(body)
	w.Header().Set(NameHeader, a.Name)
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.Write(text)
}

// stream sends a correct response in parts.
func (a *Actor) stream(w http.ResponseWriter, r *http.Request, body []byte) {
	w.Header().Set(NameHeader, a.Name)
	w.Header().Set("Content-Type", "text/event-stream")
	for range 10 {
		fmt.Fprint(w, "data: part\n\n")
		http.NewResponseController(w).Flush()
		select {
		case <-time.After(30 * time.Millisecond):
		case <-r.Context().Done():
			return
		}
	}
	w.Write(payload.Answer(body))
}

// socket serves a WebSocket until one side ends it or the actor crashes.
func (a *Actor) socket(w http.ResponseWriter, r *http.Request) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // the server has closed the connection
	}
	defer conn.Close()
	if !a.keep(conn) {
		return
	}
	defer a.forget(conn)
	websocket.Serve(rw, r, http.Header{NameHeader: {a.Name}})
}

// keep registers a WebSocket so that a crash cuts it. It reports whether the actor still
// listens.
func (a *Actor) keep(conn net.Conn) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.server == nil {
		return false
	}
	a.sockets[conn] = true
	return true
}

func (a *Actor) forget(conn net.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.sockets, conn)
}

// fail sends a failure status.
func (a *Actor) fail(w http.ResponseWriter, r *http.Request, status int) {
	if r.URL.Path != CheckPath {
		a.Refused.Add(1)
	}
	w.WriteHeader(status)
	fmt.Fprintf(w, "status %d\n", status)
}
