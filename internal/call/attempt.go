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

// An Attempt is one round trip of a call to one endpoint. It is in flight from Acquire until
// its answer's body is closed. It is also the context of its round trip. The pool's watcher ends
// it at its timeout or when the client leaves, so it needs neither a timer nor a registration with
// the client's context.
type Attempt struct {
	lifetime

	upstream *reverseproxy.Upstream
	Timeout  time.Duration  // how long to wait for the part of the answer that commit needs
	rescued  *rescued       // the latest try of a rescue; nil: none; only the watcher uses it before EndedByRescue
	sent     *replay.Reader // the request's body; nil: none

	Call     *Call
	Target   *target.Target
	hedge    *side                    // its side of a race; nil: no race
	client   context.Context          // the proxy's context of the round trip
	Began    time.Time                // when it was reserved, or when its pause ends
	first    atomic.Int64             // nanoseconds from Began to the first byte; 0: none so far, or givenUp
	silent   atomic.Int64             // when the current read of the answer's body began, nanoseconds after Began plus one; 0: no read
	done     chan struct{}            // closed when it ends
	answer   io.ReadCloser            // the answer's body below responseBody
	download atomic.Pointer[download] // measures a large or long answer; nil: it is small so far

	endpoint.Ticket

	// The latest connection that the transport used for the request.
	conn   atomic.Pointer[link.Conn]      // nil: none, or it is not watched
	before struct{ brought, took uint64 } // its counts when the request got it

	sending atomic.Pointer[sending] // the progress of the request's body; nil: not known

	informer *informer // nil: no informational answer is kept

	reused  bool   // conn was idle before the request
	paused  bool   // it begins after a backoff
	tries   uint8  // HTTP/2 connections that the transport has sent the request on
	refused bool   // leaveRefused has ended it
	final   bool   // its answer goes to the client; used by the request's goroutine, then by the body's reader
	repeats uint16 // earlier attempts of the call in a row at the same endpoint
}

// progress is a set of facts about an attempt that other goroutines may read.
type progress uint32

const (
	started   progress = 1 << iota // client and Began are set
	movable                        // the call may be sent elsewhere until an answer comes
	holding                        // the answer has begun, but the client has got nothing of it
	bodyOver                       // the answer's body has been read to its end, and the attempt is settled
	dialed                         // a connection was dialed for it; its TLS handshake may not be complete
	connected                      // the transport got a connection for the request
)

// is reports whether p holds. It is safe for concurrent use.
func (a *Attempt) is(p progress) bool { return progress(a.progress.Load())&p != 0 }

func (a *Attempt) set(p progress)   { a.progress.Or(uint32(p)) }
func (a *Attempt) unset(p progress) { a.progress.And(^uint32(p)) }

// givenUp is the value of first if the attempt ended before a first byte.
const givenUp = -1

// abandoned is how long after its timeout the watcher ends a reserved attempt that the proxy never
// made.
const abandoned = 10 * time.Second

// idle returns the longest allowed silence inside the answer's body; 0: no bound.
func (a *Attempt) idle() time.Duration { return a.Call.Handler.Idle }

// patience returns the shortest time after which the watcher may have to act.
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

// PatienceLeft implements pool's watched: it is patience, except that only silence can end an
// answer that goes to the client.
func (a *Attempt) PatienceLeft() time.Duration {
	idle := a.idle()
	switch {
	case !a.is(started):
		return a.Timeout // RoundTrip calls Watch when it starts
	case a.first.Load() == 0 || a.is(holding):
		return a.patience()
	case idle > 0:
		return idle
	}
	return math.MaxInt64
}

// Begin starts the attempt's round trip in ctx. as is further progress to set. The timeout counts from
// Began.
func (a *Attempt) Begin(ctx context.Context, as progress) {
	a.client = ctx
	a.set(started | as)
}

// answeredLate is Answered if first is set already: by an earlier byte, by the attempt's end, or by a
// rescue that may still be undone.
func (a *Attempt) answeredLate(first int64) bool {
	a.mu.Lock() // waits for the watcher to decide on a rescue
	defer a.mu.Unlock()
	return a.first.CompareAndSwap(0, first) || a.first.Load() > 0
}

// FirstByte returns the time to the first byte, without the time in which the attempt waited
// for the client's body or the endpoint took it; 0: no first byte so far.
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

// WaitedFor returns how long the attempt has waited for the endpoint: the time since it began,
// or since the endpoint took the latest part of the request, without the waits for the client.
func (a *Attempt) WaitedFor(now time.Time) time.Duration {
	return max(0, a.had(now)-a.taking())
}

// known returns the attempt's outcome so far.
func (a *Attempt) known() outcome.Outcome { return a.Target.State.OutcomeSoFar(a) }

// overdue returns why the watcher has to end the attempt now, or NotEnded.
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

// Look implements pool's watched.
func (a *Attempt) Look(now time.Time, open bool) endpoint.Ending {
	a.watchSending(now)
	if c := a.conn.Load(); c != nil && c.IsHTTP2() {
		c.Look(now)
	}
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

// Act implements pool's watched.
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
			a.Settle(now, outcome.Cancelled, true) // no goroutine may be reading its body
			a.Call.record(a, outcome.Cancelled)
		}
	}
}

// expire ends the attempt for the watcher. If the attempt has been answered meanwhile, it stays
// alive.
func (a *Attempt) expire(why endpoint.Ending) {
	a.mu.Lock()
	late := (why == endpoint.EndedByTimeout || why == endpoint.EndedByDeadline) && !a.is(holding)
	if late && !a.first.CompareAndSwap(0, givenUp) {
		a.mu.Unlock()
		return
	}
	a.endAndUnlock(why)
}

// Settle reports the attempt's outcome to its endpoint. release says that nothing of the attempt is in
// flight any more.
func (a *Attempt) Settle(now time.Time, o outcome.Outcome, release bool) {
	a.settleFor("", now, o, release, endpoint.NoDoubt)
}

// settleFor is Settle with the cause in a few words, and with the doubt about whose fault it was.
func (a *Attempt) settleFor(what string, now time.Time, o outcome.Outcome, release bool, doubt endpoint.DoubtStage) {
	a.noteBeaten(now, o)
	if b := a.Target.Bounds; b != nil && a.unprocessed(o) {
		a.Target.State.GiveBack(a, a.Began, now, b)
	}
	a.Target.State.SettleFor(what, a, now, a.Call.Handler.BreakerConfig(), o, release, doubt)
	if release {
		a.end(endpoint.EndedNormally)
	}
	if a.Call.traced {
		a.spanSettled(what, release)
	}
}

// settleAnswer is settleFor at the end of an answer.
func (a *Attempt) settleAnswer(what string, now time.Time, o outcome.Outcome) {
	a.noteBeaten(now, o)
	if o == outcome.Cancelled {
		a.leaveSilent(now)
	} else {
		a.diedWith(o, nil)
	}
	a.Target.State.SettleAnswerFor(what, a, now, a.Call.Handler.BreakerConfig(), o, a.final)
	a.end(endpoint.EndedNormally)
	if a.Call.traced {
		a.spanSettled(what, true)
	}
}

// noteBeaten tells the endpoint if a rival ended the attempt.
func (a *Attempt) noteBeaten(now time.Time, o outcome.Outcome) {
	if o == outcome.Cancelled && a.endedWhy() == endpoint.EndedByHedge {
		a.Target.State.Beaten(a, now)
	}
}
