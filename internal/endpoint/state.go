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
	PollAllIn  = 250 * time.Millisecond // the time between trials while all endpoints are down
	ForgetSeen = 10 * time.Minute       // a dynamic endpoint that is not seen for so long is forgotten
	driftEvery = time.Second            // the time between updates of drifting scores in an idle pool
)

// Key identifies an endpoint of a pool. Two endpoints may share an address. An endpoint with a new
// address is another endpoint.
type Key struct{ Name, Address string }

// State is all that is known about an endpoint: its own condition and its scopes', its attempts in
// flight, orders, checks and counts. It belongs to the pool and outlives configurations. Methods take
// the configuration that they need.
type State struct {
	Key
	Owner owner

	Busy atomic.Int64 // attempts in flight

	// Finishes is set once an event stream of the endpoint has said that it is complete.
	Finishes atomic.Bool

	usual atomic.Int64 // Usual of an endpoint at rest, plus one; 0: it is not at rest; written under Mu

	Mu       sync.Mutex
	rest     rest
	own      condition // the condition of the whole endpoint
	inFlight inFlight
	Left     bool // the endpoint has left the pool; attempts of earlier requests go on
	samples  samples
	scopes   scopes
	unscoped unscoped
	checks   checks
	sample   score.StepTally // since the trend's latest step
	totals   totals
	last     lastOutcomes
	failures recentFailures
	order    *Order    // the operator's drain, trip or enable; nil: none
	barred   bool      // the order or the plan lets no attempt in
	vacant   int       // attempts in flight that fill no slot
	quotas   []metered // one for each limit
	share    share     // this instance's part of the limits
	taken    uint64    // attempts that used a limit
	refused  uint64    // attempts refused because a limit was used up
	booking  quota.Booking
	used     uint64    // tokens that answers have stated
	latest   stated    // the quotas that answers of scopes have stated last, for the status
	relieved time.Time // when relieveLocked looked for vacant attempts last

	turnedAway bool // an attempt was turned away for lack of room, and none has ended since

	settings atomic.Pointer[settings] // set by an operator; nil: as configured; written under Mu
	planned  atomic.Pointer[Plan]     // set by a schedule; nil: as configured; written under Mu

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
	changed = s.openAfterRun(&s.own, now, cfg) || changed
	for _, c := range s.scopes.list {
		moved, at := c.tick(now, cfg, &s.sample)
		moved = s.openAfterRun(c, now, cfg) || moved
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

// TakeStep returns whether the endpoint is in service, whether an operator forces it in or out, and
// the tally of the trend's step so far. over ends the step.
func (s *State) TakeStep(cfg *breaker.Config, over bool) (serving, forced bool, sample score.StepTally) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	sample = s.sample
	if over {
		s.sample = score.StepTally{}
	}
	return s.own.breaker.Allowed(cfg) > 0, s.own.breaker.State >= breaker.ForcedOpen, sample
}

// ToldOut reports whether, by the latest events, the breaker of the endpoint or of one of its scopes
// is open or recovering, but not forced open.
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

// Forgettable reports whether the state may be forgotten: it has no attempts in flight, no orders, and
// a closed breaker.
func (s *State) Forgettable() bool {
	if s.Steered() {
		return false
	}
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.Busy.Load() == 0 && s.own.breaker.State == breaker.Closed
}
