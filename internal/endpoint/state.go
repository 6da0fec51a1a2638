package endpoint

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/score"
	"github.com/apifailover/caddy-failover/internal/slowness"
)

const (
	firstHold  = time.Second
	longHold   = time.Minute
	peakDecay  = 10 * time.Second
	PollAllIn  = 250 * time.Millisecond // between trials while all endpoints are down
	ForgetSeen = 10 * time.Minute       // after which an unseen dynamic endpoint is forgotten
	driftEvery = time.Second            // between updates of drifting scores in an idle pool
)

// Key identifies an endpoint of a pool. Two endpoints may share an address, and
// an endpoint with a new address is another one.
type Key struct{ Name, Address string }

// State is what is known about an endpoint. It belongs to the pool and
// outlives configurations; methods take the configuration they need.
type State struct {
	Key
	Owner owner

	Busy atomic.Int64  // attempts in flight
	peak atomic.Uint64 // float64 bits: peak EWMA of latency, seconds

	begun uint64 // attempts that began; guarded by Mu

	Mu        sync.Mutex
	breaker   breaker.Breaker
	holdUntil time.Time
	holdStep  time.Duration
	holdBy    *Ticket       // the attempt that caused the hold; nil once it is over
	holdSoft  bool          // the request may have caused the hold: a success ends it, and it takes no last endpoint out
	served    time.Time     // of the latest success that has been counted
	passing   passing       // whether calls pass the endpoint over
	doubts    []failure     // failures in doubt, oldest first
	news      []event.Event // to be emitted once Mu is free
	refused   int           // requests in a row that the peer's HTTP/2 layer refused alone
	inFlight  inFlight
	Left      bool // the endpoint has left the pool; attempts of earlier requests go on
	samples   samples
	tally     score.Tally // since the latest tick
	Scorer    score.Scorer
	slowness  slowness.Detector
	inVain    unanswered
	quiet     quiet
	checks    checks
	sample    score.StepTally // since the trend's latest step
	peakAt    time.Time       // when peak was updated
	lastTried time.Time       // when an attempt last began while the breaker was not closed
	totals    totals
	last      lastOutcomes
	order     *Order    // that an operator holds, nil for none
	barred    bool      // by the order, or the plan: no attempts
	vacant    int       // attempts in flight that fill no slot
	quotas    []metered // one for each limit
	relieved  time.Time // when such attempts were looked for last, since the endpoint was full

	turnedAway bool // an attempt has been, for want of room, since one ended last; guarded by mu

	settings atomic.Pointer[settings] // by an operator; nil: as configured; written under mu
	planned  atomic.Pointer[Plan]     // by a schedule; nil: as configured; written under mu

	fresh       *Counted // since the last fold
	spare       *Counted // empty, or nil
	lastFailure outcome.Outcome

	failures causes // of attempts, since the breaker was closed last
	cause    Cause  // what opened the breaker; empty while it is closed
	causedAt time.Time
	caused   uint64 // how often that had come then
	slowest  Cause  // the latest slow attempt
	heldFor  Cause  // what brought the latest hold about
}

// totals count attempts since the state was made. They are up to date after countLocked.
type totals struct{ Attempts, Successes, Failures, Cancelled uint64 }

// holdLocked holds the endpoint because of an attempt's response: for wait, or, if that is
// 0, for a second, doubled each time up to a minute. soft says that the request may have
// caused the response.
func (s *State) holdLocked(t *Ticket, now time.Time, wait time.Duration, soft bool) {
	switch {
	case wait <= 0 && now.Before(s.holdUntil):
		return // the attempt began before the hold
	case wait <= 0:
		s.holdStep = min(longHold, max(firstHold, 2*s.holdStep))
		wait = s.holdStep
	}
	until := now.Add(min(wait, outcome.MaxHold))
	if !until.After(s.holdUntil) {
		return
	}
	if last := s.failures.latest(); last != nil {
		s.heldFor = last.Cause
	}
	s.holdUntil, s.holdBy, s.holdSoft = until, t, soft
	s.news = append(s.news, *s.heldLocked(now))
}

func (s *State) endHoldLocked() {
	s.holdUntil, s.holdBy, s.holdSoft = time.Time{}, nil, false
}

// peakLocked adds a latency to the peak EWMA, which rises at once and falls slowly (Finagle).
func (s *State) peakLocked(now time.Time, latency time.Duration) {
	sample, old := latency.Seconds(), math.Float64frombits(s.peak.Load())
	if sample < old {
		keep := math.Exp(-float64(max(0, now.Sub(s.peakAt))) / float64(peakDecay))
		sample = old*keep + sample*(1-keep)
	}
	s.peakAt = now
	s.peak.Store(math.Float64bits(sample))
}

// Load returns the expected wait of a call in seconds, which balance least_latency compares.
func (s *State) Load() float64 {
	return float64(s.Busy.Load()+1) * math.Float64frombits(s.peak.Load())
}

// Tick makes the changes that depend on time alone. It returns whether routing tables must be
// rebuilt, when the next tick is due (zero: none), and the events of its changes.
func (s *State) Tick(now time.Time, cfg *breaker.Config) (changed bool, due time.Time, news []event.Event) {
	changed, news = s.update(func() (changed bool) {
		changed, due = s.tickLocked(now, cfg)
		return changed
	})
	return changed, due, news
}

func (s *State) tickLocked(now time.Time, cfg *breaker.Config) (changed bool, due time.Time) {
	s.countLocked(now)
	changed = s.doubtsOverLocked(now, cfg)
	changed = s.breaker.Tick(now, cfg) || changed
	s.Scorer.Fold(now, s.tally)
	s.sample.Add(s.tally)
	s.tally = score.Tally{}
	if s.breaker.State == breaker.Open {
		s.Scorer.Forget()
		s.slowness.Opened()
		s.inVain.run = 0
	}
	changed = s.watchQuietLocked(now, cfg) || changed
	s.slowness.Refresh(now, cfg.SlowFactor)
	due = s.breaker.Due(cfg)
	if s.Scorer.Drifts() {
		due = Earliest(due, now.Add(driftEvery))
	}
	if now.Before(s.passing.until) {
		due = Earliest(due, s.passing.until)
	} else if s.passing.due(now) && !s.passing.shown {
		s.passing.shown, changed = true, true
	}
	if now.Before(s.holdUntil) {
		due = Earliest(due, s.holdUntil)
	} else if !s.holdUntil.IsZero() {
		s.endHoldLocked()
		changed = true
	}
	return changed, due
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
	return s.breaker.Allowed(cfg) > 0, s.breaker.State >= breaker.ForcedOpen, sample
}

// SetAllOut sets whether every endpoint of the pool is out.
func (s *State) SetAllOut(out bool) {
	s.Mu.Lock()
	s.breaker.AllOut = out
	s.Mu.Unlock()
}

// ToldOut reports whether the breaker is open or recovering as events show it, without an
// operator's order.
func (s *State) ToldOut() bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	told := s.breaker.Told.State
	return told == breaker.Open || told == breaker.Recovering
}

// SetFlapping sets whether the breaker opens and closes unusually often.
func (s *State) SetFlapping(flapping bool) {
	s.Mu.Lock()
	s.breaker.Flapping = flapping
	s.Mu.Unlock()
}

// Earliest returns the earlier of two times; a zero time is none.
func Earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Rescore computes the score and publishes it if it moved by score.Step or more, or back to
// 1. It reports whether it did.
func (s *State) Rescore(cfg *breaker.Config, reference, usual time.Duration) bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	lost := 1 - s.Scorer.Score(cfg.FailureRatio, reference, usual)
	if diff := lost - s.Scorer.Lost; diff < score.Step && diff > -score.Step && (lost != 0 || s.Scorer.Lost == 0) {
		return false
	}
	s.Scorer.Lost = lost
	return true
}

// Forgettable reports whether the state holds nothing but history: no attempts in flight, no
// orders, and a closed breaker.
func (s *State) Forgettable() bool {
	if s.Steered() {
		return false
	}
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.Busy.Load() == 0 && s.breaker.State == breaker.Closed
}
