package breaker

import (
	"math"
	"time"

	"github.com/apifailover/caddy-failover/internal/window"
)

const (
	// chanceRun is the probability of a run of usual failures below which the run opens
	// a breaker.
	chanceRun = 1e-9
	// mostUsual is the largest ratio of failures that counts as usual.
	mostUsual = 0.9
	// recentAttempts is how many attempts usual.recent covers.
	recentAttempts = 32
	// doubtedRuns times as many failures in a row open a breaker even if each may have
	// been its request's own: if nothing succeeds, it is an outage.
	doubtedRuns = 3
	// doubtedFor is how long such a run lasts at least, so that a client which sends many
	// requests that fail at once opens nothing before others are answered.
	doubtedFor = 75 * time.Millisecond
	// missedSuccesses is how many successes are missing at least, at the pace of the window, when such a
	// run opens a breaker. A client that sends ten times as many requests as all others, each of which
	// fails, makes long runs between two of their successes.
	missedSuccesses = 3
	// freshFor is how much longer than twice the time of a failure failures last at least, if
	// earlier attempts still succeed.
	freshFor = 20 * time.Millisecond
)

// usual is how often attempts at an endpoint usually fail. It tells whether a run of
// failures can be chance: five in a row are an outage if nothing usually fails, and chance
// if a third of the attempts do. The zero value has seen nothing. The mutex of the breaker's
// owner guards it.
type usual struct {
	seen   window.Counter // failures
	recent float64        // ratio over about recentAttempts
	ratio  float64        // usual ratio before the run
	Run    int            // failures in a row
	since  time.Time      // of the first of the run

	// Failures since the latest success of an attempt that began after the first of them.
	// Successes of earlier attempts do not show that the endpoint still works.
	fresh      int
	freshSince time.Time // of the first of them
	freshRatio float64   // usual ratio before them
}

// successes counts n successes.
func (u *usual) successes(now time.Time, cfg *Config, n int) {
	u.seen.AddMany(now, cfg.Window, n)
	if u.recent > 0 {
		u.recent *= math.Pow(1-1.0/recentAttempts, float64(n))
	}
	u.Run = 0
}

// failure counts a failure.
func (u *usual) failure(now time.Time, cfg *Config) {
	if u.Run == 0 {
		u.ratio, u.since = u.current(now, cfg), now
	}
	if u.fresh == 0 {
		u.freshRatio, u.freshSince = u.current(now, cfg), now
	}
	u.seen.Add(now, cfg.Window, true)
	u.recent += (1 - u.recent) / recentAttempts
	u.Run++
	u.fresh++
}

// current returns the usual ratio of failures; 0 if fewer than MinRequests attempts were seen.
func (u *usual) current(now time.Time, cfg *Config) float64 {
	counts := u.seen.Counts(now, cfg.Window)
	if counts.Total < cfg.MinRequests {
		return 0
	}
	return min(mostUsual, max(counts.Ratio(), u.recent))
}

// inARow returns how many failures in a row cannot be chance.
func (u *usual) inARow(n int) int { return noChance(n, u.ratio) }

// noChance returns how many failures in a row cannot be chance if a ratio of attempts fails: at
// least n, and the k for which ratio^k <= chanceRun.
func noChance(n int, ratio float64) int {
	if ratio <= 0 {
		return n
	}
	return max(n, int(math.Ceil(math.Log(chanceRun)/math.Log(ratio))))
}

// Doubt counts a failure that may be the request's own. Only the first of each call counts.
func (b *Breaker) Doubt(now time.Time, cfg *Config, p Permit) {
	if p.Generation != b.Generation || b.State != Closed {
		return
	}
	b.countSuccesses(now, cfg)
	b.doubts.failure(now, cfg)
}

// HasFreshFailures reports whether attempts have failed since one succeeded that began after them.
func (b *Breaker) HasFreshFailures() bool { return b.Failures.fresh > 0 }

// Works takes a success of an attempt that began at a time.
func (b *Breaker) Works(began time.Time) {
	if !began.Before(b.Failures.freshSince) {
		b.Failures.fresh = 0
	}
}

// FailsAfresh reports whether so many failures, each of which took a time, are an outage if no attempt is
// under way that began after since, although attempts that began before have succeeded meanwhile. A
// later attempt that is slower than the failures must have had the time to show that it is.
func (b *Breaker) FailsAfresh(took time.Duration, now time.Time, cfg *Config) (since time.Time, ok bool) {
	u := &b.Failures
	return u.freshSince, !cfg.Off && b.State == Closed && cfg.ConsecutiveFailures > 0 &&
		u.fresh >= noChance(cfg.ConsecutiveFailures, u.freshRatio) && now.Sub(u.freshSince) >= 2*took+freshFor
}

// missesSuccesses reports whether the run has lasted for so long that missedSuccesses should have come
// meanwhile, or none has come in the window.
func (u *usual) missesSuccesses(now time.Time, cfg *Config) bool {
	counts := u.seen.Counts(now, cfg.Window)
	came := float64(counts.Total - counts.Marked)
	return came == 0 || came*now.Sub(u.since).Seconds() >= missedSuccesses*cfg.Window.Seconds()
}

// FailsInDoubt reports whether so many failures in a row, which may each have been its request's
// own, are an outage if no other call is under way.
func (b *Breaker) FailsInDoubt(now time.Time, cfg *Config) bool {
	return !cfg.Off && b.State == Closed && cfg.ConsecutiveFailures > 0 &&
		b.doubts.Run >= doubtedRuns*b.doubts.inARow(cfg.ConsecutiveFailures) && now.Sub(b.doubts.since) >= doubtedFor &&
		b.doubts.missesSuccesses(now, cfg)
}

// OpenAfterRun opens the breaker after a run of failures.
func (b *Breaker) OpenAfterRun(now time.Time, cfg *Config) { b.open(now, cfg, ReasonConsecutive) }

// TakeBack removes a failure that was the request's own from the counts. It undoes no transition.
// denied says that the failure was reported as Denied.
func (b *Breaker) TakeBack(now time.Time, cfg *Config, p Permit, denied bool) {
	if p.Generation != b.Generation || b.State != Closed {
		return
	}
	b.Outcomes.TakeBack(now, cfg.Window)
	b.Failures.Run, b.Failures.fresh = max(0, b.Failures.Run-1), max(0, b.Failures.fresh-1)
	if denied {
		b.denied = max(0, b.denied-1)
	}
}
