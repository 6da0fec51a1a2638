package call

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/pool"
)

// reasonRescued is the reason of a failover that did not wait for an attempt to
// fail.
const reasonRescued = "rescued"

// Rescue: when an endpoint opens, the attempts that still wait there for the first
// byte of an answer, and that may be made elsewhere, move on at once instead of
// waiting for their timeout. The pool's watcher does it, and it may use the call
// then, which is otherwise its request's alone: from the moment in which it marks
// the attempt as given up, the request's goroutine waits for its verdict at the
// attempt's mutex.

// moved is what came of the latest try to rescue an attempt.
type moved struct {
	to   *Attempt
	next time.Duration // from when it began: the earliest next try
}

// waitsInVain tells whether an attempt of an endpoint that is open is to be
// rescued now.
func (a *Attempt) waitsInVain(now time.Time) bool {
	return a.is(started) && a.is(movable) && a.first.Load() == 0 && (a.moved == nil || now.Sub(a.Began) >= a.moved.next) &&
		!a.Call.Handler.BreakerConfig().Off
}

// rescue moves the attempt to another endpoint, if there is one and the budget
// allows it; else it waits on.
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
		a.Call.exclude(x.rival.Target) // which has failed
	}
	a.Call.extra().failed.slow = true
	a.moved = &moved{to: a.Call.planElsewhere(now, a)}
	if a.moved.to == nil {
		a.moved.next = now.Sub(a.Began) + pool.TickEvery
		a.first.Store(0)
		a.mu.Unlock()
		return
	}
	a.endAndUnlock(endpoint.EndedByRescue)
}

// conclude says that the round trip is over without an answer, and why it was
// ended, if it was. The watcher leaves the attempt alone from then on.
func (a *Attempt) conclude() endpoint.Ending {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.first.CompareAndSwap(0, givenUp)
	return a.endedWhy()
}
