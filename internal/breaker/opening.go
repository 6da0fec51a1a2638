package breaker

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/window"
)

// How results open a closed breaker, and for how long it stays open.

// Succeeded gives back the permit of a success that changes nothing but counts, and
// reports whether it was one; if not, the caller must use Report. It needs no clock.
// took is how long the attempt took.
func (b *Breaker) Succeeded(cfg *Config, p Permit, took time.Duration) bool {
	if b.State != Closed || p.Generation != b.Generation || cfg.SlowRatio > 0 && took > cfg.SlowAfter {
		return false
	}
	b.uncounted++
	b.denied, b.Worked = 0, true
	return true
}

// countSuccesses adds the successes that Succeeded took to the windows, as of now.
func (b *Breaker) countSuccesses(now time.Time, cfg *Config) {
	if b.uncounted == 0 {
		return
	}
	b.Outcomes.AddMany(now, cfg.Window, b.uncounted)
	b.Failures.successes(now, cfg, b.uncounted)
	b.doubts.successes(now, cfg, b.uncounted)
	if cfg.SlowRatio > 0 {
		b.Latencies.AddMany(now, cfg.Window, b.uncounted)
	}
	b.uncounted = 0
}

func (b *Breaker) reportClosed(now time.Time, cfg *Config, r Result) bool {
	b.countSuccesses(now, cfg)
	b.Outcomes.Add(now, cfg.Window, r.Failed)
	if cfg.SlowRatio > 0 {
		b.Latencies.Add(now, cfg.Window, r.Slow)
	}
	if r.Failed {
		b.failedAt = now
		b.Failures.failure(now, cfg)
		if !r.Doubted { // else Doubt has counted it
			b.doubts.failure(now, cfg)
		}
	} else {
		b.Failures.successes(now, cfg, 1)
		b.doubts.successes(now, cfg, 1)
		b.Worked = true
	}
	if r.Denied {
		b.denied++
	} else {
		b.denied = 0
	}
	if r.Followed { // the later success ended the run
		b.Failures.Run, b.denied = 0, 0
	}
	wary := b.wary
	if wary && !r.Failed {
		b.trusts(now)
	}
	switch {
	case wary && r.Failed && !r.Followed:
		b.open(now, cfg, ReasonWary)
	case cfg.ConsecutiveFailures > 0 && b.Failures.Run >= b.Failures.inARow(cfg.ConsecutiveFailures):
		b.open(now, cfg, ReasonConsecutive)
	case b.denied >= b.Failures.inARow(maxDenied):
		b.open(now, cfg, reasonDenied)
	case cfg.FailureRatio > 0 && r.Failed && reached(b.Outcomes.Counts(now, cfg.Window), cfg.FailureRatio, cfg.MinRequests):
		b.open(now, cfg, reasonRatio)
	case cfg.SlowRatio > 0 && r.Slow && reached(b.Latencies.Counts(now, cfg.Window), cfg.SlowRatio, cfg.MinRequests):
		b.open(now, cfg, ReasonSlow)
	default:
		return wary && !b.wary || r.Failed && b.Heard && b.HasFailed(now, cfg)
	}
	return true
}

// reached reports whether the marked part of at least atLeast results is ratio or more.
func reached(c window.Counts, ratio float64, atLeast int) bool {
	return c.Total >= atLeast && float64(c.Marked) >= ratio*float64(c.Total)
}

// open begins an open period.
func (b *Breaker) open(now time.Time, cfg *Config, reason string) {
	b.openFor(now, cfg, reason, reason)
}

// openFor begins an open period. reason is why the state changes now, cause is what
// keeps the endpoint out.
func (b *Breaker) openFor(now time.Time, cfg *Config, reason, cause string) {
	b.quick.may = b.quick.may && b.Share == 0
	if b.State == Closed {
		b.quick.may = b.Relapses == 0 && now.Sub(b.goodSince) >= forgiveAfter
		b.failingSince = b.FailsSince(now, cfg)
		b.measurePace(now, cfg)
		b.Served, b.failing = 0, 0
		if reason == reasonRatio || reason == ReasonSlow || reason == ReasonSlower {
			b.Served = 1 - b.Outcomes.Counts(now, cfg.Window).Ratio()
		}
		if reason == ReasonConsecutive { // the ratio before the run was usual
			b.failing = b.Failures.ratio
		}
		if b.opensAgain(now) || b.Flapping {
			b.addRelapse(cfg, cause)
		}
	}
	b.Transition(Open, now, reason)
	b.Opened = cause
	b.Until = b.jittered(now, cfg)
}

// FailsSince returns when the failures of a closed breaker began that have gone on since, as far as known;
// now if nothing fails.
func (b *Breaker) FailsSince(now time.Time, cfg *Config) time.Time {
	since := now
	earlier := func(at time.Time, fails bool) {
		if fails && at.Before(since) {
			since = at
		}
	}
	earlier(b.Failures.since, b.Failures.Run > 0)
	earlier(b.Failures.freshSince, b.Failures.fresh > 0)
	earlier(b.doubts.since, b.doubts.Run > 0)
	earlier(b.checksFailSince, b.Latest == CheckHasFailed)
	if cfg.FailureRatio > 0 && reached(b.Outcomes.Counts(now, cfg.Window), cfg.FailureRatio, cfg.MinRequests) {
		earlier(b.Outcomes.Since(now, cfg.Window, cfg.FailureRatio/2), true)
	}
	return since
}

// FailingSince returns when the failures began that opened the breaker, as far as known; zero if it is not
// open, or if a recovery has failed since.
func (b *Breaker) FailingSince() time.Time {
	if b.State != Open || b.setbacks > 0 {
		return time.Time{}
	}
	return b.failingSince
}

// flapWindow is the time within which the third opening of a closed breaker counts as a relapse, as
// each opening of an endpoint that flaps does. Only endpoints are known to flap, not their scopes.
const flapWindow = 5 * time.Minute

// opensAgain notes that a closed breaker opens. It reports whether that is the third time within
// flapWindow.
func (b *Breaker) opensAgain(now time.Time) bool {
	age := now.Sub(b.openings[0])
	third := !b.openings[0].IsZero() && age >= 0 && age < flapWindow
	b.openings = [2]time.Time{b.openings[1], now}
	return third
}

// jittered returns when an open period ends that begins now.
func (b *Breaker) jittered(now time.Time, cfg *Config) time.Time {
	return now.Add(jittered(cfg.period(b.Relapses+b.putOff, cfg.longest(b.Opened))))
}

// servedAttempts is how many of the latest attempts Served covers while the breaker is
// not closed.
const servedAttempts = 20

// AttemptEnded adds an attempt to Served while the breaker is not closed.
func (b *Breaker) AttemptEnded(failed bool) {
	result := 1.0
	if failed {
		result = 0
	}
	b.Served += (result - b.Served) / servedAttempts
}

// addRelapse counts a relapse, unless open periods for cause are as long as they get:
// then it would change nothing, and take a minute to forgive. It reports whether it did.
func (b *Breaker) addRelapse(cfg *Config, cause string) (grows bool) {
	if grows = cfg.period(b.Relapses, cfg.longest(cause)) < cfg.longest(cause); grows {
		b.Relapses++
	}
	return grows
}

func (b *Breaker) relapse(now time.Time, cfg *Config, reason, cause string) {
	vain := b.failures
	if b.grown {
		vain = 0
	}
	grows, again := b.addRelapse(cfg, cause), b.setbacks > 0
	b.openFor(now, cfg, reason, cause)
	b.vain = vain
	b.setbacks++
	b.stale = again && !grows
}

// causeOf returns what keeps a recovering endpoint out after a failed attempt: the
// refusal of its own credentials if r is one, else why it opened. If it opened for such
// a refusal and failed differently now, the cause is the failed trial.
func (b *Breaker) causeOf(r Result) string {
	switch {
	case r.Denied:
		return reasonDenied
	case b.Opened == reasonDenied:
		return reasonTrialFailed
	}
	return b.Opened
}

// reopen returns to the open period that AcquireLast interrupted.
func (b *Breaker) reopen(now time.Time) {
	until, opened := b.Until, b.Opened
	b.Transition(Open, now, reasonTrialFailed)
	b.Until, b.Opened = until, opened
	b.setbacks++
}

// period returns how long an open period lasts before jitter: OpenFor doubled for each
// relapse, at most longest.
func (cfg *Config) period(relapses int, longest time.Duration) time.Duration {
	period := cfg.OpenFor
	for ; relapses > 0 && period < longest; relapses-- {
		period *= 2
	}
	return min(period, longest)
}

// longest returns how long an open period for cause lasts at most. It is longer for
// refused credentials, which only an operator can mend; for other causes a longer wait
// saves little, since a trial is one call and a failed one moves to another endpoint.
func (cfg *Config) longest(cause string) time.Duration {
	if cause == reasonDenied {
		return cfg.DeniedMax
	}
	return cfg.OpenMax
}
