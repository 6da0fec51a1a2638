package endpoint

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/slowness"
)

// How much traffic the endpoint can have, and when.

// Available returns how much of its normal traffic the endpoint can have now, 0 to 1.
func (s *State) Available(now time.Time, cfg *breaker.Config) float64 {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.availableLocked(now, cfg, false)
}

// availableLocked is Available; pastDoubt ignores a soft hold.
func (s *State) availableLocked(now time.Time, cfg *breaker.Config, pastDoubt bool) float64 {
	if s.barred || now.Before(s.holdUntil) && !(pastDoubt && s.holdSoft) {
		return 0
	}
	return s.breaker.Allowed(cfg) * (1 - s.Scorer.Lost)
}

// Assess returns how much of its normal traffic the endpoint can have now, 0 to 1, whether it
// wants a call as a trial, and whether calls pass it over. soft ignores a soft hold and passing over.
func (s *State) Assess(now time.Time, cfg *breaker.Config, soft bool) (available float64, trial, passed bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.barred || now.Before(s.holdUntil) && !(soft && s.holdSoft) {
		return 0, false, false
	}
	wants, _ := s.breaker.WantsTrial(now, cfg)
	trial = wants || s.breaker.OnTrial(cfg) || s.wantsCallLocked(now, cfg)
	available = s.availableLocked(now, cfg, soft)
	if s.passing.over() && !soft && available > 0 {
		return 0, trial || s.passing.due(now), true
	}
	return available, trial, false
}

// WantsTrial reports whether the endpoint should get the next call that can be sent elsewhere,
// because it recovers or its score brings it too few calls. urgent says that it should get any call.
func (s *State) WantsTrial(now time.Time, cfg *breaker.Config) (wants, urgent bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.wantsCallLocked(now, cfg) {
		return true, false
	}
	return s.breaker.WantsTrial(now, cfg)
}

// KeptAway reports whether an operator or a schedule keeps calls away, or else a hold does.
func (s *State) KeptAway(now time.Time) (barred, held bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.barred, !s.barred && now.Before(s.holdUntil)
}

// Returns returns when the endpoint can be tried again at the earliest: now if nothing
// prevents it, zero if only an operator can release it. held says that only a hold keeps
// calls away.
func (s *State) Returns(now time.Time, cfg *breaker.Config) (at time.Time, held bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
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

// ServesSome returns the part of the calls, 0 to 1, that an open endpoint still answers
// well. It is 0 if the endpoint cannot be reached, or if something else keeps calls away.
func (s *State) ServesSome(now time.Time) float64 {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.breaker.State != breaker.Open || s.barred || now.Before(s.holdUntil) ||
		s.breaker.Latest == breaker.CheckHasFailed || !s.lastFailure.MayBeTheRequests() {
		return 0
	}
	return s.breaker.Served
}

// IdleSince returns when the endpoint was last tried, and whether it could be tried now if
// its open period were over.
func (s *State) IdleSince(now time.Time, cfg *breaker.Config, b *Bounds) (at time.Time, free bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	free = s.breaker.State != breaker.ForcedOpen && !now.Before(s.holdUntil) &&
		!s.breaker.TrialTaken(now, cfg) && !s.fullLocked(b) && !s.readyLocked(b, now).After(now)
	if s.lastTried.Before(s.breaker.Changed) {
		return s.breaker.Changed, free // it was closed until then
	}
	return s.lastTried, free
}

// Usual returns the mean latency of good responses; 0 if it is unknown or calls are kept away.
func (s *State) Usual(now time.Time, cfg *breaker.Config) time.Duration {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.breaker.Allowed(cfg) == 0 || now.Before(s.holdUntil) {
		return 0
	}
	return s.Scorer.Typical()
}

// hedgeAtLeast is the shortest delay of a hedge.
const hedgeAtLeast = 10 * time.Millisecond

// Typically returns the quantile q of the time to the first byte, at least hedgeAtLeast; 0 if
// too few are known.
func (s *State) Typically(now time.Time, q float64) time.Duration {
	s.Mu.Lock()
	s.countLocked(now)
	known := s.slowness.Known
	s.Mu.Unlock()
	total := known.Total()
	if total < slowness.MinKnown {
		return 0
	}
	return max(hedgeAtLeast, known.Quantile(float32(q), total))
}
