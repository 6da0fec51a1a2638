package endpoint

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// A Cause says what went wrong, for people. All of it is short, printable, and holds no
// credential.
type Cause struct {
	What         string // a status ("503") or an error in short ("connection refused")
	Method, Path string // of the request, as target.ShownMethod and ShownPath make them; empty: not known
}

// String returns the cause in one line: "503 from POST /v1/chat".
func (c Cause) String() string {
	if c.Method == "" {
		return c.What
	}
	return c.What + " from " + c.Method + " " + c.Path
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
	// causesKept is how many sorts of failures an endpoint tells apart.
	causesKept = 4
	// oftenWithin is how long failures of a closed breaker count as one run, at least; at
	// most it is twice as long.
	oftenWithin = 10 * time.Second
)

// causes are the latest sorts of failures of an endpoint, and how often each came. The
// zero value is empty.
type causes struct {
	list [causesKept]counted
	last int // the latest, if there is any
}

// counted is a sort of failure.
type counted struct {
	Cause
	at    time.Time // the latest
	since time.Time // when n was begun
	n, n0 uint64    // how often since, and in the run before
}

// often is how often it came.
func (c *counted) often() uint64 { return c.n + c.n0 }

// add notes a failure. While the breaker is not closed all count together.
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

// forget begins to count anew.
func (c *causes) forget() { *c = causes{} }

// latest is the latest failure; nil if there is none.
func (c *causes) latest() *counted {
	if one := &c.list[c.last]; one.What != "" {
		return one
	}
	return nil
}

// of is the sort of failure that a cause is one of; nil if it is not known any longer.
func (c *causes) of(cause Cause) *counted {
	for i := range c.list {
		if c.list[i].What == cause.What && cause.What != "" {
			return &c.list[i]
		}
	}
	return nil
}

// blamedOn says what took the endpoint out whose breaker opened for a reason, and how
// often that came; 0: not known.
func (s *State) blamedOn(reason string) (Cause, uint64) {
	switch reason {
	case breaker.ReasonOperator:
		return Cause{}, 0
	case breaker.ReasonCheckFailed:
		return s.checks.cause, uint64(max(0, -s.checks.run))
	case breaker.ReasonSlower, breaker.ReasonSlow, breaker.ReasonUnanswered:
		return s.slowest, 0
	}
	if last := s.failures.latest(); last != nil {
		return last.Cause, last.often()
	}
	return Cause{}, 0
}

// noteFailureLocked notes a failure for people.
func (s *State) noteFailureLocked(o outcome.Outcome, cause Cause, now time.Time) {
	s.lastFailure = o
	s.failures.add(cause, now, s.breaker.State == breaker.Closed)
}

// failureStatus describes a cause; nil if there is none.
func (s *State) failureStatus(cause Cause, reason string, at time.Time, often uint64) *api.FailureStatus {
	if cause.What == "" {
		return nil
	}
	if one := s.failures.of(cause); one != nil {
		at, often = one.at, max(often, one.often())
	}
	return &api.FailureStatus{Outcome: reason, What: cause.What, Method: cause.Method, Path: cause.Path, Count: often, At: at}
}

// LastCause is what the endpoint's calls are kept away for: what opened its breaker, or
// had it ask to be left alone; empty if nothing does.
func (s *State) LastCause(now time.Time) string {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	switch {
	case s.barred:
		return breaker.ReasonOperator
	case s.breaker.State != breaker.Closed && s.cause.What != "":
		return s.cause.String()
	case now.Before(s.holdUntil):
		return s.heldFor.String()
	}
	return ""
}

// An asking is an attempt that has a request to show.
type asking interface {
	// Asked is what the request asks for, as target.ShownMethod and ShownPath show it.
	Asked() (method, path string)
}

// causeOf is what went wrong with an attempt.
func causeOf(f Watched, what string) Cause {
	cause := Cause{What: what}
	if a, ok := f.(asking); ok {
		cause.Method, cause.Path = a.Asked()
	}
	return cause
}

// slowerThan is the cause that a slow attempt is.
func slowerThan(f Watched, limit time.Duration) Cause {
	return causeOf(f, "no answer within "+rounded(limit).String())
}

// rounded is a duration with at most three digits.
func rounded(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}
