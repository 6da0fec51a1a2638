package endpoint

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
)

// A Cause says what went wrong, for events, logs and the API. It is short and printable, and
// contains no credential.
type Cause struct {
	What         string // a status ("503") or a short error ("connection refused")
	Method, Path string // of the request, from target.ShownMethod and ShownPath; empty: unknown
	Scope        string // of the call; empty: it had none, or it does not matter
}

// String returns the cause in one line: "503 from POST /v1/chat".
func (c Cause) String() string {
	if c.What == "" {
		return ""
	}
	text := c.What
	if c.Method != "" {
		text += " from " + c.Method + " " + c.Path
	}
	if c.Scope != "" {
		text += ", scope " + c.Scope
	}
	return text
}

// AddTo adds the cause to the details of an event.
func (c Cause) AddTo(details map[string]any) {
	if c.What == "" {
		return
	}
	details["cause"] = c.What
	if c.Method != "" {
		details["method"], details["path"] = c.Method, c.Path
	}
}

const (
	// causesKept is how many kinds of failures an endpoint counts.
	causesKept = 4
	// oftenWithin is the shortest time over which failures of a closed breaker are counted;
	// the longest is twice that.
	oftenWithin = 10 * time.Second
)

// causes count the latest kinds of failures of an endpoint. The zero value is empty.
type causes struct {
	list [causesKept]counted
	last int // index of the latest, if there is any
}

// counted is a kind of failure.
type counted struct {
	Cause
	at    time.Time // of the latest
	since time.Time // when the period of n began
	n, n0 uint64    // failures in this period, and in the one before
}

// often returns how many failures of this kind are counted.
func (c *counted) often() uint64 { return c.n + c.n0 }

// add counts a failure. While the breaker is not closed, no period ends.
func (c *causes) add(cause Cause, now time.Time, closed bool) {
	oldest := 0
	for i := range c.list {
		one := &c.list[i]
		if one.What == cause.What {
			c.last = i
			if age := now.Sub(one.since); closed && (age >= oftenWithin || age < 0) {
				one.n0, one.n, one.since = one.n, 0, now
				if age >= 2*oftenWithin || age < 0 {
					one.n0 = 0
				}
			}
			one.n++
			one.Cause, one.at = cause, now
			return
		}
		if one.at.Before(c.list[oldest].at) {
			oldest = i
		}
	}
	c.list[oldest], c.last = counted{cause, now, now, 1, 0}, oldest
}

// forget drops all counts.
func (c *causes) forget() { *c = causes{} }

// latest returns the kind of the latest failure; nil if there is none.
func (c *causes) latest() *counted {
	if one := &c.list[c.last]; one.What != "" {
		return one
	}
	return nil
}

// of returns the kind of failure of a cause; nil if it is no longer counted.
func (c *causes) of(cause Cause) *counted {
	for i := range c.list {
		if c.list[i].What == cause.What && cause.What != "" {
			return &c.list[i]
		}
	}
	return nil
}

// LastCause returns why calls are kept away: an operator, the cause that opened the breaker,
// or that of the hold; empty if nothing keeps them away.
func (s *State) LastCause(now time.Time) string {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	switch {
	case s.barred:
		return breaker.ReasonOperator
	case s.own.breaker.State != breaker.Closed && s.own.faults.opened.What != "":
		return s.own.faults.opened.String()
	case s.own.hold.on(now):
		return s.own.hold.cause.String()
	}
	for _, c := range s.scopes.list {
		switch {
		case c.breaker.State != breaker.Closed && c.faults.opened.What != "":
			return c.faults.opened.String()
		case c.hold.on(now) && c.hold.cause.What != "":
			return c.hold.cause.String()
		}
	}
	return ""
}

// asking is an attempt whose request can be shown.
type asking interface {
	// Asked returns target.ShownMethod and target.ShownPath of the request.
	Asked() (method, path string)
}

// causeOf returns the cause of an attempt's failure.
func causeOf(f Watched, what string) Cause {
	cause := Cause{What: what}
	if a, ok := f.(asking); ok {
		cause.Method, cause.Path = a.Asked()
	}
	return cause
}

// slowerThan returns the cause for an attempt that took longer than limit.
func slowerThan(f Watched, limit time.Duration) Cause {
	return causeOf(f, "no response within "+rounded(limit).String())
}

// rounded returns a duration with at most three digits.
func rounded(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}
