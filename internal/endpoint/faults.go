package endpoint

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// faults are the latest failures and the cause of the breaker's opening. The zero value has none.
type faults struct {
	last    outcome.Outcome // the latest failure; Pending: none
	kinds   causes          // of failures, since the breaker was closed last
	slowest Cause           // the latest slow attempt

	opened   Cause // what opened the breaker; empty while it is closed
	openedAt time.Time
	openedBy outcome.Outcome // its kind; Pending: a health check or slowness
	often    uint64          // how often it had occurred by then; 0: unknown
}

// add notes a failure. closed says that the breaker is closed.
func (f *faults) add(o outcome.Outcome, cause Cause, now time.Time, closed bool) {
	f.last = o
	f.kinds.add(cause, now, closed)
}

// blamed returns the cause of an opening for a reason, and how often it occurred; 0: unknown.
// checks are those of the endpoint.
func (f *faults) blamed(reason string, checks *checks) (Cause, uint64) {
	switch reason {
	case breaker.ReasonOperator:
		return Cause{}, 0
	case breaker.ReasonCheckFailed:
		return checks.cause, uint64(max(0, -checks.run))
	case breaker.ReasonSlower, breaker.ReasonSlow, breaker.ReasonUnanswered:
		return f.slowest, 0
	}
	if last := f.kinds.latest(); last != nil {
		return last.Cause, last.often()
	}
	return Cause{}, 0
}

// opens notes the cause of an opening for a reason.
func (f *faults) opens(reason string, at time.Time, checks *checks) {
	if cause, often := f.blamed(reason, checks); cause.What != "" {
		f.opened, f.often, f.openedAt, f.openedBy = cause, often, at, outcome.Pending
		if last := f.kinds.latest(); last != nil && last.Cause == cause {
			f.openedBy = f.last
		}
	}
}

// lastAt returns the time of the latest failure since the breaker was closed last; zero: there is none.
func (f *faults) lastAt() time.Time {
	if last := f.kinds.latest(); last != nil {
		return last.at
	}
	return time.Time{}
}

// openedStatus returns what opened the breaker, for the API; nil: nothing, or unknown.
func (f *faults) openedStatus() *api.FailureStatus {
	kind := ""
	if f.openedBy != outcome.Pending {
		kind = f.openedBy.String()
	}
	return f.status(f.opened, kind, f.openedAt, f.often)
}

// lastStatus returns the latest failure for the API; nil: there is none.
func (f *faults) lastStatus() *api.FailureStatus {
	last := f.kinds.latest()
	if last == nil {
		return nil
	}
	return f.status(last.Cause, f.last.String(), last.at, last.often())
}

// status returns a cause for the API; nil if it is empty.
func (f *faults) status(cause Cause, reason string, at time.Time, often uint64) *api.FailureStatus {
	if cause.What == "" {
		return nil
	}
	if one := f.kinds.of(cause); one != nil {
		at, often = one.at, max(often, one.often())
	}
	return &api.FailureStatus{Outcome: reason, What: cause.What, Method: cause.Method, Path: cause.Path, Scope: cause.Scope, Count: often, At: at}
}
