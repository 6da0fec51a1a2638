package breaker

import "time"

// How operators affect a breaker.

// Force holds the breaker in ForcedOpen or ForcedClosed until Release or Reset, even if
// breakers are off.
func (b *Breaker) Force(now time.Time, to State) { b.Transition(to, now, ReasonOperator) }

// Release ends a forced state. A breaker that was forced open recovers as after an open
// period; one that was forced closed closes.
func (b *Breaker) Release(now time.Time, cfg *Config) {
	switch {
	case b.State == ForcedOpen && !cfg.Off:
		b.Transition(Recovering, now, ReasonOperator)
		b.Opened = ReasonOperator
	case b.State == ForcedOpen, b.State == ForcedClosed:
		b.Transition(Closed, now, ReasonOperator)
	}
}

// Trip opens the breaker as a failure does.
func (b *Breaker) Trip(now time.Time, cfg *Config, reason string) { b.open(now, cfg, reason) }

// Reset closes the breaker and forgets its relapses.
func (b *Breaker) Reset(now time.Time) {
	b.Relapses = 0
	b.Transition(Closed, now, ReasonOperator)
}
