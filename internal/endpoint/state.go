package endpoint

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/quota"
	"github.com/apifailover/caddy-failover/internal/score"
)

const (
	PollAllIn  = 250 * time.Millisecond // between trials while all endpoints are down
	ForgetSeen = 10 * time.Minute       // after which an unseen dynamic endpoint is forgotten
	driftEvery = time.Second            // between updates of drifting scores in an idle pool
)

// Key identifies an endpoint of a pool. Two endpoints may share an address, and
// an endpoint with a new address is another one.
type Key struct{ Name, Address string }

// State is what is known about an endpoint: its condition, and beside it what is the endpoint's
// alone, such as its attempts in flight, orders, checks and counts. It belongs to the pool and
// outlives configurations; methods take the configuration they need.
type State struct {
	Key
	Owner owner

	Busy  atomic.Int64 // attempts in flight
	usual atomic.Int64 // Usual of an endpoint at rest, plus one; 0: it is not at rest; written under Mu

	Mu       sync.Mutex
	rest     rest
	own      condition // of the whole endpoint, whatever the scope of a call
	inFlight inFlight
	Left     bool // the endpoint has left the pool; attempts of earlier requests go on
	samples  samples
	scopes   scopes
	checks   checks
	sample   score.StepTally // since the trend's latest step
	totals   totals
	last     lastOutcomes
	failures recentFailures
	order    *Order    // that an operator holds, nil for none
	barred   bool      // by the order, or the plan: no attempts
	vacant   int       // attempts in flight that fill no slot
	quotas   []metered // one for each limit
	part     float64   // of the limits, that this instance takes; 0: all
	taken    uint64    // attempts that took from a limit
	refused  uint64    // attempts turned away for want of room in a limit
	booking  quota.Booking
	used     uint64    // tokens that answers have stated
	latest   stated    // the quotas that answers of scopes have stated last, to be shown
	relieved time.Time // when such attempts were looked for last, since the endpoint was full

	turnedAway bool // an attempt has been, for want of room, since one ended last

	settings atomic.Pointer[settings] // by an operator; nil: as configured; written under Mu
	planned  atomic.Pointer[Plan]     // by a schedule; nil: as configured; written under Mu

	fresh *Counted // since the last fold
	spare *Counted // empty, or nil
}

// totals count attempts since the state was made. They are up to date after countLocked.
type totals struct{ Attempts, Successes, Failures, Cancelled uint64 }

// add counts the outcome of an attempt.
func (t *totals) add(o outcome.Outcome) {
	switch {
	case o == outcome.Cancelled || o == outcome.Unsent:
		t.Cancelled++
	case o.Failed() || o == outcome.RateLimited:
		t.Failures++
	default:
		t.Successes++
	}
}

// Tick makes the changes that depend on time alone. It returns whether routing tables must be
// rebuilt, when the next tick is due (zero: none), and the events of its changes.
func (s *State) Tick(now time.Time, cfg *breaker.Config) (changed bool, due time.Time, news []event.Event) {
	s.Mu.Lock()
	s.countLocked(now)
	changed, due = s.own.tick(now, cfg, &s.sample)
	for _, c := range s.scopes.list {
		moved, at := c.tick(now, cfg, &s.sample)
		changed = s.spreadLocked(c, now, cfg) || moved || changed
		due = Earliest(due, at)
	}
	s.scopes.tick(now)
	s.rest.news = false
	return changed, due, s.unlock(nil)
}

// Leave marks the endpoint as gone from the pool, and reports whether attempts are in flight.
// The owner learns of later ones by BusyOutside.
func (s *State) Leave() (busy bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	s.Left = true
	return !s.inFlight.empty()
}

// TakeStep returns whether the endpoint is in service, whether an operator forces it in or
// out, and the tally of the trend's step. over ends that step.
func (s *State) TakeStep(cfg *breaker.Config, over bool) (serving, forced bool, sample score.StepTally) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	sample = s.sample
	if over {
		s.sample = score.StepTally{}
	}
	return s.own.breaker.Allowed(cfg) > 0, s.own.breaker.State >= breaker.ForcedOpen, sample
}

// ToldOut reports whether the breaker of the endpoint or of one of its scopes is open or
// recovering as events show it, without an operator's order.
func (s *State) ToldOut() bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	out := func(c *condition) bool {
		told := c.breaker.Told.State
		return told == breaker.Open || told == breaker.Recovering
	}
	return out(&s.own) || slices.ContainsFunc(s.scopes.list, out)
}

// SetFlapping sets whether the breaker opens and closes unusually often.
func (s *State) SetFlapping(flapping bool) {
	s.Mu.Lock()
	s.own.breaker.Flapping = flapping
	s.Mu.Unlock()
}

// Earliest returns the earlier of two times; a zero time is none.
func Earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Forgettable reports whether the state holds nothing but history: no attempts in flight, no
// orders, and a closed breaker.
func (s *State) Forgettable() bool {
	if s.Steered() {
		return false
	}
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.Busy.Load() == 0 && s.own.breaker.State == breaker.Closed
}
