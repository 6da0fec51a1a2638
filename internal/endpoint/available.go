package endpoint

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/slowness"
)

// How much traffic the endpoint can have, and when.

// Available is how much of its normal traffic the endpoint can have now.
func (s *State) Available(now time.Time, cfg *breaker.Config) float64 {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.availableLocked(now, cfg, false)
}

// availableLocked is available, past a hold that is in doubt if that is set.
func (s *State) availableLocked(now time.Time, cfg *breaker.Config, pastDoubt bool) float64 {
	if s.barred || now.Before(s.holdUntil) && !(pastDoubt && s.holdSoft) {
		return 0
	}
	return s.breaker.Allowed(cfg) * (1 - s.Scorer.Lost)
}

// Assess is how much of its normal traffic the endpoint can have now, past a hold that is soft if
// that is set; whether it is in want of a call; and whether it is passed over.
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

// WantsTrial tells whether the endpoint is recovering, or has too low a score to get calls,
// and wants to be tried, and whether it has waited for that for long.
func (s *State) WantsTrial(now time.Time, cfg *breaker.Config) (wants, urgent bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.wantsCallLocked(now, cfg) {
		return true, false
	}
	return s.breaker.WantsTrial(now, cfg)
}

// KeptAway tells whether an operator, or else a hold, keeps calls away.
func (s *State) KeptAway(now time.Time) (barred, held bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.barred, !s.barred && now.Before(s.holdUntil)
}

// Returns is when the endpoint will be tried again at the earliest, now if
// nothing keeps it from that and zero if only an operator can bring it about;
// and whether a hold is all that keeps calls away.
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

// ServesSome is the part of the calls, 0 to 1, that an endpoint which is open still
// answers well; 0 where it cannot be reached, or something else keeps calls away.
func (s *State) ServesSome(now time.Time) float64 {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.breaker.State != breaker.Open || s.barred || now.Before(s.holdUntil) ||
		s.breaker.Latest == breaker.CheckHasFailed || !s.lastFailure.MayBeTheRequests() {
		return 0
	}
	return s.breaker.Served
}

// IdleSince is when the endpoint was last tried, and whether it could be tried
// now in spite of an open period.
func (s *State) IdleSince(now time.Time, cfg *breaker.Config, b *Bounds) (at time.Time, free bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	free = s.breaker.State != breaker.ForcedOpen && !now.Before(s.holdUntil) &&
		!s.breaker.TrialTaken(now, cfg) && !s.fullLocked(b) && !s.readyLocked(b, now).After(now)
	if s.lastTried.Before(s.breaker.Changed) {
		return s.breaker.Changed, free // until when it was closed
	}
	return s.lastTried, free
}

// Usual is the latency of the endpoint's good answers; 0 where it is not known, or calls
// are kept away.
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

// Typically is how long a part q of the endpoint's answers took to begin at most; 0
// if too few are known.
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
