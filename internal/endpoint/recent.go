package endpoint

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// failuresKept is how many failures of an endpoint are remembered.
const failuresKept = 20

// recentFailures keeps the latest failures of an endpoint. Unlike causes it outlives the
// breaker's closing. The zero value is empty and takes no memory for entries.
type recentFailures struct {
	ring []failed
	next int // index of the oldest, once the ring is full
}

// failed is one failure.
type failed struct {
	outcome outcome.Outcome
	cause   Cause
	at      time.Time
}

// add keeps a failure.
func (r *recentFailures) add(o outcome.Outcome, cause Cause, now time.Time) {
	if len(r.ring) < failuresKept {
		r.ring = append(r.ring, failed{o, cause, now})
		return
	}
	r.ring[r.next] = failed{o, cause, now}
	r.next = (r.next + 1) % failuresKept
}

// RecentFailures returns the latest failures, newest first.
func (s *State) RecentFailures() []api.FailureStatus {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	r := &s.failures
	list := make([]api.FailureStatus, 0, len(r.ring))
	for i := range r.ring {
		one := &r.ring[(r.next+len(r.ring)-1-i)%len(r.ring)]
		list = append(list, api.FailureStatus{
			Outcome: one.outcome.String(), What: one.cause.What, Method: one.cause.Method, Path: one.cause.Path, Scope: one.cause.Scope, At: one.at,
		})
	}
	return list
}
