package actor

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/payload"
)

// A Behaviour answers a request, check or not, whose body has been read.
type Behaviour func(a *Actor, w http.ResponseWriter, r *http.Request, body []byte)

// How long answers take.
const (
	QuickAnswer   = 2 * time.Millisecond
	slowAnswer    = 350 * QuickAnswer
	lastingAnswer = 400 * time.Millisecond
)

// Well gives a good answer, which payload.Answer returns.
func Well(a *Actor, w http.ResponseWriter, r *http.Request, body []byte) {
	switch r.URL.Path {
	case StreamPath:
		a.stream(w, r, body)
	case LastingPath:
		a.answer(w, r, body, lastingAnswer)
	default:
		a.answer(w, r, body, QuickAnswer)
	}
}

// Slow gives a good answer after 700 ms.
func Slow(a *Actor, w http.ResponseWriter, r *http.Request, body []byte) {
	a.answer(w, r, body, slowAnswer)
}

// Hang never answers.
func Hang(_ *Actor, _ http.ResponseWriter, r *http.Request, _ []byte) {
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// Abort cuts the connection instead of answering.
func Abort(*Actor, http.ResponseWriter, *http.Request, []byte) { panic(http.ErrAbortHandler) }

// Unavailable answers 503.
func Unavailable(a *Actor, w http.ResponseWriter, r *http.Request, _ []byte) {
	a.fail(w, r, http.StatusServiceUnavailable)
}

// OnlyCalls plays a fault that checks do not see.
func OnlyCalls(fault Behaviour) Behaviour {
	return func(a *Actor, w http.ResponseWriter, r *http.Request, body []byte) {
		if r.URL.Path == CheckPath {
			Well(a, w, r, body)
			return
		}
		fault(a, w, r, body)
	}
}

// Sometimes answers a part of the requests, 0 to 1, with 500.
func Sometimes(part float64) Behaviour {
	return func(a *Actor, w http.ResponseWriter, r *http.Request, body []byte) {
		if rand.Float64() < part {
			a.fail(w, r, http.StatusInternalServerError)
			return
		}
		Well(a, w, r, body)
	}
}

// FailPOST answers 503 to each POST.
func FailPOST(a *Actor, w http.ResponseWriter, r *http.Request, body []byte) {
	if r.Method == http.MethodPost {
		a.fail(w, r, http.StatusServiceUnavailable)
		return
	}
	Well(a, w, r, body)
}

// Flap cuts connections for a period, is well for a period, and so on.
func Flap(period time.Duration) Behaviour {
	began := time.Now()
	return func(a *Actor, w http.ResponseWriter, r *http.Request, body []byte) {
		if time.Since(began)/period%2 == 0 {
			panic(http.ErrAbortHandler)
		}
		Well(a, w, r, body)
	}
}

// AskToWait answers 429 with a Retry-After.
func AskToWait(seconds int) Behaviour {
	return func(a *Actor, w http.ResponseWriter, r *http.Request, _ []byte) {
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
		a.fail(w, r, http.StatusTooManyRequests)
	}
}

// CutBodies promises a whole answer and sends half of it.
func CutBodies(a *Actor, w http.ResponseWriter, _ *http.Request, body []byte) {
	text := payload.Answer(body)
	w.Header().Set(NameHeader, a.Name)
	w.Header().Set(BreaksHeader, "yes")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.Write(text[:len(text)/2])
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}
