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
	if s.barred {
		return 0
	}
	return s.own.available(now, cfg, false)
}

// available is the part of its traffic, 0 to 1, that the condition lets an endpoint have.
// pastDoubt ignores a soft hold, and quotas.
func (c *condition) available(now time.Time, cfg *breaker.Config, pastDoubt bool) float64 {
	if c.keptAway(now, pastDoubt) {
		return 0
	}
	return c.breaker.Allowed(cfg) * (1 - c.scorer.Lost)
}

// keptAway reports whether a hold or a quota keeps calls away. pastDoubt ignores a soft hold, and
// quotas.
func (c *condition) keptAway(now time.Time, pastDoubt bool) bool {
	return c.hold.on(now) && !(pastDoubt && c.hold.soft) || c.stated.usedUp(now) && !pastDoubt
}

// Assess returns how much of its normal traffic the endpoint can have now, 0 to 1, whether it
// wants a call as a trial, and whether calls pass it over. soft ignores a soft hold and passing over.
func (s *State) Assess(now time.Time, cfg *breaker.Config, soft bool) (available float64, trial, passed bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.barred {
		return 0, false, false
	}
	return s.own.assess(now, cfg, soft)
}

func (c *condition) assess(now time.Time, cfg *breaker.Config, soft bool) (available float64, trial, passed bool) {
	if c.keptAway(now, soft) {
		return 0, false, false
	}
	wants, _ := c.breaker.WantsTrial(now, cfg)
	trial = wants || c.breaker.OnTrial(cfg) || c.wantsCall(now, cfg)
	available = c.available(now, cfg, soft)
	if c.passing.over() && !soft && available > 0 {
		return 0, trial || c.passing.due(now), true
	}
	return available, trial, false
}

// WantsTrial reports whether the endpoint should get the next call that can be sent elsewhere,
// because it recovers or its score brings it too few calls. urgent says that it should get any call.
func (s *State) WantsTrial(now time.Time, cfg *breaker.Config) (wants, urgent bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.own.wantsCall(now, cfg) {
		return true, false
	}
	return s.own.breaker.WantsTrial(now, cfg)
}

// KeptAway reports whether an operator or a schedule keeps calls away, or else a hold does.
func (s *State) KeptAway(now time.Time) (barred, held bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.barred, !s.barred && s.own.keptAway(now, false)
}

// Returns returns when the endpoint can be tried again at the earliest: now if nothing
// prevents it, zero if only an operator can release it. held says that only a hold keeps
// calls away.
func (s *State) Returns(now time.Time, cfg *breaker.Config) (at time.Time, held bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.own.breaker.State == breaker.ForcedOpen {
		return time.Time{}, false
	}
	at = now
	open := s.own.breaker.State == breaker.Open && !cfg.Off
	if open && s.own.breaker.Until.After(at) {
		at = s.own.breaker.Until
	}
	if s.own.hold.until.After(at) {
		return s.own.hold.until, !open
	}
	if s.own.stated.until.After(at) {
		return s.own.stated.until, !open
	}
	return at, false
}

// ServesSome returns the part of the calls, 0 to 1, that an open endpoint still answers
// well. It is 0 if the endpoint cannot be reached, or if something else keeps calls away.
func (s *State) ServesSome(now time.Time) float64 {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.own.breaker.State != breaker.Open || s.barred || s.own.hold.on(now) ||
		s.own.breaker.Latest == breaker.CheckHasFailed || !s.own.faults.last.MayBeTheRequests() {
		return 0
	}
	return s.own.breaker.Served
}

// IdleSince returns when the endpoint was last tried, and whether it could be tried now, with a call
// that may use asked tokens, if its open period were over.
func (s *State) IdleSince(now time.Time, cfg *breaker.Config, b *Bounds, asked int64) (at time.Time, free bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	free = s.own.breaker.State != breaker.ForcedOpen && !s.own.hold.on(now) &&
		!s.own.breaker.TrialTaken(now, cfg) && !s.fullLocked(b) && !s.readyLocked(b, now, asked).After(now)
	if s.own.lastTried.Before(s.own.breaker.Changed) {
		return s.own.breaker.Changed, free // it was closed until then
	}
	return s.own.lastTried, free
}

// Usual returns the mean latency of good responses; 0 if it is unknown or calls are kept away.
func (s *State) Usual(now time.Time, cfg *breaker.Config) time.Duration {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.own.breaker.Allowed(cfg) == 0 || s.own.hold.on(now) {
		return 0
	}
	return s.own.scorer.Typical()
}

// hedgeAtLeast is the shortest delay of a hedge.
const hedgeAtLeast = 10 * time.Millisecond

// Typically returns the quantile q of the time to the first byte, at least hedgeAtLeast; 0 if
// too few are known.
func (s *State) Typically(now time.Time, q float64) time.Duration {
	s.Mu.Lock()
	s.countLocked(now)
	known := s.own.slowness.Known
	s.Mu.Unlock()
	total := known.Total()
	if total < slowness.MinKnown {
		return 0
	}
	return max(hedgeAtLeast, known.Quantile(float32(q), total))
}
