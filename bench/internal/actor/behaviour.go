package actor

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/payload"
)

// A Behaviour responds to a request, which may be a check. Its body has been read.
type Behaviour func(a *Actor, w http.ResponseWriter, r *http.Request, body []byte)

// Durations of responses.
const (
	QuickAnswer   = 2 * time.Millisecond
	slowAnswer    = 350 * QuickAnswer
	lastingAnswer = 1500 * time.Millisecond
)

// Well sends a correct response, made by payload.Answer.
func Well(a *Actor, w http.ResponseWriter, r *http.Request, body []byte) {
	switch r.URL.Path {
	case StreamPath:
		a.stream(w, r, body)
	case LastingPath:
		a.answer(w, r, body, lastingAnswer)
	case DeadlyPath:
		a.fail(w, r, http.StatusInternalServerError)
	default:
		a.answer(w, r, body, QuickAnswer)
	}
}

// Slow sends a correct response after 700 ms, at LastingPath as late as Well does.
func Slow(a *Actor, w http.ResponseWriter, r *http.Request, body []byte) {
	if r.URL.Path == LastingPath {
		a.answer(w, r, body, lastingAnswer)
		return
	}
	a.answer(w, r, body, slowAnswer)
}

// Hang never responds.
func Hang(_ *Actor, _ http.ResponseWriter, r *http.Request, _ []byte) {
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// Abort cuts the connection instead of responding.
func Abort(*Actor, http.ResponseWriter, *http.Request, []byte) { panic(http.ErrAbortHandler) }

// Unavailable responds with 503.
func Unavailable(a *Actor, w http.ResponseWriter, r *http.Request, _ []byte) {
	a.fail(w, r, http.StatusServiceUnavailable)
}

// OnlyCalls applies a fault to calls, not to checks.
func OnlyCalls(fault Behaviour) Behaviour {
	return func(a *Actor, w http.ResponseWriter, r *http.Request, body []byte) {
		if r.URL.Path == CheckPath {
			Well(a, w, r, body)
			return
		}
		fault(a, w, r, body)
	}
}

// OnlyModel applies a fault to requests that name the model in ModelHeader.
func OnlyModel(model string, fault Behaviour) Behaviour {
	return func(a *Actor, w http.ResponseWriter, r *http.Request, body []byte) {
		if r.Header.Get(ModelHeader) != model {
			Well(a, w, r, body)
			return
		}
		fault(a, w, r, body)
	}
}

// UseUp responds as Well does, and states that its quota is used up for so many seconds.
func UseUp(seconds int) Behaviour {
	return func(a *Actor, w http.ResponseWriter, r *http.Request, body []byte) {
		w.Header().Set("X-RateLimit-Remaining", "0")
		w.Header().Set("X-RateLimit-Reset", strconv.Itoa(seconds))
		Well(a, w, r, body)
	}
}

// Sometimes responds with 500 to a part of the requests, 0 to 1.
func Sometimes(part float64) Behaviour {
	return func(a *Actor, w http.ResponseWriter, r *http.Request, body []byte) {
		if rand.Float64() < part {
			a.fail(w, r, http.StatusInternalServerError)
			return
		}
		Well(a, w, r, body)
	}
}

// FailPOST responds with 503 to every POST.
func FailPOST(a *Actor, w http.ResponseWriter, r *http.Request, body []byte) {
	if r.Method == http.MethodPost {
		a.fail(w, r, http.StatusServiceUnavailable)
		return
	}
	Well(a, w, r, body)
}

// FailModel responds with 503 and a JSON error to every request whose JSON body names the model.
func FailModel(model string) Behaviour {
	return func(a *Actor, w http.ResponseWriter, r *http.Request, body []byte) {
		var asked struct {
			Model string `json:"model"`
		}
		if json.Unmarshal(body, &asked) == nil && asked.Model == model {
			Says(http.StatusServiceUnavailable, "model_overloaded")(a, w, r, body)
			return
		}
		Well(a, w, r, body)
	}
}

// Flap alternates: it cuts connections for one period and is healthy for the next.
func Flap(period time.Duration) Behaviour {
	began := time.Now()
	return func(a *Actor, w http.ResponseWriter, r *http.Request, body []byte) {
		if time.Since(began)/period%2 == 0 {
			panic(http.ErrAbortHandler)
		}
		Well(a, w, r, body)
	}
}

// AskToWait responds with 429 and Retry-After.
func AskToWait(seconds int) Behaviour {
	return func(a *Actor, w http.ResponseWriter, r *http.Request, _ []byte) {
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
		a.fail(w, r, http.StatusTooManyRequests)
	}
}

// CutBodies announces a whole response and sends half of it.
func CutBodies(a *Actor, w http.ResponseWriter, _ *http.Request, body []byte) {
	text := payload.Answer(body)
	w.Header().Set(NameHeader, a.Name)
	w.Header().Set(BreaksHeader, "yes")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.Write(text[:len(text)/2])
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// StallBodies announces a whole response, sends half of it, and nothing more.
func StallBodies(a *Actor, w http.ResponseWriter, r *http.Request, body []byte) {
	text := payload.Answer(body)
	w.Header().Set(NameHeader, a.Name)
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.Write(text[:len(text)/2])
	http.NewResponseController(w).Flush()
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// Says responds with a status and a JSON error of this code, as providers of models do.
func Says(status int, code string) Behaviour {
	return func(a *Actor, w http.ResponseWriter, r *http.Request, _ []byte) {
		a.Refused.Add(1)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"error":{"message":"request failed","code":%q}}`, code)
	}
}

// After delays a behaviour.
func After(delay time.Duration, b Behaviour) Behaviour {
	return func(a *Actor, w http.ResponseWriter, r *http.Request, body []byte) {
		select {
		case <-time.After(delay):
			b(a, w, r, body)
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
}

// LoseConnections never responds on connections that were open when it was called, as behind a
// firewall that has forgotten them. On new ones it is healthy.
func LoseConnections() Behaviour {
	began := time.Now()
	return func(a *Actor, w http.ResponseWriter, r *http.Request, body []byte) {
		if opened, ok := r.Context().Value(openedKey{}).(time.Time); ok && opened.Before(began) {
			Hang(a, w, r, body)
		}
		Well(a, w, r, body)
	}
}
