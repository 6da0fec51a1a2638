package breaker

import (
	"math/rand/v2"
	"time"
)

// When an open endpoint gets its next trial after one that cost its client nothing: the call failed
// fast, and moved on to another endpoint.
//
// Such trials need not become rarer the longer the fault lasts. They are limited by the traffic of
// the endpoint before it opened and of the pool now, and by the time that each takes. A recovery
// that ends at the first share is a trial of several calls.

const (
	// callsPerFailure is how many calls the endpoint usually gets for each failure of its trials,
	// and callsPerSlow for each slow attempt.
	callsPerFailure = 50
	callsPerSlow    = 200
	// lostPart is the part of the time that the client of a trial may lose.
	lostPart = 0.04
)

// Moved says how the call of a failed attempt moved on to another endpoint. The zero value: it has
// not, as far as known.
type Moved struct {
	On    bool
	Slow  bool          // from an attempt that was slow, not from a failure
	After time.Duration // since the attempt began
	Rate  float64       // calls a second of the pool
}

// MovedOn takes the news that the call of a failed attempt has moved on. If the attempt ended a
// trial, the next one may come sooner.
func (b *Breaker) MovedOn(now time.Time, cfg *Config, p Permit, m Moved) (changed bool) {
	pace := min(b.pace, m.Rate)
	if !m.On || b.State != Open || p.Generation+1 != b.Generation || b.vain == 0 || b.quiet || pace <= 0 {
		return false
	}
	calls := callsPerFailure * b.vain
	if m.Slow {
		calls = callsPerSlow * b.vain
	}
	wait := max(cfg.OpenFor/2, time.Duration(float64(m.After)/lostPart))
	wait = max(wait, time.Duration(min(float64(cfg.OpenMax), float64(calls)/pace*float64(time.Second))))
	b.quiet = true
	b.TryAt(now.Add(jittered(wait)))
	return true
}

// jittered returns a period with jitter.
func jittered(period time.Duration) time.Duration {
	return time.Duration(float64(period) * (1 - openJitter + 2*openJitter*rand.Float64()))
}

// measurePace sets how many attempts a second a closed breaker has had lately.
func (b *Breaker) measurePace(now time.Time, cfg *Config) {
	over := cfg.Window
	if !b.Changed.IsZero() {
		over = min(over, max(time.Second, now.Sub(b.Changed)))
	}
	b.pace = 0
	if over > 0 {
		b.pace = float64(b.Outcomes.Counts(now, cfg.Window).Total+b.uncounted) / over.Seconds()
	}
}
