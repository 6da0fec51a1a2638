package pool

import (
	"slices"
	"sync"
	"time"

	"github.com/apifailover/caddy-failover/internal/endpoint"
)

// undecided are calls that no endpoint answered, as long as it is not known whether their requests or
// the endpoints are at fault. The zero value is empty. It is safe for concurrent use.
type undecided struct {
	mu    sync.Mutex
	calls []undecidedCall // oldest first
}

type undecidedCall struct {
	since  time.Time
	decide func(now time.Time) bool
}

// mostUndecided bounds the number of remembered calls. Beyond it, the oldest is forgotten, and its
// failures count against the endpoints.
const mostUndecided = 1000

// Undecided remembers a call. At each tick the pool calls decide without a lock, until it returns
// true or endpoint.DoubtFor is over.
func (p *Pool) Undecided(now time.Time, decide func(now time.Time) bool) {
	u := &p.undecided
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.calls) == mostUndecided {
		u.calls = slices.Delete(u.calls, 0, 1)
	}
	u.calls = append(u.calls, undecidedCall{now, decide})
}

// decide asks each call whose doubt is not over, and forgets those that are decided.
func (u *undecided) decide(now time.Time) {
	u.mu.Lock()
	calls := u.calls
	u.calls = nil
	u.mu.Unlock()
	if len(calls) == 0 {
		return
	}
	calls = slices.DeleteFunc(calls, func(c undecidedCall) bool {
		return c.decide(now) || now.Sub(c.since) >= endpoint.DoubtFor || now.Before(c.since)
	})
	u.mu.Lock()
	u.calls = append(calls, u.calls...)
	u.mu.Unlock()
}
