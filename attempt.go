package failover

import (
	"context"
	"io"
	"math"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

// An attempt is one round trip of a call to one endpoint. It is in flight from
// acquire until the response body is closed, and it is the context of the round
// trip: the pool's watcher ends it at its timeout, so that attempts need no
// timers, and looks after the client's going away, so that they need no
// registration with the client's context either.
type attempt struct {
	lifetime

	upstream *reverseproxy.Upstream
	timeout  time.Duration // to the first byte of the answer that commit waits for
	moved    *moved        // by the rescue, whose own it is until the attempt has ended by it; nil: not tried
	sent     *replay       // the request's body; nil: none

	call     *call
	target   *target
	hedge    *side           // of a race; nil: there will be none
	client   context.Context // the proxy's: its values, and its end
	began    time.Time       // or, until it is started, when it was reserved or its pause is over
	first    atomic.Int64    // nanoseconds from began to the first byte; 0: not yet, or givenUp
	silent   atomic.Int64    // since when a read of the answer's body waits, nanoseconds after began plus one; 0: not now
	done     chan struct{}   // closed when it ends; made by prepare
	answer   io.ReadCloser   // the body of the answer that goes to the client
	download *download       // how the client reads it; nil: not slowly

	ticket

	repeats uint16 // of the same endpoint
	paused  bool   // it begins after a backoff
}

// progress is how far an attempt has come, as it lets other goroutines know.
type progress uint32

const (
	started  progress = 1 << iota // client and began are set
	movable                       // while no answer has come, the call may be sent elsewhere
	holding                       // the answer has begun, but nothing of it has gone to the client
	bodyOver                      // the answer's body has been read to its end, and this is settled
)

func (a *attempt) is(p progress) bool { return progress(a.progress.Load())&p != 0 }
func (a *attempt) set(p progress)     { a.progress.Or(uint32(p)) }
func (a *attempt) unset(p progress)   { a.progress.And(^uint32(p)) }

// givenUp is the first byte of an attempt that was ended before it came.
const givenUp = -1

// abandoned is how long after its timeout a reserved attempt that the proxy
// never made is given up.
const abandoned = 10 * time.Second

// idle bounds the silence inside the answer's body; 0: no bound.
func (a *attempt) idle() time.Duration { return a.call.handler.idle }

// patience is the shortest time after which the watcher may have to act.
func (a *attempt) patience() time.Duration {
	shortest := a.timeout
	if idle := a.idle(); idle > 0 {
		shortest = min(shortest, idle)
	}
	if x := a.race(); x != nil {
		shortest = min(shortest, x.delay)
	}
	return shortest
}

// patienceLeft is the shortest time after which the watcher may have to act on an
// attempt as it stands: once its answer has begun, only silence can end it.
func (a *attempt) patienceLeft() time.Duration {
	idle := a.idle()
	switch {
	case !a.is(started):
		return a.timeout // watch will be told
	case a.first.Load() == 0 || a.is(holding):
		return a.patience()
	case idle > 0:
		return idle
	}
	return math.MaxInt64
}

// begin starts the clock of a round trip in ctx. What else holds of the attempt from
// then on is set with it.
func (a *attempt) begin(ctx context.Context, now time.Time, as progress) {
	a.client = ctx
	if a.began != now { // else the watcher may be reading it
		a.began = now
	}
	a.set(started | as)
}

// answeredLate is answered for an attempt whose first byte is noted already, or that is
// being given up.
func (a *attempt) answeredLate(first int64) bool {
	a.mu.Lock() // while the watcher thinks about a rescue
	defer a.mu.Unlock()
	return a.first.CompareAndSwap(0, first) || a.first.Load() > 0
}

// firstByte is the latency to the first byte less the time spent waiting for
// the client's own body; 0 if there is no answer yet.
func (a *attempt) firstByte() time.Duration {
	first := a.first.Load()
	if first <= 0 {
		return 0
	}
	if a.sent != nil {
		first -= int64(a.sent.waited())
	}
	return time.Duration(max(1, first))
}

// hasStarted implements flight.
func (a *attempt) hasStarted() bool { return a.is(started) }

// startedAt implements flight.
func (a *attempt) startedAt() time.Time { return a.began }

// uploads implements flight.
func (a *attempt) uploads() bool { return a.sent != nil && a.is(started) }

// waitsForClient implements flight.
func (a *attempt) waitsForClient() bool { return a.sent != nil && a.sent.waiting() }

var _ flight = (*attempt)(nil)

// waitedFor is how long the endpoint has had the attempt: the time since it
// began, less what was spent waiting for the client.
func (a *attempt) waitedFor(now time.Time) time.Duration {
	elapsed := now.Sub(a.began)
	if a.sent != nil {
		elapsed -= a.sent.waitedBy(now)
	}
	return max(0, elapsed)
}

// known is the attempt's outcome so far.
func (a *attempt) known() outcome.Outcome { return a.target.state.outcomeSoFar(a) }

// overdue tells the watcher whether the attempt has to end, and why.
func (a *attempt) overdue(now time.Time) ending {
	if !a.is(started) {
		if a.call.request.Context().Err() != nil || now.Sub(a.began) > a.timeout+abandoned {
			return neverBegan
		}
		return notEnded
	}
	if a.client.Err() != nil {
		return endedByClient
	}
	if a.first.Load() != 0 {
		return a.stuck(now)
	}
	if a.waitedFor(now) >= a.timeout {
		return endedByTimeout
	}
	if a.call.late(now) {
		return endedByDeadline
	}
	return notEnded
}

// look implements watched.
func (a *attempt) look(now time.Time, open bool) ending {
	switch why := a.overdue(now); {
	case why != notEnded:
		return why
	case open && a.waitsInVain(now):
		return endedByRescue
	case a.hedgeDue(now):
		return hedgeStarts
	case a.mayBeLost(now):
		return mayBeLost
	}
	return notEnded
}

// act implements watched.
func (a *attempt) act(why ending, now time.Time) {
	switch why {
	case neverBegan:
		a.settle(now, outcome.Cancelled, true)
		a.call.record(a, outcome.Cancelled)
		if body := a.call.body; body != nil {
			body.finish()
		}
	case endedByRescue:
		a.rescue(now)
	case mayBeLost:
		a.sent.lookForLoss()
	case hedgeStarts:
		go a.hedge.race.start(now)
	default:
		a.expire(why)
		if why == endedByClient && a.is(holding) {
			a.settle(now, outcome.Cancelled, true) // nobody may be reading it
			a.call.record(a, outcome.Cancelled)
		}
	}
}

// expire ends the attempt for the watcher. One that has been answered meanwhile
// is not overdue any longer.
func (a *attempt) expire(why ending) {
	a.mu.Lock()
	late := (why == endedByTimeout || why == endedByDeadline) && !a.is(holding)
	if late && !a.first.CompareAndSwap(0, givenUp) {
		a.mu.Unlock()
		return
	}
	a.endAndUnlock(why)
}

// settle reports what the attempt came to; release is set when nothing of it is
// in flight any longer.
func (a *attempt) settle(now time.Time, o outcome.Outcome, release bool) {
	a.settleIn(now, o, release, noDoubt)
}

// settleIn is settle for a failure of which it may not be known yet whose it is.
func (a *attempt) settleIn(now time.Time, o outcome.Outcome, release bool, doubt doubtStage) {
	if o == outcome.Cancelled && a.endedWhy() == endedByHedge {
		a.target.state.beaten(a, now)
	}
	a.target.state.settle(a, now, a.call.handler.breakerConfig(), o, release, doubt)
	if release {
		a.end(endedNormally)
	}
}
