package breaker

import "time"

// What a breaker makes of the breakers of other instances.

// WaryShare is how much of its normal traffic a wary endpoint may have.
const WaryShare = 0.25

// SetWary sets whether the endpoint is to be watched closely because other instances have
// opened: one failure opens it, and it may have at most WaryShare, until a call of its own
// succeeds. Only a closed breaker can be wary: what others say opens nothing.
func (b *Breaker) SetWary(now time.Time, cfg *Config, wary bool) (changed bool) {
	wary = wary && b.State == Closed && !cfg.Off
	if wary {
		b.countSuccesses(now, cfg) // those before do not end it
	}
	changed = b.wary != wary
	b.wary = wary
	return changed
}

// Wary reports whether the endpoint is watched closely.
func (b *Breaker) Wary() bool { return b.wary }

// TryAt ends the open period at a time, if it would end later: the endpoint may be back. A
// failed check keeps it open all the same.
func (b *Breaker) TryAt(at time.Time) {
	if b.State == Open && b.Until.After(at) {
		b.Until = at
	}
}

// postponedFor is for how long the failed trials of other instances put off an instance's own: an
// endpoint may be there for it alone.
const postponedFor = 10 * time.Minute

// Postpone begins the open period anew, because another instance has tried the endpoint in vain.
// It does so for postponedFor after the breaker's own last transition at most.
func (b *Breaker) Postpone(now time.Time, cfg *Config) {
	if b.State != Open || now.Sub(b.Changed) > postponedFor {
		return
	}
	b.TryAfter(b.jittered(now, cfg))
}

// TryAfter makes the open period last at least until a time: another instance tries the
// endpoint.
func (b *Breaker) TryAfter(at time.Time) {
	if b.State == Open && b.Until.Before(at) {
		b.Until = at
	}
}
