package notify

import (
	"slices"
	"time"

	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/incident"
)

const (
	// gather is how long a notice waits for more events. The outage of the last endpoint and that
	// of the pool, for example, are two events.
	gather = time.Second
	// atMostEvery is the shortest time between two notices of a pool.
	atMostEvery = time.Minute
	// longestPause is the longest time between two notices of a pool that flaps, calmAfter how long it must have none to
	// flap no more.
	longestPause = 15 * time.Minute
	calmAfter    = time.Hour
	// quickNotices is how many notices in a row have atMostEvery between them.
	quickNotices = 4
	// maxNamed is how many endpoints are remembered as named.
	maxNamed = 100
	// firstRetry and longestRetry bound the time to the next try of a notice. It doubles each time.
	firstRetry, longestRetry = 2 * time.Second, 5 * time.Minute
	// giveUpAfter is how long a notice is tried.
	giveUpAfter = time.Hour
	// maxPools is the number of pools at which news forgets pools without a notice or an incident.
	maxPools = 1000
)

// news decides which events cause a notice, and when each notice is due. It holds at most one notice
// for each pool. It is not safe for concurrent use.
type news struct {
	on    []string
	pools map[string]*story
}

// A story is what happens to one pool, and what people know of it.
type story struct {
	pool     string
	incident uint64   // ID of the latest incident; 0: none yet
	out      []string // endpoints that are out, with the scope if they are out for one
	down     bool     // all endpoints are out
	over     bool     // the incident is over

	told     bool     // a notice has told of the incident
	toldOut  []string // those of out of which a notice has told
	toldDown bool     // a notice has told that all endpoints are out

	pending   *item     // the next notice; nil: none
	sending   *item     // the notice that is under way; nil: none
	notBefore time.Time // no notice is due before this
	latest    time.Time // when the latest notice arrived
	inARow    int       // notices, each less than calmAfter after the one before
	named     []string  // endpoints that they have named as out
	failures  int       // failed tries of the current notice
	failing   time.Time // when the first of them failed
}

// An item is one notice: the events for which it stands.
type item struct {
	first  time.Time   // when the first event came
	count  int         // number of events
	main   event.Event // the event that the notice names
	urgent bool        // it does not wait longer than atMostEvery
}

// take takes an event, and makes it a notice or a part of one if it is news.
func (n *news) take(e event.Event, now time.Time) {
	s := n.pools[e.Pool]
	if s == nil {
		s = &story{pool: e.Pool}
		n.prune()
		n.pools[e.Pool] = s
	}
	if e.Incident != 0 && e.Incident != s.incident {
		*s = story{
			pool: s.pool, incident: e.Incident, pending: s.pending, sending: s.sending, notBefore: s.notBefore, latest: s.latest, inARow: s.inARow, named: s.named,
			failures: s.failures, failing: s.failing,
		}
	}
	isNew := n.isNew(s, &e)
	s.update(&e)
	if !slices.Contains(n.on, e.Kind) || !isNew {
		return
	}
	if s.pending == nil && s.sending == nil && now.Sub(s.latest) >= calmAfter {
		s.inARow, s.named = 0, nil
	}
	urgent := s.isUrgent(&e)
	s.markTold(&e)
	s.add(item{now, max(1, e.Count), e, urgent})
}

// isUrgent reports whether an event is more than an endpoint that goes out and comes back again and again.
func (s *story) isUrgent(e *event.Event) bool {
	switch e.Kind {
	case event.BreakerOpened:
		return !slices.Contains(s.named, placeOf(e))
	case event.IncidentOver:
		return e.Reason == incident.Down
	case event.BreakerRecovering, event.BreakerClosed, event.EndpointHeld, event.Failover:
		return false
	}
	return true
}

// isNew reports whether an event says something that no notice has told.
func (n *news) isNew(s *story, e *event.Event) bool {
	switch e.Kind {
	case event.BreakerOpened:
		return e.Reason != byOperator && !slices.Contains(s.toldOut, placeOf(e))
	case event.AllDown:
		return !s.toldDown
	case event.IncidentOver:
		return s.told || e.Details["interrupted"] != nil || !slices.Contains(n.on, event.BreakerOpened) && !slices.Contains(n.on, event.AllDown)
	}
	return true
}

// byOperator is the reason of a change that an operator ordered.
const byOperator = "operator"

// update updates the state of the pool by an event.
func (s *story) update(e *event.Event) {
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

// markTold records that people will know of an event.
func (s *story) markTold(e *event.Event) {
	switch e.Kind {
	case event.BreakerOpened:
		s.told, s.toldOut = true, append(s.toldOut, placeOf(e))
		if len(s.named) < maxNamed && !slices.Contains(s.named, placeOf(e)) {
			s.named = append(s.named, placeOf(e))
		}
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

// without removes a name from names.
func without(names []string, one string) []string {
	return slices.DeleteFunc(names, func(name string) bool { return name == one })
}

// add adds events to the pending notice.
func (s *story) add(i item) {
	if s.pending == nil {
		s.pending = &i
		return
	}
	s.pending.count += i.count
	s.pending.urgent = s.pending.urgent || i.urgent
	if weight(i.main.Kind) >= weight(s.pending.main.Kind) || i.main.Incident > s.pending.main.Incident {
		s.pending.main = i.main
	}
}

// weight returns how important an event of an incident is. A notice names the most important event.
func weight(kind string) int {
	switch kind {
	case event.AllDown, event.PoolUp, event.IncidentOver:
		return 2
	case event.BreakerOpened:
		return 1
	}
	return 0
}

// dueAt returns when the pool's next notice is due; zero if it has none, or one is under way.
func (s *story) dueAt() time.Time {
	if s.pending == nil || s.sending != nil {
		return time.Time{}
	}
	at := s.pending.first.Add(gather)
	if s.notBefore.After(at) {
		at = s.notBefore
	}
	if calm := s.latest.Add(pauseAfter(s.inARow)); !s.pending.urgent && calm.After(at) {
		at = calm
	}
	return at
}

// pauseAfter returns how long what is not urgent waits after so many notices in a row.
func pauseAfter(notices int) time.Duration {
	return min(longestPause, atMostEvery<<min(10, max(0, notices-quickNotices+1)))
}

// next returns the story whose notice is due first, and when. It returns nil if there is none.
func (n *news) next() (first *story, at time.Time) {
	for _, s := range n.pools {
		if due := s.dueAt(); !due.IsZero() && (first == nil || due.Before(at)) {
			first, at = s, due
		}
	}
	return first, at
}

// startSending makes the pending notice the one that is under way, and returns it.
func (s *story) startSending() *item {
	s.sending, s.pending = s.pending, nil
	return s.sending
}

// markSent records that the notice has arrived.
func (s *story) markSent(now time.Time) {
	s.sending, s.failures, s.notBefore = nil, 0, now.Add(atMostEvery)
	s.latest, s.inARow = now, s.inARow+1
}

// markFailed records that a try has failed. It returns false if the notice is given up. Then people
// know of nothing, and later events are news again.
func (s *story) markFailed(now time.Time, f failure) (again bool) {
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
	s.notBefore = now.Add(max(wait, min(f.retryAfter, longestRetry)))
	newer := s.pending
	s.pending = lost
	if newer != nil {
		s.add(*newer)
	}
	return true
}

// prune forgets pools without a notice or an incident, if there are many pools.
func (n *news) prune() {
	if len(n.pools) < maxPools {
		return
	}
	for name, s := range n.pools {
		if s.pending == nil && s.sending == nil && (s.over || s.incident == 0) {
			delete(n.pools, name)
		}
	}
}
