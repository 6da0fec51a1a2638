package endpoint

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
)

// How much traffic the endpoint can have, and when.

// available returns how much of its traffic, 0 to 1, the condition lets an endpoint have.
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

// assess returns how much of its traffic, 0 to 1, the condition lets an endpoint have, whether it
// wants a call as a trial, and whether calls pass the endpoint over. soft ignores a soft hold, quotas
// and passing over.
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

// KeptAway reports whether an operator or a schedule keeps calls away (barred) or, if not, whether a
// hold or a quota does (held).
func (s *State) KeptAway(now time.Time) (barred, held bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.barred, !s.barred && s.own.keptAway(now, false)
}
