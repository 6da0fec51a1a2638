package failover

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
	owner owner

	busy atomic.Int64  // attempts in flight
	peak atomic.Uint64 // float64 bits: peak EWMA of latency, seconds

	begun uint64 // attempts; guarded by mu

	mu        sync.Mutex
	breaker   breaker.Breaker
	holdUntil time.Time
	holdStep  time.Duration
	holdBy    *ticket       // what brought the hold about; nil once it is over
	holdSoft  bool          // it may be the request's own: it ends with a success, and takes no last endpoint out
	served    time.Time     // the latest success, as far as it has been counted
	doubts    []failure     // in doubt, oldest first
	news      []event.Event // to be emitted when mu is free
	refused   int           // requests in a row that the peer's HTTP/2 layer refused alone
	inFlight  inFlight
	left      bool // the pool; attempts of requests from before that go on
	samples   samples
	tally     score.Tally // since the last tick
	scorer    score.Scorer
	slowness  slowness.Detector
	checks    checks
	sample    score.StepTally // since the trend's last step
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
	lastFailure outcome.Outcome
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
	return s.breaker.State == breaker.Closed && s.holdUntil.IsZero() && !s.barred && !s.left
}

func (s *endpointState) acquireLocked(f flight, now time.Time, cfg *breaker.Config, limit int, how admission) (ok bool) {
	if s.barred || s.fullLocked(limit) {
		return false
	}
	if now.Before(s.holdUntil) && !s.holdSoft && how != admitAnyway && how != admitHeld {
		return false
	}
	t := f.own()
	switch how {
	case admitProven:
		if s.breaker.State == breaker.Recovering && !cfg.Off {
			return false
		}
		fallthrough
	case admitNormally, admitHeld:
		t.permit, ok = s.breaker.Acquire(now, cfg)
	case admitAllDown:
		t.permit, ok = s.breaker.AcquireLast(now, cfg)
	case admitInNeed:
		t.permit, ok = breaker.Permit{Generation: s.breaker.Generation}, s.breaker.State == breaker.Open
	case admitAnyway:
		if t.permit, ok = s.breaker.AcquireLast(now, cfg); !ok && s.breaker.State != breaker.ForcedOpen {
			t.permit, ok = breaker.Permit{Generation: s.breaker.Generation}, true
		}
	}
	if !ok {
		return false
	}
	t.watchful = s.breaker.State == breaker.Recovering
	if s.breaker.State != breaker.Closed {
		s.lastTried = now
	}
	s.begun++
	s.linkLocked(f)
	return true
}

func (s *endpointState) linkLocked(f flight) {
	s.busy.Add(1)
	s.inFlight.add(f)
	if s.left {
		s.owner.busyOutside(s)
	}
}

func (s *endpointState) unlinkLocked(t *ticket) {
	if s.inFlight.remove(t) {
		s.busy.Add(-1)
		if t.pace != nil {
			s.vacateLocked(t.pace, false)
		}
	}
}

// beganAnswer notes that an attempt has begun to answer well.
func (s *endpointState) beganAnswer(f flight, now time.Time, cfg *breaker.Config) {
	latency := f.firstByte()
	s.mu.Lock()
	s.countLocked(now)
	before := s.breaker.Generation
	changed := s.judgeLocked(f, now, outcome.Success, latency)
	if t := f.own(); t.slower && s.breaker.Opened == breaker.ReasonSlower {
		changed = s.reportSlowLocked(t, now, cfg) || changed
	} else {
		changed = s.breaker.Answered(now, cfg, &t.permit, isSlow(f, now, cfg)) || changed
	}
	s.unlockAndTell(before, changed)
}

// settle takes what an attempt came to, once; release is set when the attempt is no
// longer in flight either.
func (s *endpointState) settle(f flight, now time.Time, cfg *breaker.Config, o outcome.Outcome, release bool, doubt doubtStage) {
	t, latency := f.own(), f.firstByte()
	s.mu.Lock()
	if release {
		s.unlinkLocked(t)
	}
	if t.outcome != outcome.Pending {
		s.mu.Unlock()
		return
	}
	s.countLocked(now)
	t.outcome, t.doubt = o, doubt
	s.last.add(o)
	changed := s.judgeLocked(f, now, o, latency)
	before := s.breaker.Generation
	switch {
	case o == outcome.Cancelled || o == outcome.Unsent:
		s.totals.Cancelled++
		changed = s.breaker.Cancel(now, t.permit) || changed
	case o == outcome.RateLimited:
		s.totals.Failures++
		s.breaker.Cancel(now, t.permit)
		if doubt == noDoubt {
			s.holdLocked(t, now, t.retryAfter, false)
			changed = true
		} else {
			s.doubts = append(s.doubts, failure{t, now, breaker.Result{}})
		}
	case o.Failed() && t.refusedAlone && !s.refusedAgainLocked():
		s.totals.Failures++
		t.doubt = cleared
		changed = s.breaker.Cancel(now, t.permit) || changed
	default:
		r := breaker.Result{Failed: o.Failed(), Denied: o == outcome.Denied, Slow: isSlow(f, now, cfg), Slower: t.slower}
		changed = s.decideLocked(t, now, cfg, r) || changed
	}
	s.settledLocked(f, now, o, latency)
	s.unlockAndTell(before, changed)
}

// outcomeSoFar is what an attempt was settled with, or success while a good answer is
// under way.
func (s *endpointState) outcomeSoFar(f flight) outcome.Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := f.own().outcome; o != outcome.Pending || f.firstByte() == 0 {
		return o
	}
	return outcome.Success
}

// decideLocked takes a success, or a failure that is the endpoint's as far as is known.
func (s *endpointState) decideLocked(t *ticket, now time.Time, cfg *breaker.Config, r breaker.Result) (changed bool) {
	if s.breaker.State != breaker.Closed {
		s.breaker.AttemptEnded(r.Failed)
	}
	if r.Failed {
		s.totals.Failures++
		if t.doubt != noDoubt {
			return s.doubtLocked(t, now, cfg, r)
		}
		s.tally.Failures++
	} else {
		s.totals.Successes++
		s.holdStep, s.refused, s.served = 0, 0, now
		if s.holdSoft {
			s.endHoldLocked()
			changed = true
		}
	}
	s.tally.Calls++
	if t.reported && !r.Failed {
		return changed // it was a slow call, whatever came later
	}
	return s.breaker.Report(now, cfg, t.permit, r) || changed
}

// refusedAgainLocked notes a request that the peer's HTTP/2 layer refused alone, which
// may be because of the request, and tells whether another one has been refused since
// the latest success.
func (s *endpointState) refusedAgainLocked() bool {
	s.refused++
	return s.refused > 1
}

// isSlow tells whether the first byte took, or has taken by now, longer than
// what the pool calls slow.
func isSlow(f flight, now time.Time, cfg *breaker.Config) bool {
	return cfg.SlowRatio > 0 && taken(f, now) > cfg.SlowAfter
}

// holdLocked keeps calls away for a time because of an attempt's answer: for as long as
// the endpoint asked for, or a second that doubles to a minute. Soft says that the
// answer may be the request's own.
func (s *endpointState) holdLocked(t *ticket, now time.Time, pause time.Duration, soft bool) {
	switch {
	case pause <= 0 && now.Before(s.holdUntil):
		return // an answer to a call that was under way already
	case pause <= 0:
		s.holdStep = min(longHold, max(firstHold, 2*s.holdStep))
		pause = s.holdStep
	}
	until := now.Add(min(pause, outcome.MaxHold))
	if !until.After(s.holdUntil) {
		return
	}
	s.holdUntil, s.holdBy, s.holdSoft = until, t, soft
	s.news = append(s.news, *s.heldLocked(now))
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
// to be built anew, when there is something to do next, and the events of what it
// brought about.
func (s *endpointState) tick(now time.Time, cfg *breaker.Config) (changed bool, due time.Time, news []event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.breaker.Generation
	s.countLocked(now)
	changed = s.doubtsOverLocked(now, cfg)
	changed = s.breaker.Tick(now, cfg) || changed
	news = s.newsLocked(before)
	s.scorer.Fold(now, s.tally)
	s.sample.Add(s.tally)
	s.tally = score.Tally{}
	if s.breaker.State == breaker.Open {
		s.scorer.Forget()
		s.slowness.Opened()
	}
	s.slowness.Refresh(now, cfg.SlowFactor)
	due = s.breaker.Due(cfg)
	if now.Before(s.holdUntil) {
		due = earliest(due, s.holdUntil)
	} else if !s.holdUntil.IsZero() {
		s.endHoldLocked()
		changed = true
	}
	return changed, due, news
}

// available is how much of its normal traffic the endpoint can have now.
func (s *endpointState) available(now time.Time, cfg *breaker.Config) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.barred || now.Before(s.holdUntil) {
		return 0
	}
	return s.breaker.Allowed(cfg) * (1 - s.scorer.Lost)
}

// returns is when the endpoint will be tried again at the earliest, now if
// nothing keeps it from that and zero if only an operator can bring it about;
// and whether a hold is all that keeps calls away.
func (s *endpointState) returns(now time.Time, cfg *breaker.Config) (at time.Time, held bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.breaker.State == breaker.ForcedOpen {
		return time.Time{}, false
	}
	at = now
	open := s.breaker.State == breaker.Open && !cfg.Off
	if open && s.breaker.Until.After(at) {
		at = s.breaker.Until
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
	if s.breaker.State != breaker.Open || s.barred || now.Before(s.holdUntil) ||
		s.breaker.Latest == breaker.CheckHasFailed || !s.lastFailure.MayBeTheRequests() {
		return 0
	}
	return s.breaker.Served
}

// idleSince is when the endpoint was last tried, and whether it could be tried
// now in spite of an open period.
func (s *endpointState) idleSince(now time.Time, cfg *breaker.Config, limit int) (at time.Time, free bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	free = s.breaker.State != breaker.ForcedOpen && !now.Before(s.holdUntil) &&
		!s.breaker.TrialTaken(now, cfg) && !s.fullLocked(limit)
	if s.lastTried.Before(s.breaker.Changed) {
		return s.breaker.Changed, free // until when it was closed
	}
	return s.lastTried, free
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
