package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	checkPath     = "/health"
	endpointName  = "X-Endpoint" // of the endpoint that answered
	willBreak     = "X-Breaks"   // in answers that their endpoint breaks off
	quickAnswer   = 2 * time.Millisecond
	slowAnswer    = 350 * quickAnswer
	lastingAnswer = 400 * time.Millisecond
	answerSize    = 1 << 10
)

// An actor is an endpoint that plays a fault. A good answer takes quickAnswer
// and ends with a digest of the request's body.
type actor struct {
	name    string
	address string

	attempts atomic.Int64 // requests but checks
	refused  atomic.Int64 // of these, answered with a failure status
	checks   atomic.Int64
	plays    atomic.Pointer[behaviour]

	mu       sync.Mutex
	listener net.Listener
	server   *http.Server
	sockets  map[net.Conn]bool // WebSockets, which are no longer the server's
	crashed  time.Time         // last
}

// A behaviour answers a request, check or not.
type behaviour func(a *actor, w http.ResponseWriter, r *http.Request, body []byte)

func newActor(name string) (*actor, error) {
	a := &actor{name: name, address: "127.0.0.1:0"}
	a.play(well)
	return a, a.up()
}

func (a *actor) play(b behaviour) { a.plays.Store(&b) }

// up makes the actor listen, at the address it had before if it had one.
func (a *actor) up() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.server != nil {
		return nil
	}
	listener, err := net.Listen("tcp", a.address)
	if err != nil {
		return fmt.Errorf("endpoint %s: %w", a.name, err)
	}
	a.address = listener.Addr().String()
	a.listener, a.server = listener, &http.Server{Handler: a}
	go a.server.Serve(listener)
	return nil
}

// crash refuses connections and cuts those there are.
func (a *actor) crash() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.server != nil {
		a.crashed = time.Now()
		a.listener.Close()
		a.server.Close()
		a.server = nil
		for conn := range a.sockets {
			conn.Close()
		}
	}
}

// crashedSince tells whether the actor has crashed at a time or after it.
func (a *actor) crashedSince(at time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.crashed.Before(at)
}

// ServeHTTP implements http.Handler.
func (a *actor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == checkPath {
		a.checks.Add(1)
	} else {
		a.attempts.Add(1)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	(*a.plays.Load())(a, w, r, body)
}

// whole is what the client must get for a body.
func whole(body []byte) []byte {
	sum := sha256.Sum256(body)
	return fmt.Appendf(nil, "%s%x", filler[:answerSize-2*len(sum)], sum)
}

func (a *actor) answer(w http.ResponseWriter, r *http.Request, body []byte, after time.Duration) {
	select {
	case <-time.After(after):
	case <-r.Context().Done():
		return
	}
	if r.URL.Path == socketPath {
		a.socket(w, r)
		return
	}
	text := whole(body)
	w.Header().Set(endpointName, a.name)
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.Write(text)
}

func (a *actor) fails(w http.ResponseWriter, r *http.Request, status int) {
	if r.URL.Path != checkPath {
		a.refused.Add(1)
	}
	w.WriteHeader(status)
	fmt.Fprintf(w, "status %d\n", status)
}

// The behaviours that the faults are made of.

func well(a *actor, w http.ResponseWriter, r *http.Request, body []byte) {
	switch r.URL.Path {
	case "/stream":
		a.stream(w, r, body)
	case "/lasting":
		a.answer(w, r, body, lastingAnswer)
	default:
		a.answer(w, r, body, quickAnswer)
	}
}

// stream answers in parts.
func (a *actor) stream(w http.ResponseWriter, r *http.Request, body []byte) {
	w.Header().Set(endpointName, a.name)
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
	w.Write(whole(body))
}

func slow(a *actor, w http.ResponseWriter, r *http.Request, body []byte) {
	a.answer(w, r, body, slowAnswer)
}

// hang takes a request and never answers it.
func hang(_ *actor, _ http.ResponseWriter, r *http.Request, _ []byte) {
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

func unavailable(a *actor, w http.ResponseWriter, r *http.Request, _ []byte) {
	a.fails(w, r, http.StatusServiceUnavailable)
}

// onlyCalls plays a fault that checks do not see.
func onlyCalls(b behaviour) behaviour {
	return func(a *actor, w http.ResponseWriter, r *http.Request, body []byte) {
		if r.URL.Path == checkPath {
			well(a, w, r, body)
			return
		}
		b(a, w, r, body)
	}
}

// sometimes fails a part of the calls.
func sometimes(part float64) behaviour {
	return func(a *actor, w http.ResponseWriter, r *http.Request, body []byte) {
		if rand.Float64() < part {
			a.fails(w, r, http.StatusInternalServerError)
			return
		}
		well(a, w, r, body)
	}
}

func failsPOST(a *actor, w http.ResponseWriter, r *http.Request, body []byte) {
	if r.Method == http.MethodPost {
		a.fails(w, r, http.StatusServiceUnavailable)
		return
	}
	well(a, w, r, body)
}

// flaps is down and up in turns of a period.
func flaps(period time.Duration) behaviour {
	began := time.Now()
	return func(a *actor, w http.ResponseWriter, r *http.Request, body []byte) {
		if time.Since(began)/period%2 == 0 {
			panic(http.ErrAbortHandler)
		}
		well(a, w, r, body)
	}
}

// asksToWait answers 429 with a Retry-After.
func asksToWait(seconds int) behaviour {
	return func(a *actor, w http.ResponseWriter, r *http.Request, _ []byte) {
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
		a.fails(w, r, http.StatusTooManyRequests)
	}
}

// cutsBodies promises a whole answer and sends half of it.
func cutsBodies(a *actor, w http.ResponseWriter, _ *http.Request, body []byte) {
	text := whole(body)
	w.Header().Set(endpointName, a.name)
	w.Header().Set(willBreak, "yes")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	io.Copy(w, bytes.NewReader(text[:len(text)/2]))
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// cold has a capacity in calls a second that grows from least by growth a
// second to most, and answers 503 to what is above it. Checks always pass.
func cold(least, growth, most float64) behaviour {
	var mu sync.Mutex
	began := time.Now()
	tokens, last := 1.0, began
	return func(a *actor, w http.ResponseWriter, r *http.Request, body []byte) {
		if r.URL.Path == checkPath {
			well(a, w, r, body)
			return
		}
		mu.Lock()
		now := time.Now()
		capacity := min(most, least+growth*now.Sub(began).Seconds())
		tokens = min(capacity/4, tokens+capacity*now.Sub(last).Seconds())
		last = now
		ok := tokens >= 1
		if ok {
			tokens--
		}
		mu.Unlock()
		if !ok {
			a.fails(w, r, http.StatusServiceUnavailable)
			return
		}
		well(a, w, r, body)
	}
}
