package failover

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/window"
)

// breakerState is where a breaker stands.
type breakerState uint8

const (
	stateClosed breakerState = iota
	stateOpen
	stateRecovering
	stateForcedOpen
	stateForcedClosed
)

var breakerStateNames = [...]string{"closed", "open", "recovering", "forced_open", "forced_closed"}

func (s breakerState) String() string { return breakerStateNames[s] }

// Reasons for which a breaker changes its state.
const (
	reasonConsecutive = "consecutive_failures"
	reasonRatio       = "failure_ratio"
	reasonDenied      = "denied"
	reasonSlow        = "slow"
	reasonSlower      = "slower_than_usual"
	reasonCheckFailed = "check_failed"
	reasonChecksPass  = "checks_passed"
	reasonPeriodOver  = "open_period_over"
	reasonAllDown     = "all_down"
	reasonTrialFailed = "trial_failed"
	reasonRelapse     = "relapse"
	reasonRecovered   = "recovered"
	reasonOperator    = "operator"
	reasonOff         = "breaker_off"
)

const (
	// maxDenied refusals of the endpoint's own credentials in a row open it.
	maxDenied = 3
	// thinSteps steps without an attempt make a recovering endpoint ask for one.
	thinSteps = 10
	// forgiveAfter is how long a closed breaker must do well to lose a relapse.
	forgiveAfter = time.Minute
	// While an endpoint recovers, forgivenEvery successes make up for one failure,
	// of at most maxForgiven: a busy endpoint that fails now and then, as many do
	// when they are well, would never have a step without a failure. Fewer do where more
	// failures than that were usual before it opened.
	forgivenEvery = 20
	maxForgiven   = 3
	// openJitter spreads the ends of open periods, so that many instances do
	// not come back to an endpoint in the same moment.
	openJitter = 0.2
)

// breakerConfig is what a breaker runs by. It is read-only and belongs to the
// configuration, not to the breaker: breakers outlive configurations.
type breakerConfig struct {
	off                 bool
	consecutiveFailures int     // 0: failures in a row do not open it
	failureRatio        float64 // 0: no ratio of failures opens it
	minRequests         int
	window              time.Duration
	slowRatio           float64 // 0: calls are never slow
	slowAfter           time.Duration
	slowFactor          float64 // of relative slowness; 0: off
	openFor, openMax    time.Duration
	start               float64 // the first share
	step                time.Duration
	trialExpiry         time.Duration // a trial not heard of by then frees its place
}

// defaults is what a breaker runs by unless told otherwise; trials expire after
// the longest timeout.
func defaults(timeout time.Duration) breakerConfig {
	return breakerConfig{
		consecutiveFailures: 5,
		failureRatio:        0.5,
		minRequests:         20,
		window:              10 * time.Second,
		slowFactor:          10,
		openFor:             5 * time.Second,
		openMax:             5 * time.Minute,
		start:               0.05,
		step:                500 * time.Millisecond,
		trialExpiry:         timeout,
	}
}

// A permit allows one attempt. It is given back by exactly one of report and
// cancel; one that never comes back blocks nothing for longer than
// breakerConfig.trialExpiry. Its generation voids results of attempts begun
// before the last transition.
type permit struct {
	generation uint64
	trial      uint32 // its number; 0 for other attempts
	answered   bool   // counts as a success already
}

// A result is what an attempt says about the endpoint.
type result struct {
	failed   bool
	denied   bool // failed, because the endpoint refused its own credentials
	doubted  bool // failed, and doubt has been told
	followed bool // failed some time ago, and an attempt has succeeded since
	slow     bool // took longer than breakerConfig.slowAfter
	slower   bool // took, or has been taking, much longer than usual
}

// breaker decides whether an endpoint may be called and how much of its
// traffic it may have. The zero value is closed. It is not safe for concurrent
// use: its endpoint's mutex guards it.
//
//	from           event                                    to          share
//	closed         more failures in a row than the usual
//	               ones explain, failure ratio, denied in
//	               a row, slow ratio                        open        0
//	closed         checks fail                              open        0
//	closed         much slower than usual                   open        0
//	open           the period is over, and the latest
//	               check, if any, passed                    recovering  0, one trial at a time
//	open           the same, or checks pass in a row,
//	               after one has failed while it was open   recovering  start
//	open           all endpoints down, a trial is due       recovering  0, this one trial
//	recovering     the trial fails                          open        0, a relapse unless all were down
//	recovering     the trial of a pool that was all down
//	               comes to nothing                         open        0, as it was
//	recovering     the trial succeeds, or a check           recovering  start
//	recovering     a step with successes only               recovering  grown, at most doubled
//	recovering     first failure of a step, not made up for
//	               by the successes before                  recovering  halved
//	recovering     failures of two calls at the smallest
//	               share, or two steps with failures in a
//	               row, much slower than usual              open        0, a relapse
//	recovering     share reaches 1                          closed      1
//	any            operator trips                           forced_open 0
//	any            operator enables for a time              forced_closed 1
//	forced_open    operator enables, or the time is over    recovering  0, one trial at a time
//	forced_closed  the time is over                         closed      1
//	any            operator resets                          closed      1
//	open,
//	recovering     breakers are off in a new configuration  closed      1
//
// The operator's states hold even where breakers are off.
//
// An open period lasts openFor doubled for each relapse, at most openMax, with
// ±20 % jitter; each opening of one that flaps counts as a relapse. A minute closed with successes forgives one relapse.
//
// Times are compared as they come in: a clock that jumps back makes a period
// or a step longer by the jump, and nothing else.
type breaker struct {
	generation uint64
	state      breakerState

	// closed
	worked    bool           // since goodSince
	waiting   int            // successes that are not in the windows yet
	denied    int            // in a row
	outcomes  window.Counter // failures
	failures  usual          // those that were the endpoint's, as far as was known
	doubts    usual          // those that may have been the requests' own
	latencies window.Counter // slow calls
	relapses  int
	goodSince time.Time // closed or last forgiven

	reason  string // of the last transition
	opened  string // why it opened last, kept while recovering
	changed time.Time

	served  float64 // ratio of successes before it opened, and of attempts since
	failing float64 // usual ratio of failures before it opened, which is no reason to stay away

	// open
	until   time.Time
	noticed bool // the latest check then, or one since, has failed

	latest   checkState // the newest check
	flapping bool       // it has been opening and closing again and again

	// recovering
	share      float64   // 0 until a trial has succeeded
	trial      uint32    // the number of the latest
	trialUntil time.Time // when it expires
	probation  bool      // the trial is only because all endpoints are down
	stepBegan  time.Time
	successes  int // of this step
	stepFailed bool
	warned     bool // one call has failed at the smallest share
	credit     int  // successes that can make up for failures
	badSteps   int  // in a row
	thin       int  // steps in a row without an attempt
	idle       int  // steps in a row without a result
}

// transition is the only place where the state changes.
func (b *breaker) transition(to breakerState, now time.Time, reason string) {
	b.state, b.reason, b.changed = to, reason, now
	b.generation++
	b.denied, b.waiting = 0, 0
	b.outcomes.Reset()
	b.latencies.Reset()
	b.failures, b.doubts = usual{}, usual{}
	b.share, b.trial, b.trialUntil, b.probation = 0, 0, time.Time{}, false
	b.badSteps, b.thin, b.idle, b.credit, b.warned = 0, 0, 0, 0, false
	b.goodSince, b.worked = now, false
	if to == stateOpen {
		b.opened, b.noticed = reason, b.latest == checkHasFailed
	}
}

// acquire asks for a permit for one attempt.
func (b *breaker) acquire(now time.Time, cfg *breakerConfig) (permit, bool) {
	switch {
	case b.state == stateForcedOpen:
		return permit{}, false
	case cfg.off, b.state == stateClosed, b.state == stateForcedClosed:
		return permit{generation: b.generation}, true
	case b.state == stateRecovering && b.share > 0:
		b.thin = 0
		return permit{generation: b.generation}, true
	case b.state == stateRecovering && !now.Before(b.trialUntil):
		b.trial++
		b.trialUntil = now.Add(cfg.trialExpiry)
		return permit{generation: b.generation, trial: b.trial}, true
	}
	return permit{}, false
}

// acquireLast asks for a trial while every endpoint of the pool is out. Unlike
// acquire it does not wait for the open period to end, and its failure leaves
// that period as it was.
func (b *breaker) acquireLast(now time.Time, cfg *breakerConfig) (permit, bool) {
	if b.state == stateOpen && !cfg.off {
		until := b.until
		b.transition(stateRecovering, now, reasonAllDown)
		b.until, b.probation = until, true
	}
	return b.acquire(now, cfg)
}

// answered says that an endpoint has begun to answer well, if slowly. A long
// stream that is under way is enough to go on with recovery, though only its end
// is a success.
func (b *breaker) answered(now time.Time, cfg *breakerConfig, p *permit, slow bool) (changed bool) {
	if p.generation != b.generation || b.state != stateRecovering || cfg.off {
		return false
	}
	if slow && b.opened == reasonSlow {
		return false // its end will be reported as slow
	}
	p.answered = true
	return b.stepSucceeded(now, cfg)
}

// report gives a permit back with what the attempt came to.
func (b *breaker) report(now time.Time, cfg *breakerConfig, p permit, r result) (changed bool) {
	if p.generation != b.generation || cfg.off {
		return false
	}
	switch b.state {
	case stateClosed:
		return b.reportClosed(now, cfg, r)
	case stateRecovering:
		if r.failed || r.slow && b.opened == reasonSlow || r.slower && b.opened == reasonSlower {
			return b.stepFailedAt(now, cfg)
		}
		b.credit = min(b.credit+1, b.forgivenEvery()*maxForgiven)
		return !p.answered && b.stepSucceeded(now, cfg)
	}
	return false
}

// cancel gives a permit back for an attempt that says nothing about the
// endpoint.
func (b *breaker) cancel(now time.Time, p permit) (changed bool) {
	if p.trial == 0 || p.trial != b.trial || p.generation != b.generation || b.share > 0 {
		return false // no trial, or another has taken its place
	}
	if b.probation {
		b.reopen(now)
		return true
	}
	b.trialUntil = time.Time{}
	return false
}

// checkState is what the newest check says.
type checkState uint8

const (
	unchecked checkState = iota
	checkHasPassed
	checkHasFailed
)

// unchecked says that there are no checks (any more), or none yet.
func (b *breaker) unchecked() { b.latest = unchecked }

// checked takes the result of a check. Steady is set if enough in a row said
// the same; alone, if no other endpoint is available: checks alone never take
// the last one out.
func (b *breaker) checked(now time.Time, cfg *breakerConfig, passed, steady, alone bool) (changed bool) {
	b.latest = checkHasFailed
	if passed {
		b.latest = checkHasPassed
	}
	switch {
	case cfg.off:
		return false
	case b.state == stateClosed && passed:
		b.worked = true
	case b.state == stateClosed && steady && !alone:
		b.open(now, cfg, reasonCheckFailed)
		b.noticed = true
		return true
	case b.state == stateOpen && !passed:
		b.noticed = true
	case b.state == stateOpen && (steady && b.noticed || !now.Before(b.until)):
		b.recover(now, cfg, reasonChecksPass)
		return true
	case b.state == stateRecovering && passed:
		return b.stepSucceeded(now, cfg)
	case b.state == stateRecovering && !alone:
		changed = b.stepFailedAt(now, cfg)
		b.noticed = true
		return changed
	}
	return false
}

// slower opens the breaker of an endpoint that has become much slower than
// usual. It is for the control loop to say so, which knows whether another
// endpoint is available.
func (b *breaker) slower(now time.Time, cfg *breakerConfig) (changed bool) {
	switch {
	case cfg.off:
		return false
	case b.state == stateClosed:
		b.open(now, cfg, reasonSlower)
	case b.state == stateRecovering:
		b.relapse(now, cfg, reasonSlower)
		b.opened = reasonSlower
	default:
		return false
	}
	return true
}

// tick does what time alone brings about.
func (b *breaker) tick(now time.Time, cfg *breakerConfig) (changed bool) {
	switch {
	case cfg.off && (b.state == stateOpen || b.state == stateRecovering):
		b.transition(stateClosed, now, reasonOff)
		return true
	case b.state == stateClosed:
		b.countWaiting(now, cfg)
		if b.relapses > 0 && b.worked && now.Sub(b.goodSince) >= forgiveAfter {
			b.relapses--
			b.goodSince, b.worked = now, false
		}
	case b.state == stateOpen:
		if !now.Before(b.until) && b.latest != checkHasFailed {
			b.recover(now, cfg, reasonPeriodOver)
			return true
		}
	case b.state == stateRecovering:
		if b.share > 0 && now.Sub(b.stepBegan) >= cfg.step {
			return b.endStep(now)
		}
	}
	return false
}

// due is when tick has something to do next; zero if only an event can change
// anything.
func (b *breaker) due(cfg *breakerConfig) time.Time {
	switch {
	case b.state == stateOpen && b.latest != checkHasFailed:
		return b.until
	case b.state == stateRecovering && b.share > 0:
		return b.stepBegan.Add(cfg.step)
	}
	return time.Time{}
}

// allowed is the part of its normal traffic that the endpoint may have now,
// 0 to 1.
func (b *breaker) allowed(cfg *breakerConfig) float64 {
	switch {
	case b.state == stateForcedOpen:
		return 0
	case cfg.off, b.state == stateClosed, b.state == stateForcedClosed:
		return 1
	case b.state == stateRecovering:
		return b.share
	}
	return 0
}

// force holds the breaker open or closed until release, whatever happens, and
// whether or not the pool has breakers.
func (b *breaker) force(now time.Time, to breakerState) { b.transition(to, now, reasonOperator) }

// release ends what was forced. What was forced open recovers, as after an open
// period; what was forced closed is closed.
func (b *breaker) release(now time.Time, cfg *breakerConfig) {
	switch {
	case b.state == stateForcedOpen && !cfg.off:
		b.transition(stateRecovering, now, reasonOperator)
		b.opened = reasonOperator
	case b.state == stateForcedOpen, b.state == stateForcedClosed:
		b.transition(stateClosed, now, reasonOperator)
	}
}

// trip opens the breaker as if the endpoint had failed.
func (b *breaker) trip(now time.Time, cfg *breakerConfig, reason string) { b.open(now, cfg, reason) }

// reset closes the breaker and forgets its relapses.
func (b *breaker) reset(now time.Time) {
	b.relapses = 0
	b.transition(stateClosed, now, reasonOperator)
}
