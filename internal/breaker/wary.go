package breaker

import "time"

// How breakers of other instances affect a breaker.

// WaryShare is how much of its normal traffic a wary endpoint may have.
const WaryShare = 0.25

// SetWary sets whether the breaker is wary, because other instances have opened theirs. One failure
// opens a wary breaker, and it allows at most WaryShare, until a call of this instance succeeds. Only
// a closed breaker can be wary: other instances never open it.
func (b *Breaker) SetWary(now time.Time, cfg *Config, wary bool) (changed bool) {
	wary = wary && b.State == Closed && !cfg.Off
	if wary {
		b.countSuccesses(now, cfg) // earlier successes must not end the wariness
	}
	changed = b.wary != wary
	b.wary = wary
	return changed
}

// Wary reports whether the breaker is wary; see SetWary.
func (b *Breaker) Wary() bool { return b.wary }

// TryAt makes the open period end no later than at, because the endpoint may be back. A failed check
// still keeps the breaker open.
func (b *Breaker) TryAt(at time.Time) {
	if b.State == Open && b.Until.After(at) {
		b.Until = at
	}
}

// postponedFor is how long the failed trials of other instances may put off an instance's own. It is
// bounded because the endpoint may be reachable for this instance alone.
const postponedFor = 10 * time.Minute

// Postpone begins the open period anew, because another instance has tried the endpoint in vain. It
// does nothing later than postponedFor after the breaker's own last transition.
func (b *Breaker) Postpone(now time.Time, cfg *Config) {
	if b.State != Open || now.Sub(b.Changed) > postponedFor {
		return
	}
	b.TryAfter(b.jittered(now, cfg))
}

// TryAfter makes the open period last at least until at, because another instance tries the endpoint.
func (b *Breaker) TryAfter(at time.Time) {
	if b.State == Open && b.Until.Before(at) {
		b.Until = at
	}
}
