package endpoint

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/score"
	"github.com/apifailover/caddy-failover/internal/slowness"
)

// A condition is how an endpoint is doing: whether it may be called, how much of its traffic it
// may have, how fast it usually is, and what went wrong last. The zero value is well.
//
// State.Mu guards its fields, and all its methods need that.
type condition struct {
	peak  atomic.Uint64 // float64 bits: peak EWMA of latency, seconds; readers need no lock
	begun uint64        // attempts that began
	scope string        // the scope of its calls; empty: the whole endpoint

	breaker breaker.Breaker
	hold    hold
	only429 only429
	stated  stated
	served  time.Time // time of the latest success that has been counted
	// Only kept while failures are counted or in doubt, and after a 429.
	servedSince time.Time     // when the attempt began that began last of those that succeeded
	failedAfter time.Duration // how long the latest failed attempt took

	passing  passing   // whether calls pass the endpoint over
	doubts   []failure // failures in doubt, oldest first
	verdicts verdicts
	news     []event.Event
	refused  int // requests in a row that the peer's HTTP/2 layer refused alone
	lost     lost
	tally    score.Tally // since the latest tick
	passed   int         // successes since the latest tick that a scope's condition counts
	scorer   score.Scorer
	slowness slowness.Detector
	seen     struct{ slow, inTime int } // verdicts of a look at the attempts in flight
	flows    flows
	room     float64 // the latest result of Scoped.Room; 0: none
	byFlow   bool    // slow flows opened the breaker last, if slowness did
	inVain   unanswered
	silence  silence
	quiet    quiet
	faults   faults

	told uint64 // Breaker.Told.Turn of the latest event

	used    uint64  // number of the scope's latest attempt, among the endpoint's
	busy    float64 // attempts of the scope, weighted by age; see busyKept
	over    bool    // the scope is to be forgotten
	left    bool    // the scope has been forgotten; only its earlier attempts use this
	heard   bool    // the scope is known only from other instances, and has had no call here
	found   bool    // Findings has returned the scope
	spread  uint64  // the breaker's generation that spreadLocked saw last
	toBlame bool    // it has been blamed for a failure, or has opened, since spreadLocked saw it

	peakAt    time.Time // when peak was updated
	lastTried time.Time // when an attempt last began while the breaker was not closed
}

// busyKept is the part of condition.busy that a tick leaves.
const busyKept = 0.999

// peakDecay is the time constant of the peak EWMA of latency.
const peakDecay = 10 * time.Second

// well reports whether the breaker is closed and there is no hold.
func (c *condition) well() bool { return c.breaker.State == breaker.Closed && c.hold.until.IsZero() }

// notePeak adds a latency to the peak EWMA, which rises at once and falls slowly (Finagle).
func (c *condition) notePeak(now time.Time, latency time.Duration) {
	sample, old := latency.Seconds(), math.Float64frombits(c.peak.Load())
	if sample < old {
		keep := math.Exp(-float64(max(0, now.Sub(c.peakAt))) / float64(peakDecay))
		sample = old*keep + sample*(1-keep)
	}
	c.peakAt = now
	c.peak.Store(math.Float64bits(sample))
}

// fails notes a failure.
func (c *condition) fails(o outcome.Outcome, cause Cause, now time.Time) {
	c.faults.add(o, cause, now, c.breaker.State == breaker.Closed)
}

// tick makes the changes that depend on time alone, and adds the results since the latest tick to
// sample. It returns whether routing tables must be rebuilt, and when the next tick is due; zero:
// none.
func (c *condition) tick(now time.Time, cfg *breaker.Config, sample *score.StepTally) (changed bool, due time.Time) {
	changed = c.doubtsOver(now, cfg)
	changed = c.breaker.Tick(now, cfg) || changed
	sample.Add(c.tally)
	c.tally.Calls += c.passed
	c.scorer.Fold(now, c.tally)
	c.tally, c.passed = score.Tally{}, 0
	if c.scope != "" {
		c.busy = c.busy*busyKept + float64(c.begun-c.quiet.begun)
		c.over = now.Sub(c.quiet.since) >= ForgetScope && c.begun == c.quiet.begun
		if c.over {
			c.breaker.Forget(now, breaker.ReasonForgotten)
		}
	}
	if c.breaker.State == breaker.Open {
		c.scorer.Forget()
		c.slowness.Opened()
		c.inVain.run, c.silence.run = 0, 0
	}
	changed = c.watchQuiet(now, cfg) || changed
	c.slowness.Refresh(now, cfg.SlowFactor)
	c.flows.refresh(now, cfg.SlowFactor, c.breaker.State == breaker.Open)
	due = c.breaker.Due(cfg)
	if c.scorer.Drifts() {
		due = Earliest(due, now.Add(driftEvery))
	}
	if now.Before(c.passing.until) {
		due = Earliest(due, c.passing.until)
	} else if c.passing.due(now) && !c.passing.shown {
		c.passing.shown, changed = true, true
	}
	if c.hold.on(now) {
		due = Earliest(due, c.hold.until)
	} else if !c.hold.until.IsZero() {
		c.hold.end()
		changed = true
	}
	if c.stated.usedUp(now) {
		due = Earliest(due, c.stated.until)
	} else if !c.stated.until.IsZero() {
		c.stated.until, changed = time.Time{}, true
	}
	c.over = c.over || c.heard && !c.ill(now)
	return changed, due
}

// restless reports whether the score may change: there are samples since the latest one, or it is
// below 1.
func (c *condition) restless() bool { return c.scorer.News() || c.scorer.Lost > 0 }

// rescore computes the score and publishes it if it moved by score.Step or more, or back to 1.
// It reports whether it did.
func (c *condition) rescore(cfg *breaker.Config, reference, usual time.Duration) bool {
	lost := 1 - c.scorer.Score(cfg.FailureRatio, reference, usual)
	if diff := lost - c.scorer.Lost; diff < score.Step && diff > -score.Step && (lost != 0 || c.scorer.Lost == 0) {
		return false
	}
	c.scorer.Lost = lost
	return true
}

// reset closes the breaker, ends the hold, and forgets all results and latencies.
func (c *condition) reset(now time.Time) {
	c.breaker.Reset(now)
	c.scorer, c.tally, c.slowness, c.flows = score.Scorer{}, score.Tally{}, slowness.Detector{}, flows{}
	c.hold.end()
	c.only429 = only429{}
	c.stated, c.silence = stated{}, silence{}
	c.hold.step, c.passing = 0, passing{}
	c.peak.Store(0)
}
