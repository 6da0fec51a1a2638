package breaker

import (
	"math"
	"time"

	"github.com/apifailover/caddy-failover/internal/window"
)

const (
	// chanceRun is how improbable a run of failures must be, beside the usual ones, to
	// open a breaker.
	chanceRun = 1e-9
	// mostUsual bounds the ratio of failures that counts as usual.
	mostUsual = 0.9
	// recentAttempts is how many attempts the quick view of the usual ratio looks back on.
	recentAttempts = 32
	// doubtedRuns times as many failures in a row open a breaker, whoever they were
	// blamed on meanwhile: when nobody succeeds it is an outage.
	doubtedRuns = 3
)

// usual is how often attempts at an endpoint fail. By it a run of failures is judged:
// five in a row are an outage where nothing fails usually, and chance where a third
// of the attempts do. The zero value has seen nothing. Its breaker's owner guards it.
type usual struct {
	seen   window.Counter // failures
	recent float64        // ratio over about recentAttempts
	ratio  float64        // before the run
	Run    int            // failures in a row
}

// successes takes n successes.
func (u *usual) successes(now time.Time, cfg *Config, n int) {
	u.seen.AddMany(now, cfg.Window, n)
	if u.recent > 0 {
		u.recent *= math.Pow(1-1.0/recentAttempts, float64(n))
	}
	u.Run = 0
}

func (u *usual) failure(now time.Time, cfg *Config) {
	if u.Run == 0 {
		u.ratio = u.before(now, cfg)
	}
	u.seen.Add(now, cfg.Window, true)
	u.recent += (1 - u.recent) / recentAttempts
	u.Run++
}

// before is the usual ratio of failures, 0 where little is known.
func (u *usual) before(now time.Time, cfg *Config) float64 {
	counts := u.seen.Counts(now, cfg.Window)
	if counts.Total < cfg.MinRequests {
		return 0
	}
	return min(mostUsual, max(counts.Ratio(), u.recent))
}

// inARow is how many failures in a row are too improbable to be chance where the
// usual ones are taken into account: at least n, and so many that usual failures
// bring them about with a chance of chanceRun.
func (u *usual) inARow(n int) int {
	if u.ratio <= 0 {
		return n
	}
	return max(n, int(math.Ceil(math.Log(chanceRun)/math.Log(u.ratio))))
}

// Doubt takes a failure that may be the request's own; first is set for a call that
// has not failed elsewhere before. It opens the breaker only where nothing but such
// failures has come for long.
func (b *Breaker) Doubt(now time.Time, cfg *Config, p Permit, first bool) (changed bool) {
	if p.Generation != b.Generation || cfg.Off || b.State != Closed || !first {
		return false
	}
	b.countWaiting(now, cfg)
	b.doubts.failure(now, cfg)
	if cfg.ConsecutiveFailures > 0 && b.doubts.Run >= doubtedRuns*b.doubts.inARow(cfg.ConsecutiveFailures) {
		b.open(now, cfg, ReasonConsecutive)
		return true
	}
	return false
}

// TakeBack undoes the report of a failure that was the request's own. What it has
// brought about stays.
func (b *Breaker) TakeBack(now time.Time, cfg *Config, p Permit, denied bool) {
	if p.Generation != b.Generation || b.State != Closed {
		return
	}
	b.Outcomes.TakeBack(now, cfg.Window)
	b.Failures.Run = max(0, b.Failures.Run-1)
	if denied {
		b.denied = max(0, b.denied-1)
	}
}
