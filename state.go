package failover

import (
	"cmp"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apifailover/caddy-failover/internal/sla"
)

const (
	firstHold  = time.Second
	longHold   = time.Minute
	peakDecay  = 10 * time.Second
	pollAllIn  = 250 * time.Millisecond // between trials while all endpoints are down
	forgetSeen = 10 * time.Minute       // dynamic endpoints not seen for so long
)

// endpointKey tells endpoints of a pool apart: two may share an address, and
// one that moves to another address is another endpoint.
type endpointKey struct{ name, address string }

// endpointState is what is known about an endpoint. It belongs to the pool and
// outlives configurations; methods take the configuration they need.
type endpointState struct {
	endpointKey
	pool *pool

	busy atomic.Int64  // attempts in flight
	peak atomic.Uint64 // float64 bits: peak EWMA of latency, seconds

	begun uint64 // attempts; guarded by mu

	mu        sync.Mutex
	breaker   breaker
	holdUntil time.Time
	holdStep  time.Duration
	holdBy    *attempt  // what brought the hold about; nil once it is over
	holdSoft  bool      // it may be the request's own: it ends with a success, and takes no last endpoint out
	served    time.Time // the latest success, as far as it has been counted
	doubts    []doubt   // oldest first
	refused   int       // requests in a row that the peer's HTTP/2 layer refused alone
	inFlight  inFlight
	left      bool // the pool; attempts of requests from before that go on
	samples   samples
	tally     tally // since the last tick
	scorer    scorer
	slowness  slowness
	checks    checks
	sample    stepSample // since the trend's last step
	peakAt    time.Time
	lastTried time.Time // while it was not closed
	totals    totals
	last      lastOutcomes
	lever     *order // that an operator holds, nil for none
	barred    bool   // by the lever: no attempts
	vacant    int    // attempts in flight that fill no slot

	settings atomic.Pointer[settings] // by an operator; nil: as configured; written under mu

	fresh       *counted // since the last fold
	spare       *counted // empty, or nil
	lastFailure outcome

	// Guarded by pool.mu.
	series   *sla.Series // by name: endpoints that had the name before are in it
	total    counted
	wasDown  bool
	refs     int // handlers that use it
	rescored time.Time
	trend    trend     // guarded by pool.mu
	seen     time.Time // when last among the upstreams, for dynamic ones
}

// totals count attempts since the state was made. They are up to date after
// countLocked.
type totals struct{ Attempts, Successes, Failures, Cancelled uint64 }

// admission is how hard an attempt tries to get in.
type admission uint8

const (
	admitNormally admission = iota
	admitProven             // only where the endpoint is not recovering
	admitHeld               // past a hold, which the call has waited for
	admitAllDown            // past an open period, since every endpoint is out
	admitInNeed             // the same for an endpoint that still answers some calls; it is no trial
	admitAnyway             // past everything but the operator and the limit
)

// wellLocked tells whether the endpoint takes whatever comes, as nearly always.
func (s *endpointState) wellLocked() bool {
	return s.breaker.state == stateClosed && s.holdUntil.IsZero() && !s.barred && !s.left
}

// acquireAndUnlock is acquire at an endpoint that may refuse.
func (s *endpointState) acquireAndUnlock(a *attempt, now time.Time, cfg *breakerConfig, limit int, how admission) bool {
	before := s.breaker.generation
	ok := s.acquireLocked(a, now, cfg, limit, how)
	e := s.transitionLocked(before)
	s.mu.Unlock()
	if e != nil {
		s.pool.emit(*e)
	}
	return ok
}

func (s *endpointState) acquireLocked(a *attempt, now time.Time, cfg *breakerConfig, limit int, how admission) (ok bool) {
	if s.barred || s.fullLocked(limit) {
		return false
	}
	if now.Before(s.holdUntil) && !s.holdSoft && how != admitAnyway && how != admitHeld {
		return false
	}
	switch how {
	case admitProven:
		if s.breaker.state == stateRecovering && !cfg.off {
			return false
		}
		fallthrough
	case admitNormally, admitHeld:
		a.permit, ok = s.breaker.acquire(now, cfg)
	case admitAllDown:
		a.permit, ok = s.breaker.acquireLast(now, cfg)
	case admitInNeed:
		a.permit, ok = permit{generation: s.breaker.generation}, s.breaker.state == stateOpen
	case admitAnyway:
		if a.permit, ok = s.breaker.acquireLast(now, cfg); !ok && s.breaker.state != stateForcedOpen {
			a.permit, ok = permit{generation: s.breaker.generation}, true
		}
	}
	if !ok {
		return false
	}
	a.watchful = s.breaker.state == stateRecovering
	if s.breaker.state != stateClosed {
		s.lastTried = now
	}
	s.begun++
	s.linkLocked(a)
	return true
}

func (s *endpointState) linkLocked(a *attempt) {
	s.busy.Add(1)
	s.inFlight.add(a)
	if s.left {
		s.pool.leaving.add(s)
	}
}

func (s *endpointState) unlinkLocked(a *attempt) {
	if s.inFlight.remove(a) {
		s.busy.Add(-1)
		if a.is(started) && a.sent != nil {
			s.vacateLocked(a.sent, false)
		}
	}
}

// answered notes that an attempt has begun to answer well.
func (s *endpointState) answered(a *attempt, now time.Time, cfg *breakerConfig) {
	latency := a.firstByte()
	s.mu.Lock()
	s.countLocked(now)
	before := s.breaker.generation
	changed := s.judgeLocked(a, now, success, latency)
	if a.slower && s.breaker.opened == reasonSlower {
		changed = s.reportSlowLocked(a, now, cfg) || changed
	} else {
		changed = s.breaker.answered(now, cfg, &a.permit, a.slow(now, cfg)) || changed
	}
	e := s.transitionLocked(before)
	s.mu.Unlock()
	if e != nil {
		s.pool.emit(*e)
	}
	if changed {
		s.pool.poke()
	}
}

// report gives back what an attempt came to, once; release is set when the
// attempt is no longer in flight either.
func (s *endpointState) report(a *attempt, now time.Time, cfg *breakerConfig, o outcome, release bool, doubt doubtStage) {
	latency := a.firstByte()
	s.mu.Lock()
	if a.outcome != pending {
		if release {
			s.unlinkLocked(a)
		}
		s.mu.Unlock()
		return
	}
	s.countLocked(now)
	a.outcome, a.doubt = o, doubt
	s.last.add(o)
	if release {
		s.unlinkLocked(a)
	}
	changed := s.judgeLocked(a, now, o, latency)
	before := s.breaker.generation
	var held *Event
	switch {
	case o == cancelled || o == unsent:
		s.totals.Cancelled++
		changed = s.breaker.cancel(now, a.permit) || changed
	case o == rateLimited:
		s.totals.Failures++
		if s.holdLocked(a, now) {
			held = s.heldLocked(now)
		}
		s.breaker.cancel(now, a.permit)
		changed = true
	case o.failed() && a.is(refusedStream) && !s.refusedAgainLocked():
		s.totals.Failures++
		a.doubt = cleared
		changed = s.breaker.cancel(now, a.permit) || changed
	default:
		r := result{failed: o.failed(), denied: o == denied, slow: a.slow(now, cfg), slower: a.slower}
		changed = s.decideLocked(a, now, cfg, r) || changed
	}
	s.settledLocked(a, now, o, latency)
	e := cmp.Or(s.transitionLocked(before), held)
	s.mu.Unlock()
	if e != nil {
		s.pool.emit(*e)
	}
	if changed {
		s.pool.poke()
	}
}

// decideLocked takes a success, or a failure that is the endpoint's as far as is known.
func (s *endpointState) decideLocked(a *attempt, now time.Time, cfg *breakerConfig, r result) (changed bool) {
	if s.breaker.state != stateClosed {
		s.breaker.attemptEnded(r.failed)
	}
	if r.failed {
		s.totals.Failures++
		if a.doubt != noDoubt {
			return s.doubtLocked(a, now, cfg, r)
		}
		s.tally.failures++
	} else {
		s.totals.Successes++
		s.holdStep, s.refused, s.served = 0, 0, now
		if s.holdSoft {
			s.endHoldLocked()
			changed = true
		}
	}
	s.tally.calls++
	if a.reported && !r.failed {
		return changed // it was a slow call, whatever came later
	}
	return s.breaker.report(now, cfg, a.permit, r) || changed
}

// refusedAgainLocked notes a request that the peer's HTTP/2 layer refused alone, which
// may be because of the request, and tells whether another one has been refused since
// the latest success.
func (s *endpointState) refusedAgainLocked() bool {
	s.refused++
	return s.refused > 1
}

// slow tells whether the first byte took, or has taken by now, longer than
// what the pool calls slow.
func (a *attempt) slow(now time.Time, cfg *breakerConfig) bool {
	if cfg.slowRatio == 0 {
		return false
	}
	latency := a.firstByte()
	if latency == 0 {
		latency = a.waitedFor(now)
	}
	return latency > cfg.slowAfter
}

// holdLocked keeps calls away for a time: as long as the endpoint asked for, or
// a second that doubles to a minute. It returns whether that is news.
func (s *endpointState) holdLocked(a *attempt, now time.Time) bool {
	pause := a.retryAfter
	switch {
	case a.doubt == doubtedBefore:
		pause = doubtfulHold
	case pause <= 0 && now.Before(s.holdUntil):
		return false // an answer to a call that was under way already
	case pause <= 0:
		s.holdStep = min(longHold, max(firstHold, 2*s.holdStep))
		pause = s.holdStep
	}
	until := now.Add(min(pause, maxHold))
	if !until.After(s.holdUntil) {
		return false
	}
	s.holdUntil, s.holdBy, s.holdSoft = until, a, a.doubt != noDoubt
	return true
}

func (s *endpointState) endHoldLocked() {
	s.holdUntil, s.holdBy, s.holdSoft = time.Time{}, nil, false
}

// peakLocked follows latency up at once and down slowly (Finagle's peak EWMA).
func (s *endpointState) peakLocked(now time.Time, latency time.Duration) {
	sample, old := latency.Seconds(), math.Float64frombits(s.peak.Load())
	if sample < old {
		keep := math.Exp(-float64(max(0, now.Sub(s.peakAt))) / float64(peakDecay))
		sample = old*keep + sample*(1-keep)
	}
	s.peakAt = now
	s.peak.Store(math.Float64bits(sample))
}

// load is what balance least_latency compares: expected wait, in seconds.
func (s *endpointState) load() float64 {
	return float64(s.busy.Load()+1) * math.Float64frombits(s.peak.Load())
}

// tick does what time brings about and returns whether the routing tables have
// to be built anew, when there is something to do next, and the event of a
// transition, if there was one.
func (s *endpointState) tick(now time.Time, cfg *breakerConfig) (changed bool, due time.Time, e *Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.breaker.generation
	s.countLocked(now)
	changed = s.doubtsOverLocked(now, cfg)
	changed = s.breaker.tick(now, cfg) || changed
	e = s.transitionLocked(before)
	s.scorer.fold(now, s.tally)
	s.sample.add(s.tally)
	s.tally = tally{}
	if s.breaker.state == stateOpen {
		s.scorer.forget()
		s.slowness.opened()
	}
	s.slowness.refresh(now, cfg.slowFactor)
	due = s.breaker.due(cfg)
	if now.Before(s.holdUntil) {
		due = earliest(due, s.holdUntil)
	} else if !s.holdUntil.IsZero() {
		s.endHoldLocked()
		changed = true
	}
	return changed, due, e
}

// available is how much of its normal traffic the endpoint can have now.
func (s *endpointState) available(now time.Time, cfg *breakerConfig) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.barred || now.Before(s.holdUntil) {
		return 0
	}
	return s.breaker.allowed(cfg) * (1 - s.scorer.lost)
}

// returns is when the endpoint will be tried again at the earliest, now if
// nothing keeps it from that and zero if only an operator can bring it about;
// and whether a hold is all that keeps calls away.
func (s *endpointState) returns(now time.Time, cfg *breakerConfig) (at time.Time, held bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.breaker.state == stateForcedOpen {
		return time.Time{}, false
	}
	at = now
	open := s.breaker.state == stateOpen && !cfg.off
	if open && s.breaker.until.After(at) {
		at = s.breaker.until
	}
	if s.holdUntil.After(at) {
		return s.holdUntil, !open
	}
	return at, false
}

// servesSome is the part of the calls, 0 to 1, that an endpoint which is open still
// answers well; 0 where it cannot be reached, or something else keeps calls away.
func (s *endpointState) servesSome(now time.Time) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.breaker.state != stateOpen || s.barred || now.Before(s.holdUntil) ||
		s.breaker.latest == checkHasFailed || !s.lastFailure.mayBeTheRequests() {
		return 0
	}
	return s.breaker.served
}

// idleSince is when the endpoint was last tried, and whether it could be tried
// now in spite of an open period.
func (s *endpointState) idleSince(now time.Time, cfg *breakerConfig, limit int) (at time.Time, free bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	free = s.breaker.state != stateForcedOpen && !now.Before(s.holdUntil) &&
		!s.breaker.trialTaken(now, cfg) && !s.fullLocked(limit)
	if s.lastTried.Before(s.breaker.changed) {
		return s.breaker.changed, free // until when it was closed
	}
	return s.lastTried, free
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
