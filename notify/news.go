package notify

import (
	"slices"
	"time"

	"github.com/apifailover/caddy-failover/internal/event"
)

const (
	// gather is how long a notice waits for what belongs to it: the last endpoint's outage and
	// that of the pool are two events.
	gather = time.Second
	// atMostEvery is the shortest time between two notices of a pool.
	atMostEvery = time.Minute
	// firstRetry and longestRetry bound the time to the next try of a notice; it doubles.
	firstRetry, longestRetry = 2 * time.Second, 5 * time.Minute
	// giveUpAfter is how long a notice is tried.
	giveUpAfter = time.Hour
	// mostPools is how many pools without news are remembered.
	mostPools = 1000
)

// news decides which events are worth a notice, and when each notice is due. It never holds more
// than one notice for each pool. It is for one goroutine.
type news struct {
	on    []string
	pools map[string]*story
}

// A story is what happens to one pool.
type story struct {
	pool     string
	incident uint64
	out      []string // endpoints that are out; of one that is out for a scope, with that
	toldOut  []string // endpoints of which there has been news that they are out
	told     bool     // there has been news of the incident
	toldDown bool     // there has been news that all endpoints are out
	down     bool     // all endpoints are out
	over     bool     // the incident is over

	pending   *item
	sending   *item
	notBefore time.Time // no notice is due before
	failures  int       // tries of the current notice that failed
	failing   time.Time // when the first of them did
}

// An item is the news of one notice.
type item struct {
	since  time.Time   // when the first event came
	count  int         // events
	latest event.Event // the one that says most
}

// take adds an event.
func (n *news) take(e event.Event, now time.Time) {
	s := n.pools[e.Pool]
	if s == nil {
		s = &story{pool: e.Pool}
		n.prune()
		n.pools[e.Pool] = s
	}
	if e.Incident != 0 && e.Incident != s.incident {
		*s = story{pool: s.pool, incident: e.Incident, pending: s.pending, sending: s.sending, notBefore: s.notBefore, failures: s.failures, failing: s.failing}
	}
	isNew := n.isNew(s, &e)
	s.change(&e)
	if !slices.Contains(n.on, e.Kind) || !isNew {
		return
	}
	s.tell(&e)
	s.add(item{now, max(1, e.Count), e})
}

// isNew reports whether an event says something that there has been no news of.
func (n *news) isNew(s *story, e *event.Event) bool {
	switch e.Kind {
	case event.BreakerOpened:
		return e.Reason != operators && !slices.Contains(s.toldOut, placeOf(e))
	case event.AllDown:
		return !s.toldDown
	case event.IncidentOver:
		return s.told || !slices.Contains(n.on, event.BreakerOpened) && !slices.Contains(n.on, event.AllDown)
	}
	return true
}

// operators is the reason of what an operator ordered.
const operators = "operator"

// change notes how the pool is after an event.
func (s *story) change(e *event.Event) {
	switch e.Kind {
	case event.BreakerOpened:
		if place := placeOf(e); !slices.Contains(s.out, place) {
			s.out = append(s.out, place)
		}
	case event.BreakerClosed:
		s.out = without(s.out, placeOf(e))
	case event.AllDown:
		s.down = true
	case event.PoolUp:
		s.down = false
	case event.IncidentOver:
		s.out, s.down, s.over = nil, false, true
	}
}

// tell notes what people know after the news of an event.
func (s *story) tell(e *event.Event) {
	switch e.Kind {
	case event.BreakerOpened:
		s.told, s.toldOut = true, append(s.toldOut, placeOf(e))
	case event.BreakerClosed:
		s.toldOut = without(s.toldOut, placeOf(e))
	case event.AllDown:
		s.told, s.toldDown = true, true
	case event.PoolUp:
		s.toldDown = false
	}
}

// placeOf returns the endpoint of an event, with its scope if it has one.
func placeOf(e *event.Event) string {
	if e.Scope == "" {
		return e.Endpoint
	}
	return e.Endpoint + " (" + e.Scope + ")"
}

func without(names []string, one string) []string {
	return slices.DeleteFunc(names, func(name string) bool { return name == one })
}

// add adds to the news that are to be told.
func (s *story) add(i item) {
	if s.pending == nil {
		s.pending = &i
		return
	}
	s.pending.count += i.count
	if weight(i.latest.Kind) >= weight(s.pending.latest.Kind) || i.latest.Incident > s.pending.latest.Incident {
		s.pending.latest = i.latest
	}
}

// weight says which of two events of an incident a notice names. The later of equals counts.
func weight(kind string) int {
	switch kind {
	case event.AllDown, event.PoolUp, event.IncidentOver:
		return 2
	case event.BreakerOpened:
		return 1
	}
	return 0
}

// dueAt returns when the pool's notice is due; zero if it has none.
func (s *story) dueAt() time.Time {
	if s.pending == nil || s.sending != nil {
		return time.Time{}
	}
	at := s.pending.since.Add(gather)
	if s.notBefore.After(at) {
		at = s.notBefore
	}
	return at
}

// next returns the story whose notice is due first, nil if there is none, and when it is.
func (n *news) next() (first *story, at time.Time) {
	for _, s := range n.pools {
		if due := s.dueAt(); !due.IsZero() && (first == nil || due.Before(at)) {
			first, at = s, due
		}
	}
	return first, at
}

// begin takes the news of the notice that is sent now.
func (s *story) begin() *item {
	s.sending, s.pending = s.pending, nil
	return s.sending
}

// sent says that the notice has arrived.
func (s *story) sent(now time.Time) {
	s.sending, s.failures, s.notBefore = nil, 0, now.Add(atMostEvery)
}

// failed says that the notice has not arrived, as far as known. It returns false if it is given up;
// then what comes next is told as if nothing had been.
func (s *story) failed(now time.Time, f failure) (again bool) {
	lost := s.sending
	s.sending = nil
	if s.failures == 0 {
		s.failing = now
	}
	s.failures++
	if f.final || now.Sub(s.failing) >= giveUpAfter {
		s.failures, s.notBefore = 0, now.Add(atMostEvery)
		s.toldOut, s.told, s.toldDown = nil, s.pending != nil, false
		return false
	}
	wait := min(firstRetry<<min(s.failures-1, 20), longestRetry)
	if f.mayHaveArrived {
		wait = max(wait, atMostEvery)
	}
	s.notBefore = now.Add(max(wait, min(f.after, longestRetry)))
	newer := s.pending
	s.pending = lost
	if newer != nil {
		s.add(*newer)
	}
	return true
}

// prune forgets pools that have nothing to tell, if there are many.
func (n *news) prune() {
	if len(n.pools) < mostPools {
		return
	}
	for name, s := range n.pools {
		if s.pending == nil && s.sending == nil && (s.over || s.incident == 0) {
			delete(n.pools, name)
		}
	}
}
