package failover

import (
	"slices"
	"sync"
	"time"
)

// Kinds of events. They are also the names of events in Caddy's events app.
const (
	eventFailover          = "failover"
	eventBreakerOpened     = "breaker_opened"
	eventBreakerRecovering = "breaker_recovering"
	eventBreakerClosed     = "breaker_closed"
	eventEndpointHeld      = "endpoint_held"
	eventAllDown           = "all_down"
	eventSLABurning        = "sla_burning"
	eventSLAMetAgain       = "sla_met_again"
	eventAnomaly           = "anomaly"
	eventOperator          = "operator"
)

// Event is something that happened in a pool.
type Event struct {
	// Rises by one from event to event, over all pools of the process, from 1.
	ID uint64 `json:"id"`

	At   time.Time `json:"at"`
	Kind string    `json:"kind"`
	Pool string    `json:"pool"`

	// The endpoint that it happened to; of a failover, where the call came from.
	// Empty where it happened to the whole pool.
	Endpoint string `json:"endpoint,omitempty"`

	// Where a failover went.
	To string `json:"to,omitempty"`

	// Why: of a failover, the outcome of the attempt that failed; of a breaker,
	// what moved it.
	Reason string `json:"reason,omitempty"`

	// How many it stands for. Of a kind, endpoint, destination and reason at most
	// one event a second leaves a pool; those between are counted in the next.
	Count int `json:"count"`

	// More of the newest that it stands for. Values are text, numbers, booleans
	// and times.
	Details map[string]any `json:"details,omitempty"`
}

// eventsKept is how many events the process remembers.
const eventsKept = 1000

// events are the latest ones of all pools.
var events eventLog

// An eventLog remembers the latest events and passes new ones on. The zero value
// is empty. All methods may be called at once.
type eventLog struct {
	mu          sync.Mutex
	ring        [eventsKept]Event // event n is at (n-1) % eventsKept
	newest      uint64            // ID
	subscribers map[*subscription]struct{}
}

// add numbers an event, keeps it and hands it to the subscribers. One whose
// buffer is full has been too slow and is dropped.
func (l *eventLog) add(e Event) Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.newest++
	e.ID = l.newest
	l.ring[(e.ID-1)%eventsKept] = e
	for s := range l.subscribers {
		select {
		case s.events <- e:
		default:
			s.lagged = true
			l.dropLocked(s)
		}
	}
	return e
}

// since returns the events after the one of an ID that are still known, oldest
// first. An ID that was never given comes from another process: it is as good as
// none.
func (l *eventLog) since(id uint64) []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sinceLocked(id)
}

func (l *eventLog) sinceLocked(id uint64) []Event {
	if id > l.newest {
		id = 0
	}
	if l.newest > eventsKept {
		id = max(id, l.newest-eventsKept)
	}
	list := make([]Event, 0, l.newest-id)
	for id++; id <= l.newest; id++ {
		list = append(list, l.ring[(id-1)%eventsKept])
	}
	return list
}

// subscribe returns the events after the one of an ID, as since does, and a
// subscription to all that follow them.
func (l *eventLog) subscribe(after uint64) ([]Event, *subscription) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &subscription{log: l, events: make(chan Event, 256)}
	if l.subscribers == nil {
		l.subscribers = make(map[*subscription]struct{})
	}
	l.subscribers[s] = struct{}{}
	return l.sinceLocked(after), s
}

func (l *eventLog) dropLocked(s *subscription) {
	if _, ok := l.subscribers[s]; ok {
		delete(l.subscribers, s)
		close(s.events)
	}
}

// A subscription receives events until it is closed. A reader that falls 256
// events behind is dropped: the channel is closed after the events that are in
// it, and tooSlow says why.
type subscription struct {
	log    *eventLog
	events chan Event
	lagged bool // guarded by log.mu
}

// tooSlow tells whether the subscription ended because its reader fell behind.
func (s *subscription) tooSlow() bool {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.lagged
}

// close ends the subscription.
func (s *subscription) close() {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.log.dropLocked(s)
}

// emit lets an event out of the pool. It never blocks and calls nothing, so it
// may be used on the request path; not under a lock. At and Count may be left
// out, ID and Pool are filled in. Details must not be changed afterwards.
func (p *pool) emit(e Event) {
	e.Pool = p.name
	if e.At.IsZero() {
		e.At = time.Now()
	}
	e.Count = max(1, e.Count)
	p.outbox.post(e)
}

// emitAll emits what was collected under a lock.
func (p *pool) emitAll(collected []Event) {
	for _, e := range collected {
		p.emit(e)
	}
}

// transitionLocked is the event of a breaker that is no longer in generation
// before; nil if it is.
func (s *endpointState) transitionLocked(before uint64) *Event {
	b := &s.breaker
	if b.generation == before {
		return nil
	}
	e := &Event{At: b.changed, Endpoint: s.name, Reason: b.reason}
	switch b.state {
	case stateOpen:
		e.Kind = eventBreakerOpened
		e.Details = map[string]any{"until": b.until, "relapses": b.relapses}
	case stateForcedOpen:
		e.Kind = eventBreakerOpened
	case stateRecovering:
		e.Kind = eventBreakerRecovering
		e.Details = map[string]any{"opened": b.opened}
	default:
		e.Kind = eventBreakerClosed
	}
	return e
}

// heldLocked is the event of a hold that begins or goes on for longer.
func (s *endpointState) heldLocked(now time.Time) *Event {
	return &Event{
		At:       now,
		Kind:     eventEndpointHeld,
		Endpoint: s.name,
		Reason:   rateLimited.String(),
		Details:  map[string]any{"until": s.holdUntil, "seconds": s.holdUntil.Sub(now).Seconds()},
	}
}

// changeBreaker lets change work on the breaker, and emits what that brings
// about.
func (s *endpointState) changeBreaker(change func(*breaker)) {
	s.mu.Lock()
	before := s.breaker.generation
	change(&s.breaker)
	e := s.transitionLocked(before)
	s.mu.Unlock()
	if e != nil {
		s.pool.emit(*e)
		s.pool.poke()
	}
}

// downLocked tells whether every endpoint is out for every handler, and, where
// that is new, the event that says so.
func (p *pool) downLocked(g *generation, now time.Time) *Event {
	tables, down := 0, true
	for _, policy := range g.policies {
		if t := policy.currentTable(); t != nil && len(t.targets) > 0 {
			tables++
			down = down && t.total == 0
		}
	}
	down = down && tables > 0
	if p.down.Swap(down) == down {
		return nil
	}
	if !down {
		p.history.Pool().SetDown(now, false, "")
		p.keeping.dirty.Store(true)
		return nil
	}
	e := &Event{At: now, Kind: eventAllDown, Reason: "breaker"}
	held, barred := 0, 0
	for _, s := range p.states {
		s.mu.Lock()
		if s.barred {
			barred++
		} else if now.Before(s.holdUntil) {
			held++
		}
		s.mu.Unlock()
	}
	switch {
	case barred == len(p.states):
		e.Reason = reasonOperator
	case held == len(p.states):
		e.Reason = "hold"
	case held > 0:
		e.Reason = "breaker_and_hold"
	}
	e.Details = map[string]any{"endpoints": len(p.states)}
	p.history.Pool().SetDown(now, true, e.Reason)
	p.keeping.dirty.Store(true)
	return e
}

// detailNames are the names of an event's details, sorted.
func (e *Event) detailNames() []string {
	names := make([]string, 0, len(e.Details))
	for name := range e.Details {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
