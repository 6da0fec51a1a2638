package endpoint

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// A Ticket is what an endpoint's state knows of one attempt there. An attempt embeds
// it. The zero value is that of an attempt that has not been let in.
type Ticket struct {
	// Set by the attempt's own goroutine, before the state is told what they bear on.
	RetryAfter   time.Duration // how long the endpoint asks to be left alone
	RefusedAlone bool          // the peer's HTTP/2 layer refused this request alone
	Doubtful     bool          // the call has failed elsewhere in a way that may be its own
	ClientLeft   bool          // the attempt was cancelled because its client left
	MovedOn      bool          // the call moves on from the endpoint's good answer, if it can

	// Set by acquire, and by the breaker with the first byte.
	Watchful bool // the breaker wants to know of the first byte
	Permit   breaker.Permit

	// Guarded by the state's mutex.
	Outcome    outcome.Outcome
	doubt      DoubtStage
	judged     bool  // by slowness
	slower     bool  // much slower than usual, which may be known before it ends
	reported   bool  // as slow, before it ended
	passedOver bool  // the proxy has thrown its answer away
	final      bool  // its answer goes to the client, as was found out after it: the call is recorded with it
	slot       int32 // in the set of those in flight, plus one; 0: in none
	pace       *pace // of the upload; nil: the watcher has not seen one
}

// own is the ticket itself, for those who know an attempt as a flight.
func (t *Ticket) own() *Ticket { return t }

// A Watched is an attempt as the state of its endpoint sees it. Its methods may be
// called under the state's mutex, from any goroutine.
type Watched interface {
	// own is the attempt's ticket, always the same.
	own() *Ticket
	// HasStarted tells whether the round trip has begun.
	HasStarted() bool
	// StartedAt is when it began. Only what has started is asked.
	StartedAt() time.Time
	// FirstByte is the latency to the first byte of the answer, less the time spent
	// waiting for the client; 0: there is none yet.
	FirstByte() time.Duration
	// WaitedFor is how long the endpoint has been waited for, less the time spent waiting for
	// the client. While it goes on taking a request's body, that begins anew.
	WaitedFor(now time.Time) time.Duration
	// Uploads tells whether the endpoint is sent a body.
	Uploads() bool
	// WaitsForClient tells whether an upload waits for its client now.
	WaitsForClient() bool
	// RecordsCall tells, once for all attempts of a call, that the call is to be counted,
	// and how long its client has waited for a first byte that came firstByte after the
	// attempt began; 0 if none came.
	RecordsCall(firstByte time.Duration) (waited time.Duration, ok bool)
}

// taken is how long the first byte took, or has taken by now where it has not come; 0
// for an attempt that has not started.
func taken(f Watched, now time.Time) time.Duration {
	latency := f.FirstByte()
	if latency == 0 && f.HasStarted() {
		return f.WaitedFor(now)
	}
	return latency
}

// An owner is who has an endpoint's state. Its methods may be called from any
// goroutine.
type owner interface {
	// Emit lets an event out. It is not called under the state's mutex.
	Emit(event.Event)
	// Poke tells that the state has changed in a way that routing may go by.
	Poke()
	// OrderOver tells that an order's time is over. It is not called under the state's
	// mutex.
	OrderOver(s *State, o *Order, now time.Time)
	// BusyOutside tells that an attempt has begun at a state that the owner has given up.
	// It is called under the state's mutex.
	BusyOutside(s *State)
	// HasRoom tells that an attempt has ended at an endpoint that had turned others away
	// for want of room. It is called under the state's mutex.
	HasRoom()
}

// update lets change work on the state under its mutex, and returns what change does,
// whether routing may go by what is new, and the events that tell of it. They are emitted
// when no lock is held.
func (s *State) update(change func() (changed bool)) (changed bool, news []event.Event) {
	s.Mu.Lock()
	before := s.breaker.Told.Turn
	changed = change()
	return changed, s.unlock(before)
}

// unlock unlocks the state, and returns the events of what has changed since the breaker
// took its turn before.
func (s *State) unlock(before uint64) []event.Event {
	news := s.newsLocked(before)
	s.Mu.Unlock()
	return news
}

// tell tells the owner what an update has brought. The caller holds no lock.
func (s *State) tell(changed bool, news []event.Event) {
	for _, e := range news {
		s.Owner.Emit(e)
	}
	if changed {
		s.Owner.Poke()
	}
}
