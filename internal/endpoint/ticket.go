package endpoint

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// A Ticket is what an endpoint's state knows about one attempt. An attempt embeds
// it. The zero value belongs to an attempt that has not been let in.
type Ticket struct {
	Tokens *Tokens // set before Acquire; nil: the endpoint has no limit of tokens

	// Set by the attempt's goroutine before it settles the attempt.
	RetryAfter   time.Duration // how long the endpoint asks to wait; 0: it does not
	RefusedAlone bool          // the peer's HTTP/2 layer refused only this request
	Doubtful     bool          // the call failed elsewhere, perhaps by its own fault
	ClientLeft   bool          // the attempt was cancelled because its client left
	MovedOn      bool          // the call moves on from the endpoint's good response, if it can
	Untimed      bool          // the response is a 4xx that is no failure, so its first byte does not show how fast the endpoint is
	Single       bool          // the response to an unhurried attempt is no stream, so its first byte shows how fast the endpoint is

	// Set before Acquire.
	Unhurried bool // the first byte may be late although the endpoint is well, since the response may be a stream

	// Set by Acquire, and by the breaker at the first byte.
	Watchful bool // the breaker needs BeganAnswer at the first byte
	Permit   breaker.Permit

	// Guarded by the state's mutex.
	Outcome    outcome.Outcome
	doubt      DoubtStage
	judged     bool  // it is known whether the attempt is slow
	slower     bool  // it is much slower than usual
	reported   bool  // the breaker was told of its slowness before its end
	passedOver bool  // the proxy dropped its response
	elsewhere  bool  // its call failed at another endpoint in the same way, or everywhere
	final      bool  // its response is the client's, so its call is recorded with it
	slot       int32 // its slot in inFlight, plus one; 0: none

	// Set by the attempt's goroutine before it settles the attempt. Here they take no room.
	DiedWith  bool // it failed because its connection died
	DiedAgain bool // so did another before, as link.Conn.Fails says, or a client left one on the same connection

	Finite bool // the response ends by itself; set before Acquire
	booked bool // it has used its part of limits of requests; guarded by the state's mutex

	rare *Rare // nil: not needed yet; set before Acquire if the attempt has a scope
}

// Rare is the part of a ticket that few attempts need. The zero value is empty. The state's mutex
// guards it.
type Rare struct {
	name  string         // the scope of the attempt's call; empty: it has no scope
	about *condition     // the scope's condition; nil: it has no scope
	whole breaker.Permit // the permit of the endpoint's own breaker; Ticket.Permit is that of the scope's

	pace  pace // the progress of the upload
	paced bool // the watcher has seen an upload
}

// Concern sets the scope of the attempt. It must be called before Acquire. r is memory for it, which
// must not be used otherwise; nil: Concern allocates it.
func (t *Ticket) Concern(scope string, r *Rare) {
	if scope == "" {
		return
	}
	if r == nil {
		r = new(Rare)
	}
	*r = Rare{name: scope}
	t.rare = r
}

// scope returns the scope of the attempt; empty: it has none.
func (t *Ticket) scope() string {
	if t.rare == nil {
		return ""
	}
	return t.rare.name
}

// about returns the condition of the ticket's scope; nil: it has no scope.
func (t *Ticket) about() *condition {
	if t.rare == nil {
		return nil
	}
	return t.rare.about
}

// permit returns the permit of a condition's breaker.
func (t *Ticket) permit(c *condition) *breaker.Permit {
	if about := t.about(); about != nil && about != c {
		return &t.rare.whole
	}
	return &t.Permit
}

// speaksOf returns the condition for which an outcome of the attempt counts: the scope's, or the
// endpoint's own if the attempt has no scope or if the outcome concerns the whole endpoint.
func (t *Ticket) speaksOf(s *State, o outcome.Outcome) *condition {
	if about := t.about(); about != nil && !ofWhole(o) {
		return about
	}
	return &s.own
}

// ofWhole reports whether an outcome concerns the whole endpoint, whatever the scope.
func ofWhole(o outcome.Outcome) bool {
	return o == outcome.FailedDial || o == outcome.FailedTLS || o == outcome.Denied
}

// own returns the ticket itself; it is how a Watched gives its ticket.
func (t *Ticket) own() *Ticket { return t }

// A Watched is an attempt as the state of its endpoint sees it. Its methods may be
// called under the state's mutex, from any goroutine.
type Watched interface {
	// own returns the attempt's ticket, always the same.
	own() *Ticket
	// HasStarted reports whether the round trip has begun.
	HasStarted() bool
	// StartedAt returns when it began. It may be called only after HasStarted is true.
	StartedAt() time.Time
	// FirstByte returns the latency to the first byte of the response, without the time spent
	// waiting for the client; 0: there is none yet.
	FirstByte() time.Duration
	// WaitedFor returns how long the attempt has waited for the endpoint, without the time
	// spent waiting for the client. It starts again whenever the endpoint takes more of the
	// request's body.
	WaitedFor(now time.Time) time.Duration
	// Uploads reports whether the request has a body.
	Uploads() bool
	// WaitsForClient reports whether the upload waits for its client now.
	WaitsForClient() bool
	// Flow returns the measurement of the response's body; nil: it is not measured.
	Flow() *Flow
	// MeasureFlow makes Flow measure the body from its next read on.
	MeasureFlow()
	// RecordsCall reports whether to count the call, once for all its attempts. waited is how
	// long the client waited for a first byte that came firstByte after the attempt began;
	// 0: there was none.
	RecordsCall(firstByte time.Duration) (waited time.Duration, ok bool)
}

// taken returns how long the first byte took, or how long the attempt has waited for it; 0 for
// an attempt that has not started.
func taken(f Watched, now time.Time) time.Duration {
	latency := f.FirstByte()
	if latency == 0 && f.HasStarted() {
		return f.WaitedFor(now)
	}
	return latency
}

// owner is the pool of an endpoint's state. Its methods may be called from any goroutine.
type owner interface {
	// Emit emits an event. It is not called under the state's mutex.
	Emit(event.Event)
	// Poke says that a change of the state may change the routing tables.
	Poke()
	// OrderOver says that an order's time is over. It is not called under the state's
	// mutex.
	OrderOver(s *State, o *Order, now time.Time)
	// BusyOutside says that an attempt has begun at an endpoint that left the pool. It is
	// called under the state's mutex.
	BusyOutside(s *State)
	// Stirs says that something begins to happen at an endpoint at rest. It is called under the
	// state's mutex.
	Stirs(s *State)
	// HasRoom says that an attempt has ended at an endpoint that had turned attempts away
	// because it was full. It is called under the state's mutex.
	HasRoom()
}

// update calls change under the state's mutex. It returns the result of change, which is whether the
// routing tables may change, and the events, which the caller emits without a lock. change may change
// only the scope of t; if t is nil, all scopes.
func (s *State) update(t *Ticket, change func() (changed bool)) (changed bool, news []event.Event) {
	s.Mu.Lock()
	s.stirLocked()
	changed = change()
	return changed, s.unlock(t)
}

// unlock unlocks the state. It returns the events of the endpoint itself and of t's scope; if t is
// nil, of all scopes.
func (s *State) unlock(t *Ticket) []event.Event {
	var news []event.Event
	if t != nil {
		if c := t.about(); c != nil {
			news = s.newsOfLocked(news, c)
		}
	} else if len(s.scopes.list) > 0 {
		for _, c := range s.scopes.list {
			news = s.newsOfLocked(news, c)
		}
		s.scopes.sweep()
	}
	news = s.newsOfLocked(news, &s.own)
	s.Mu.Unlock()
	return news
}

// tell passes the results of update to the owner. The caller holds no lock.
func (s *State) tell(changed bool, news []event.Event) {
	for _, e := range news {
		s.Owner.Emit(e)
	}
	if changed {
		s.Owner.Poke()
	}
}
