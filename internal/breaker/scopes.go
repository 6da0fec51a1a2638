package breaker

import "time"

// How the scopes of an endpoint affect its own breaker.

// Widen opens a closed breaker because most scopes of the endpoint are out, the first since a time. The
// first success of any scope closes it, since each scope has its own breaker, which recovers.
func (b *Breaker) Widen(now time.Time, cfg *Config, since time.Time) (changed bool) {
	if b.State != Closed || cfg.Off {
		return false
	}
	b.open(now, cfg, ReasonScopes)
	if since.Before(b.failingSince) {
		b.failingSince = since
	}
	return true
}

// Uphold tells the breaker of a scope that a check of the endpoint has passed.
func (b *Breaker) Uphold() { b.upheld = b.upheld || b.State == Open }

// Admits reports whether Acquire would return a permit.
func (b *Breaker) Admits(now time.Time, cfg *Config) bool {
	switch {
	case b.State == ForcedOpen:
		return false
	case cfg.Off, b.State == Closed, b.State == ForcedClosed:
		return true
	}
	return b.State == Recovering && (b.Share > 0 || !now.Before(b.trialUntil))
}

// Forget closes the breaker of a scope that is about to be forgotten.
func (b *Breaker) Forget(now time.Time, reason string) {
	if b.Told.State != Closed || b.State != Closed {
		b.Transition(Closed, now, reason)
	}
}
