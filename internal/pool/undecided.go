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
	decide func(now time.Time, last bool) bool
}

// mostUndecided bounds the calls that are remembered. Older ones are decided earlier.
const mostUndecided = 1000

// Undecided remembers a call. At each tick the pool calls decide without a lock, until it returns
// true. last says that this is the last time: endpoint.DoubtFor is over, or too many calls followed.
func (p *Pool) Undecided(now time.Time, decide func(now time.Time, last bool) bool) {
	u := &p.undecided
	u.mu.Lock()
	var oldest undecidedCall
	if len(u.calls) == mostUndecided {
		oldest = u.calls[0]
		u.calls = slices.Delete(u.calls, 0, 1)
	}
	u.calls = append(u.calls, undecidedCall{now, decide})
	u.mu.Unlock()
	if oldest.decide != nil {
		oldest.decide(now, true)
	}
}

// decide asks each call, and forgets those that are decided.
func (u *undecided) decide(now time.Time) {
	u.mu.Lock()
	calls := u.calls
	u.calls = nil
	u.mu.Unlock()
	if len(calls) == 0 {
		return
	}
	calls = slices.DeleteFunc(calls, func(c undecidedCall) bool {
		last := now.Sub(c.since) >= endpoint.DoubtFor || now.Before(c.since)
		return c.decide(now, last) || last
	})
	u.mu.Lock()
	u.calls = append(calls, u.calls...)
	u.mu.Unlock()
}
