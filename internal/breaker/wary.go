package breaker

import (
	"math"
	"math/rand/v2"
	"time"
)

// How breakers of other instances affect a breaker.

// WaryShare is how much of its normal traffic a wary endpoint may have.
const WaryShare = 0.25

// SetWary sets whether the breaker is wary, because other instances have opened theirs. One failure
// opens a wary breaker, and it allows at most WaryShare, until a call of this instance succeeds. Only
// a closed breaker can be wary: other instances never open it. It is wary again trustedFor later at the earliest, so that hints without
// end close nothing. If its own calls have just failed, and none has
// succeeded since, that is the failure that opens it.
func (b *Breaker) SetWary(now time.Time, cfg *Config, wary bool) (changed bool) {
	wary = wary && b.State == Closed && !cfg.Off && (b.trusted.IsZero() || now.Sub(b.trusted) >= trustedFor)
	if wary {
		b.countSuccesses(now, cfg) // earlier successes must not end the wariness
		if b.HasFailed(now, cfg) {
			b.open(now, cfg, ReasonWary)
			return true
		}
	}
	changed = b.wary != wary
	b.wary = wary
	return changed
}

// trusts ends the wariness because a call has succeeded.
func (b *Breaker) trusts(now time.Time) { b.wary, b.trusted = false, now }

const (
	// trustedFor is for how long a success that ended a breaker's wariness counts more than what others say.
	trustedFor = 10 * time.Second
	// FailingFor is for how long failures in a row say that an endpoint fails.
	FailingFor = 10 * time.Second
	// chanceFailing is the probability of a run of usual failures below which the run says so.
	chanceFailing = 1e-3
)

// HasFailed reports whether calls of a closed breaker have just failed, as usual failures rarely do, and none
// has succeeded since. One does, if calls usually succeed.
func (b *Breaker) HasFailed(now time.Time, cfg *Config) bool {
	u := &b.Failures
	if b.State != Closed || cfg.Off || u.Run == 0 || b.uncounted > 0 || now.Sub(b.failedAt) >= FailingFor {
		return false
	}
	return u.ratio <= 0 || math.Pow(u.ratio, float64(u.Run)) <= chanceFailing
}

// ReturnTogether says that other instances return to the endpoint at the same time: until the
// breaker closes, its share grows by a tenth in a step at most. An endpoint that has little
// capacity yet takes some of it in a burst before it refuses anything, and what many proxies double
// meanwhile is too much.
func (b *Breaker) ReturnTogether() {
	b.together = b.State == Open || b.State == Recovering
}

// grownTogether is how many times the share may grow in a step if other instances return too.
const grownTogether = 1.1

// mostGrowth returns how many times the share may grow in a step, in which it may else grow most times.
func (b *Breaker) mostGrowth(most float64) float64 {
	if b.together {
		return grownTogether
	}
	return most
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
const postponedFor = 20 * time.Minute

// left are the latest turns of other instances since the breaker's own last transition, by instance. A Breaker has a pointer to
// it, so that == compares Breakers.
type left map[string]turn

// A turn is a trial that the breaker left to another instance.
type turn struct {
	at      time.Time
	awaited bool // its result
}

// mostLeft is the largest number of instances in left. In postponedFor, hardly more make a trial.
const mostLeft = 200

// turnsApart is the shortest time between two turns of an instance, in longest open periods. Meanwhile other instances have
// theirs, or the breaker makes its own trial.
const turnsApart = 6

// Postpone begins the open period anew, because another instance, by, has tried the endpoint in vain. The
// period is longer each time, as after trials of its own. It does nothing later than postponedFor after the breaker's own last transition,
// nor for a trial that was not left to that instance.
func (b *Breaker) Postpone(now time.Time, cfg *Config, by string) {
	if b.State != Open || now.Sub(b.Changed) > postponedFor || !b.awaits(by) && !b.leave(now, cfg, by) {
		return
	}
	(*b.left)[by] = turn{at: (*b.left)[by].at} // no longer awaited
	if cfg.period(b.Relapses+b.putOff, cfg.longest(b.Opened)) < cfg.longest(b.Opened) {
		b.putOff++
	}
	last := b.Changed.Add(postponedFor + time.Duration(rand.Float64()*float64(cfg.OpenFor)))
	if until := b.jittered(now, cfg); until.Before(last) {
		last = until
	}
	b.lastUntil(last)
}

// TryAfter leaves a trial to another instance, by: the open period lasts at least until at. It does nothing if the
// instance had a turn within turnsApart: the endpoint may be out for a few instances alone, and they may try again and again. Nor does it if at is
// later than postponedFor after the breaker's own last transition.
func (b *Breaker) TryAfter(at, now time.Time, cfg *Config, by string) {
	if b.State == Open && at.Sub(b.Changed) <= postponedFor && b.leave(now, cfg, by) {
		b.lastUntil(at)
	}
}

// leave leaves a trial to another instance, and reports whether it may have one.
func (b *Breaker) leave(now time.Time, cfg *Config, by string) bool {
	if b.left == nil {
		b.left = &left{}
	}
	switch latest, had := (*b.left)[by]; {
	case had && now.Sub(latest.at) < turnsApart*cfg.longest(b.Opened):
		return false
	case !had && len(*b.left) >= mostLeft:
		return false
	}
	(*b.left)[by] = turn{at: now, awaited: true}
	return true
}

// awaits reports whether the result of another instance's trial is awaited.
func (b *Breaker) awaits(by string) bool { return b.left != nil && (*b.left)[by].awaited }

// lastUntil makes the open period last at least until at.
func (b *Breaker) lastUntil(at time.Time) {
	if b.Until.Before(at) {
		b.Until = at
	}
}
