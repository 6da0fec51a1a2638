package failover

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// A ticket is what an endpoint's state knows of one attempt there. An attempt embeds
// it. The zero value is that of an attempt that has not been let in.
type ticket struct {
	// Set by the attempt's own goroutine, before the state is told what they bear on.
	retryAfter   time.Duration // how long the endpoint asks to be left alone
	refusedAlone bool          // the peer's HTTP/2 layer refused this request alone
	doubtful     bool          // the call has failed elsewhere in a way that may be its own

	// Set by acquire, and by the breaker with the first byte.
	watchful bool // the breaker wants to know of the first byte
	permit   breaker.Permit

	// Guarded by the state's mutex.
	outcome    outcome.Outcome
	doubt      doubtStage
	judged     bool  // by slowness
	slower     bool  // much slower than usual, which may be known before it ends
	reported   bool  // as slow, before it ended
	passedOver bool  // the proxy has thrown its answer away
	final      bool  // its answer goes to the client, and the call is recorded with it; without the mutex while no other goroutine settles it
	slot       int32 // in the set of those in flight, plus one; 0: in none
	pace       *pace // of the upload; nil: the watcher has not seen one
}

// own is the ticket itself, for those who know an attempt as a flight.
func (t *ticket) own() *ticket { return t }

// A flight is an attempt as the state of its endpoint sees it. Its methods may be
// called under the state's mutex, from any goroutine.
type flight interface {
	// own is the attempt's ticket, always the same.
	own() *ticket
	// hasStarted tells whether the round trip has begun.
	hasStarted() bool
	// startedAt is when it began. Only what has started is asked.
	startedAt() time.Time
	// firstByte is the latency to the first byte of the answer, less the time spent
	// waiting for the client; 0: there is none yet.
	firstByte() time.Duration
	// waitedFor is how long the endpoint has had the attempt, less the time spent waiting
	// for the client.
	waitedFor(now time.Time) time.Duration
	// uploads tells whether the endpoint is sent a body.
	uploads() bool
	// waitsForClient tells whether an upload waits for its client now.
	waitsForClient() bool
	// recordsCall tells, once for all attempts of a call, that the call is to be counted,
	// and how long its client has waited for a first byte that came firstByte after the
	// attempt began; 0 if none came.
	recordsCall(firstByte time.Duration) (waited time.Duration, ok bool)
}

// taken is how long the first byte took, or has taken by now where it has not come; 0
// for an attempt that has not started.
func taken(f flight, now time.Time) time.Duration {
	latency := f.firstByte()
	if latency == 0 && f.hasStarted() {
		return f.waitedFor(now)
	}
	return latency
}

// An owner is who has an endpoint's state. Its methods may be called from any
// goroutine.
type owner interface {
	// emit lets an event out. It is not called under the state's mutex.
	emit(event.Event)
	// poke tells that the state has changed in a way that routing may go by.
	poke()
	// orderOver tells that an order's time is over. It is not called under the state's
	// mutex.
	orderOver(s *endpointState, o *order, now time.Time)
	// busyOutside tells that an attempt has begun at a state that the owner has given up.
	// It is called under the state's mutex.
	busyOutside(s *endpointState)
}

// unlockAndTell unlocks the state, and tells the owner what has changed since the
// breaker was in generation before: a transition, and what else is news, goes out as
// events, and changed says that routing may go by what is new.
func (s *endpointState) unlockAndTell(before uint64, changed bool) {
	news := s.newsLocked(before)
	s.mu.Unlock()
	for _, e := range news {
		s.owner.emit(e)
	}
	if changed {
		s.owner.poke()
	}
}
