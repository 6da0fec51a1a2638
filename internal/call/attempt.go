package call

import (
	"context"
	"io"
	"math"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/link"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/replay"
	"github.com/apifailover/caddy-failover/internal/target"
)

// An Attempt is one round trip of a call to one endpoint. It is in flight from
// acquire until the response body is closed, and it is the context of the round
// trip: the pool's watcher ends it at its timeout, so that attempts need no
// timers, and looks after the client's going away, so that they need no
// registration with the client's context either.
type Attempt struct {
	lifetime

	upstream *reverseproxy.Upstream
	Timeout  time.Duration  // to the first byte of the answer that commit waits for
	moved    *moved         // by the rescue, whose own it is until the attempt has ended by it; nil: not tried
	sent     *replay.Reader // the request's body; nil: none

	Call     *Call
	Target   *target.Target
	hedge    *side           // of a race; nil: there will be none
	client   context.Context // the proxy's: its values, and its end
	Began    time.Time       // or, until it is started, when it was reserved or its pause is over
	first    atomic.Int64    // nanoseconds from began to the first byte; 0: not yet, or givenUp
	silent   atomic.Int64    // since when a read of the answer's body waits, nanoseconds after began plus one; 0: not now
	done     chan struct{}   // closed when it ends; made by prepare
	answer   io.ReadCloser   // the body of the answer that goes to the client
	download *download       // how the client reads it; nil: not slowly

	endpoint.Ticket

	// What the transport tells of the latest connection that it had for the request.
	conn   atomic.Pointer[link.Conn] // nil: there is none, or nobody watches it
	before struct{ brought, took uint64 }
	reused bool // it was idle before

	sending atomic.Pointer[sending] // nil: the watcher has seen no body go

	informer *informer // nil: informational answers go to the client at once

	paused  bool   // it begins after a backoff
	final   bool   // its answer goes to the client; the request's own, and then that of the answer's reader
	repeats uint16 // of the same endpoint
}

// progress is how far an attempt has come, as it lets other goroutines know.
type progress uint32

const (
	started   progress = 1 << iota // client and began are set
	movable                        // while no answer has come, the call may be sent elsewhere
	holding                        // the answer has begun, but nothing of it has gone to the client
	bodyOver                       // the answer's body has been read to its end, and this is settled
	dialed                         // a connection was made for it, which may still have to become one of TLS
	connected                      // the transport had a connection for the request
)

// is tells whether the attempt has come as far as p. Any goroutine may ask.
func (a *Attempt) is(p progress) bool { return progress(a.progress.Load())&p != 0 }

// set notes that the attempt has come as far as p.
func (a *Attempt) set(p progress)   { a.progress.Or(uint32(p)) }
func (a *Attempt) unset(p progress) { a.progress.And(^uint32(p)) }

// givenUp is the first byte of an attempt that was ended before it came.
const givenUp = -1

// abandoned is how long after its timeout a reserved attempt that the proxy
// never made is given up.
const abandoned = 10 * time.Second

// idle bounds the silence inside the answer's body; 0: no bound.
func (a *Attempt) idle() time.Duration { return a.Call.Handler.Idle }

// patience is the shortest time after which the watcher may have to act.
func (a *Attempt) patience() time.Duration {
	shortest := a.Timeout
	if idle := a.idle(); idle > 0 {
		shortest = min(shortest, idle)
	}
	if x := a.race(); x != nil {
		shortest = min(shortest, x.delay)
	}
	if a.Call.Handler.Retry.Deadline > 0 {
		shortest = min(shortest, a.Call.left(a.Began))
	}
	return shortest
}

// PatienceLeft is the shortest time after which the watcher may have to act on an
// attempt as it stands: once its answer has begun, only silence can end it.
func (a *Attempt) PatienceLeft() time.Duration {
	idle := a.idle()
	switch {
	case !a.is(started):
		return a.Timeout // watch will be told
	case a.first.Load() == 0 || a.is(holding):
		return a.patience()
	case idle > 0:
		return idle
	}
	return math.MaxInt64
}

// Begin starts the clock of a round trip in ctx, which began when the attempt was reserved
// or its pause was over. What else holds of the attempt from then on is set with it.
func (a *Attempt) Begin(ctx context.Context, as progress) {
	a.client = ctx
	a.set(started | as)
}

// answeredLate is answered for an attempt whose first byte is noted already, or that is
// being given up.
func (a *Attempt) answeredLate(first int64) bool {
	a.mu.Lock() // while the watcher thinks about a rescue
	defer a.mu.Unlock()
	return a.first.CompareAndSwap(0, first) || a.first.Load() > 0
}

// FirstByte is the latency to the first byte less the time spent waiting for
// the client's own body, and less the time in which the endpoint took it; 0 if there is
// no answer yet.
func (a *Attempt) FirstByte() time.Duration {
	first := a.first.Load()
	if first <= 0 {
		return 0
	}
	if a.sent != nil {
		first -= int64(a.sent.Waited())
	}
	first -= int64(a.taking())
	return time.Duration(max(1, first))
}

// HasStarted implements endpoint.Watched.
func (a *Attempt) HasStarted() bool { return a.is(started) }

// StartedAt implements endpoint.Watched.
func (a *Attempt) StartedAt() time.Time { return a.Began }

// Uploads implements endpoint.Watched.
func (a *Attempt) Uploads() bool { return a.is(started) && a.sent != nil }

// WaitsForClient implements endpoint.Watched.
func (a *Attempt) WaitsForClient() bool { return a.sent != nil && a.sent.Waiting() }

var (
	_ endpoint.Watched  = (*Attempt)(nil)
	_ endpoint.Uploader = (*Attempt)(nil)
)

// WaitedFor is how long the endpoint has been waited for: the time since it began, or took
// the latest part of the request, less what was spent waiting for the client.
func (a *Attempt) WaitedFor(now time.Time) time.Duration {
	return max(0, a.had(now)-a.taking())
}

// known is the attempt's outcome so far.
func (a *Attempt) known() outcome.Outcome { return a.Target.State.OutcomeSoFar(a) }

// overdue tells the watcher whether the attempt has to end, and why.
func (a *Attempt) overdue(now time.Time) endpoint.Ending {
	if !a.is(started) {
		if a.Call.Request.Context().Err() != nil || now.Sub(a.Began) > a.Timeout+abandoned {
			return endpoint.NeverBegan
		}
		return endpoint.NotEnded
	}
	if a.client.Err() != nil {
		return endpoint.EndedByClient
	}
	if a.first.Load() != 0 {
		return a.stuck(now)
	}
	if a.WaitedFor(now) >= a.Timeout {
		return endpoint.EndedByTimeout
	}
	if a.Call.late(now) {
		return endpoint.EndedByDeadline
	}
	return endpoint.NotEnded
}

// Look implements watched.
func (a *Attempt) Look(now time.Time, open bool) endpoint.Ending {
	a.watchSending(now)
	switch why := a.overdue(now); {
	case why != endpoint.NotEnded:
		return why
	case open && a.waitsInVain(now):
		return endpoint.EndedByRescue
	case a.hedgeDue(now):
		return endpoint.HedgeStarts
	case a.mayBeLost(now):
		return endpoint.MayBeLost
	}
	return endpoint.NotEnded
}

// Act implements watched.
func (a *Attempt) Act(why endpoint.Ending, now time.Time) {
	switch why {
	case endpoint.NeverBegan:
		a.Settle(now, outcome.Cancelled, true)
		a.Call.record(a, outcome.Cancelled)
		a.Call.leavesLane(0, false)
		if body := a.Call.body; body != nil {
			body.Finish()
		}
	case endpoint.EndedByRescue:
		a.rescue(now)
	case endpoint.MayBeLost:
		a.sent.LookForLoss()
	case endpoint.HedgeStarts:
		go a.hedge.race.start(now)
	default:
		a.expire(why)
		if why == endpoint.EndedByClient && a.is(holding) {
			a.Settle(now, outcome.Cancelled, true) // nobody may be reading it
			a.Call.record(a, outcome.Cancelled)
		}
	}
}

// expire ends the attempt for the watcher. One that has been answered meanwhile
// is not overdue any longer.
func (a *Attempt) expire(why endpoint.Ending) {
	a.mu.Lock()
	late := (why == endpoint.EndedByTimeout || why == endpoint.EndedByDeadline) && !a.is(holding)
	if late && !a.first.CompareAndSwap(0, givenUp) {
		a.mu.Unlock()
		return
	}
	a.endAndUnlock(why)
}

// Settle reports what the attempt came to; release is set when nothing of it is
// in flight any longer.
func (a *Attempt) Settle(now time.Time, o outcome.Outcome, release bool) {
	a.settleFor("", now, o, release, endpoint.NoDoubt)
}

// settleFor is Settle for a failure of which it is known in a few words what it is, and
// may not be known yet whose.
func (a *Attempt) settleFor(what string, now time.Time, o outcome.Outcome, release bool, doubt endpoint.DoubtStage) {
	a.noteBeaten(now, o)
	a.Target.State.SettleFor(what, a, now, a.Call.Handler.BreakerConfig(), o, release, doubt)
	if release {
		a.end(endpoint.EndedNormally)
	}
}

// settleAnswer is settleFor at the end of an answer.
func (a *Attempt) settleAnswer(what string, now time.Time, o outcome.Outcome) {
	a.noteBeaten(now, o)
	a.Target.State.SettleAnswerFor(what, a, now, a.Call.Handler.BreakerConfig(), o, a.final)
	a.end(endpoint.EndedNormally)
}

// noteBeaten lets the endpoint learn from an attempt that a rival has ended.
func (a *Attempt) noteBeaten(now time.Time, o outcome.Outcome) {
	if o == outcome.Cancelled && a.endedWhy() == endpoint.EndedByHedge {
		a.Target.State.Beaten(a, now)
	}
}
