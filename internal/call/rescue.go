package call

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/pool"
)

// reasonRescued is the reason of a failover by a rescue.
const reasonRescued = "rescued"

// Rescue: when an endpoint's breaker opens, calls that wait there for a first byte move on at
// once, if they may, instead of waiting for their timeout. The pool's watcher does this. It may
// use the call then, which otherwise only the request's goroutine uses: after the watcher has set
// first to givenUp, the request's goroutine waits at the attempt's mutex for its decision.

// rescued is the result of the latest try to rescue an attempt.
type rescued struct {
	to   *Attempt      // the attempt that replaces it; nil: none was possible
	next time.Duration // the earliest next try, counted from Began
}

// waitsInVain reports whether to rescue the attempt now, given that its endpoint's breaker is
// open.
func (a *Attempt) waitsInVain(now time.Time) bool {
	return a.is(started) && a.is(movable) && a.first.Load() == 0 && (a.rescued == nil || now.Sub(a.Began) >= a.rescued.next) &&
		!a.Call.Handler.BreakerConfig().Off
}

// rescue moves the call to another endpoint, if there is one and the budget allows it.
// Otherwise the attempt waits on.
func (a *Attempt) rescue(now time.Time) {
	if x := a.race(); x != nil {
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.helpsLocked() {
			return
		}
	}
	a.mu.Lock()
	if a.endedWhy() != endpoint.NotEnded || !a.first.CompareAndSwap(0, givenUp) {
		a.mu.Unlock()
		return
	}
	if x := a.race(); x != nil && x.rival != nil {
		a.Call.exclude(x.rival.Target) // the rival has failed
	}
	a.Call.extra().failed.slow = true
	a.rescued = &rescued{to: a.Call.planElsewhere(now, a)}
	if a.rescued.to == nil {
		a.rescued.next = now.Sub(a.Began) + pool.TickEvery
		a.first.Store(0)
		a.mu.Unlock()
		return
	}
	a.endAndUnlock(endpoint.EndedByRescue)
	a.Call.movedOn(a, now, true)
}

// conclude notes that the round trip ended without an answer, and returns why the attempt was
// ended, if it was. From then on the watcher does not change the attempt.
func (a *Attempt) conclude() endpoint.Ending {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.first.CompareAndSwap(0, givenUp)
	return a.endedWhy()
}
