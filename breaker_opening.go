package failover

import (
	"math/rand/v2"
	"time"

	"github.com/apifailover/caddy-failover/internal/window"
)

// How results open a closed breaker, and for how long it is open.

// succeeded takes the success of a closed breaker's attempt, which took so long, if that
// changes nothing but counts. It is the short way of report, and needs no clock.
func (b *breaker) succeeded(cfg *breakerConfig, p permit, took time.Duration) bool {
	if b.state != stateClosed || p.generation != b.generation || cfg.slowRatio > 0 && took > cfg.slowAfter {
		return false
	}
	b.waiting++
	b.denied, b.worked = 0, true
	return true
}

// countWaiting counts the successes of the short way as of now.
func (b *breaker) countWaiting(now time.Time, cfg *breakerConfig) {
	if b.waiting == 0 {
		return
	}
	b.outcomes.AddMany(now, cfg.window, b.waiting)
	b.failures.successes(now, cfg, b.waiting)
	b.doubts.successes(now, cfg, b.waiting)
	if cfg.slowRatio > 0 {
		b.latencies.AddMany(now, cfg.window, b.waiting)
	}
	b.waiting = 0
}

func (b *breaker) reportClosed(now time.Time, cfg *breakerConfig, r result) bool {
	b.countWaiting(now, cfg)
	b.outcomes.Add(now, cfg.window, r.failed)
	if cfg.slowRatio > 0 {
		b.latencies.Add(now, cfg.window, r.slow)
	}
	if r.failed {
		b.failures.failure(now, cfg)
		if !r.doubted { // else it is known there
			b.doubts.failure(now, cfg)
		}
	} else {
		b.failures.successes(now, cfg, 1)
		b.doubts.successes(now, cfg, 1)
		b.worked = true
	}
	if r.denied {
		b.denied++
	} else {
		b.denied = 0
	}
	if r.followed { // so no run goes on
		b.failures.run, b.denied = 0, 0
	}
	switch {
	case cfg.consecutiveFailures > 0 && b.failures.run >= b.failures.inARow(cfg.consecutiveFailures):
		b.open(now, cfg, reasonConsecutive)
	case b.denied >= b.failures.inARow(maxDenied):
		b.open(now, cfg, reasonDenied)
	case cfg.failureRatio > 0 && r.failed && over(b.outcomes.Counts(now, cfg.window), cfg.failureRatio, cfg.minRequests):
		b.open(now, cfg, reasonRatio)
	case cfg.slowRatio > 0 && r.slow && over(b.latencies.Counts(now, cfg.window), cfg.slowRatio, cfg.minRequests):
		b.open(now, cfg, reasonSlow)
	default:
		return false
	}
	return true
}

func over(c window.Counts, ratio float64, atLeast int) bool {
	return c.Total >= atLeast && float64(c.Marked) >= ratio*float64(c.Total)
}

// open begins an open period.
func (b *breaker) open(now time.Time, cfg *breakerConfig, reason string) {
	if b.state == stateClosed {
		b.served, b.failing = 0, 0
		if reason == reasonRatio || reason == reasonSlow || reason == reasonSlower {
			b.served = 1 - b.outcomes.Counts(now, cfg.window).Ratio()
		}
		if reason == reasonConsecutive { // a run, before which the ratio was usual
			b.failing = b.failures.ratio
		}
		if b.flapping {
			b.addRelapse(cfg)
		}
	}
	b.transition(stateOpen, now, reason)
	period := cfg.openPeriod(b.relapses)
	b.until = now.Add(time.Duration(float64(period) * (1 - openJitter + 2*openJitter*rand.Float64())))
}

// servedAttempts is how many attempts the ratio of successes looks back on while the
// breaker is not closed.
const servedAttempts = 20

// attemptEnded follows the ratio of successes of a breaker that is not closed.
func (b *breaker) attemptEnded(failed bool) {
	result := 1.0
	if failed {
		result = 0
	}
	b.served += (result - b.served) / servedAttempts
}

// addRelapse makes open periods longer.
func (b *breaker) addRelapse(cfg *breakerConfig) {
	if cfg.openPeriod(b.relapses) < cfg.openMax { // more would change nothing and take long to forgive
		b.relapses++
	}
}

func (b *breaker) relapse(now time.Time, cfg *breakerConfig, reason string) {
	opened := b.opened
	b.addRelapse(cfg)
	b.open(now, cfg, reason)
	b.opened = opened
}

// reopen goes back to the open period that a trial has interrupted, since every
// endpoint was down.
func (b *breaker) reopen(now time.Time) {
	until, opened := b.until, b.opened
	b.transition(stateOpen, now, reasonTrialFailed)
	b.until, b.opened = until, opened
}

// openPeriod is how long an open period lasts after so many relapses, before
// jitter.
func (cfg *breakerConfig) openPeriod(relapses int) time.Duration {
	period := cfg.openFor
	for ; relapses > 0 && period < cfg.openMax; relapses-- {
		period *= 2
	}
	return min(period, cfg.openMax)
}
