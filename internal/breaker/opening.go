package breaker

import (
	"math/rand/v2"
	"time"

	"github.com/apifailover/caddy-failover/internal/window"
)

// How results open a closed breaker, and for how long it is open.

// Succeeded takes the success of a closed breaker's attempt, which took so long, if that
// changes nothing but counts. It is the short way of report, and needs no clock.
func (b *Breaker) Succeeded(cfg *Config, p Permit, took time.Duration) bool {
	if b.State != Closed || p.Generation != b.Generation || cfg.SlowRatio > 0 && took > cfg.SlowAfter {
		return false
	}
	b.waiting++
	b.denied, b.Worked = 0, true
	return true
}

// countWaiting counts the successes of the short way as of now.
func (b *Breaker) countWaiting(now time.Time, cfg *Config) {
	if b.waiting == 0 {
		return
	}
	b.Outcomes.AddMany(now, cfg.Window, b.waiting)
	b.Failures.successes(now, cfg, b.waiting)
	b.doubts.successes(now, cfg, b.waiting)
	if cfg.SlowRatio > 0 {
		b.Latencies.AddMany(now, cfg.Window, b.waiting)
	}
	b.waiting = 0
}

func (b *Breaker) reportClosed(now time.Time, cfg *Config, r Result) bool {
	b.countWaiting(now, cfg)
	b.Outcomes.Add(now, cfg.Window, r.Failed)
	if cfg.SlowRatio > 0 {
		b.Latencies.Add(now, cfg.Window, r.Slow)
	}
	if r.Failed {
		b.Failures.failure(now, cfg)
		if !r.Doubted { // else it is known there
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
	if r.Followed { // so no run goes on
		b.Failures.Run, b.denied = 0, 0
	}
	switch {
	case cfg.ConsecutiveFailures > 0 && b.Failures.Run >= b.Failures.inARow(cfg.ConsecutiveFailures):
		b.open(now, cfg, ReasonConsecutive)
	case b.denied >= b.Failures.inARow(maxDenied):
		b.open(now, cfg, reasonDenied)
	case cfg.FailureRatio > 0 && r.Failed && over(b.Outcomes.Counts(now, cfg.Window), cfg.FailureRatio, cfg.MinRequests):
		b.open(now, cfg, reasonRatio)
	case cfg.SlowRatio > 0 && r.Slow && over(b.Latencies.Counts(now, cfg.Window), cfg.SlowRatio, cfg.MinRequests):
		b.open(now, cfg, ReasonSlow)
	default:
		return false
	}
	return true
}

func over(c window.Counts, ratio float64, atLeast int) bool {
	return c.Total >= atLeast && float64(c.Marked) >= ratio*float64(c.Total)
}

// open begins an open period.
func (b *Breaker) open(now time.Time, cfg *Config, reason string) {
	b.openFor(now, cfg, reason, reason)
}

// openFor is open where what keeps the endpoint out, which is what it is said to have
// opened for, may be another thing than what brought the transition about.
func (b *Breaker) openFor(now time.Time, cfg *Config, reason, cause string) {
	if b.State == Closed {
		b.Served, b.failing = 0, 0
		if reason == reasonRatio || reason == ReasonSlow || reason == ReasonSlower {
			b.Served = 1 - b.Outcomes.Counts(now, cfg.Window).Ratio()
		}
		if reason == ReasonConsecutive { // a run, before which the ratio was usual
			b.failing = b.Failures.ratio
		}
		if b.Flapping {
			b.addRelapse(cfg, cause)
		}
	}
	b.Transition(Open, now, reason)
	b.Opened = cause
	period := cfg.period(b.Relapses, cfg.longest(cause))
	b.Until = now.Add(time.Duration(float64(period) * (1 - openJitter + 2*openJitter*rand.Float64())))
}

// servedAttempts is how many attempts the ratio of successes looks back on while the
// breaker is not closed.
const servedAttempts = 20

// AttemptEnded follows the ratio of successes of a breaker that is not closed.
func (b *Breaker) AttemptEnded(failed bool) {
	result := 1.0
	if failed {
		result = 0
	}
	b.Served += (result - b.Served) / servedAttempts
}

// addRelapse makes open periods longer.
func (b *Breaker) addRelapse(cfg *Config, cause string) {
	if cfg.period(b.Relapses, cfg.longest(cause)) < cfg.longest(cause) { // more would change nothing and take long to forgive
		b.Relapses++
	}
}

func (b *Breaker) relapse(now time.Time, cfg *Config, reason, cause string) {
	b.addRelapse(cfg, cause)
	b.openFor(now, cfg, reason, cause)
}

// causeOf is what keeps a recovering endpoint out that has failed again: what it opened
// for, unless that was a refusal of its own credentials, or is one now.
func (b *Breaker) causeOf(r Result) string {
	switch {
	case r.Denied:
		return reasonDenied
	case b.Opened == reasonDenied:
		return reasonTrialFailed
	}
	return b.Opened
}

// reopen goes back to the open period that a trial has interrupted, since every
// endpoint was down.
func (b *Breaker) reopen(now time.Time) {
	until, opened := b.Until, b.Opened
	b.Transition(Open, now, reasonTrialFailed)
	b.Until, b.Opened = until, opened
}

// openPeriod is how long an open period lasts after so many relapses, before
// jitter, unless the endpoint refused its own credentials.
func (cfg *Config) openPeriod(relapses int) time.Duration { return cfg.period(relapses, cfg.OpenMax) }

// period is OpenFor doubled for each relapse, at most longest.
func (cfg *Config) period(relapses int, longest time.Duration) time.Duration {
	period := cfg.OpenFor
	for ; relapses > 0 && period < longest; relapses-- {
		period *= 2
	}
	return min(period, longest)
}

// longest is how long an open period lasts at most. A trial is one call, which soon moves
// elsewhere, so waiting longer saves little; but credentials get well by an operator only.
func (cfg *Config) longest(cause string) time.Duration {
	if cause == reasonDenied {
		return cfg.DeniedMax
	}
	return cfg.OpenMax
}
