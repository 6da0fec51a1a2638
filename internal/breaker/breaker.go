// Package breaker decides whether an endpoint may be called, and how much of
// its traffic it may have.
package breaker

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/window"
)

// State is where a breaker stands.
type State uint8

const (
	Closed       State = iota // allows every attempt
	Open                      // allows none
	Recovering                // allows one trial at a time, then a growing share
	ForcedOpen                // allows none until an operator releases it
	ForcedClosed              // allows every attempt until an operator releases it
)

// StateNames are the names of the states in the API, the metrics and the log, indexed by State.
var StateNames = [...]string{"closed", "open", "recovering", "forced_open", "forced_closed"}

// String returns the state's name.
func (s State) String() string { return StateNames[s] }

// Reasons for a change of state, as the API, the events and the log show them.
const (
	ReasonConsecutive = "consecutive_failures"
	reasonRatio       = "failure_ratio"
	reasonDenied      = "denied"
	ReasonSlow        = "slow"
	ReasonSlower      = "slower_than_usual"
	ReasonUnanswered  = "unanswered"
	ReasonCheckFailed = "check_failed"
	reasonChecksPass  = "checks_passed"
	ReasonPeriodOver  = "open_period_over"
	reasonAllDown     = "all_down"
	reasonTrialFailed = "trial_failed"
	reasonRelapse     = "relapse"
	ReasonRecovered   = "recovered"
	ReasonOperator    = "operator"
	ReasonWary        = "failed_while_wary"
	reasonOff         = "breaker_off"
	ReasonScopes      = "scopes"
	ReasonForgotten   = "forgotten"
)

const (
	// maxDenied is how many times in a row an endpoint must refuse its own credentials to open.
	maxDenied = 3
	// thinSteps is how many steps without an attempt make a recovering endpoint ask for one.
	thinSteps = 10
	// forgiveAfter is how long a breaker must stay closed, with successes, to lose a relapse.
	forgiveAfter = time.Minute
	// While an endpoint recovers, forgivenEvery successes make up for one failure. Successes
	// for at most maxForgiven failures are kept. Without this, a busy endpoint with a normal
	// rate of errors would never have a step without a failure. If failures were more frequent
	// before it opened, fewer successes suffice.
	forgivenEvery = 20
	maxForgiven   = 3
	// openJitter spreads the ends of open periods, so that many instances do
	// not return to an endpoint at the same moment.
	openJitter = 0.2
)

// Config holds the settings of breakers. It is read-only and belongs to the
// configuration, not to the breaker: breakers outlive configurations.
type Config struct {
	Off                 bool
	ConsecutiveFailures int     // 0: failures in a row do not open it
	FailureRatio        float64 // 0: no ratio of failures opens it
	MinRequests         int     // attempts in Window before a ratio counts
	Window              time.Duration
	SlowRatio           float64       // 0: no ratio of slow attempts opens it
	SlowAfter           time.Duration // an attempt that takes longer is slow
	SlowFactor          float64       // how many times slower than usual opens it; 0: off
	OpenFor, OpenMax    time.Duration
	DeniedMax           time.Duration // replaces OpenMax if the endpoint refuses its own credentials
	Start               float64       // the first share
	Step                time.Duration
	trialExpiry         time.Duration // after this long a trial without a result allows another
}

// Defaults returns the default settings; timeout is the longest timeout of an
// attempt, after which trials expire.
func Defaults(timeout time.Duration) Config {
	return Config{
		ConsecutiveFailures: 5,
		FailureRatio:        0.5,
		MinRequests:         20,
		Window:              10 * time.Second,
		SlowFactor:          10,
		OpenFor:             5 * time.Second,
		OpenMax:             10 * time.Second,
		DeniedMax:           5 * time.Minute,
		Start:               0.05,
		Step:                500 * time.Millisecond,
		trialExpiry:         timeout,
	}
}

// WithTimeout returns cfg with the longest timeout of an attempt set to timeout.
func (cfg Config) WithTimeout(timeout time.Duration) Config {
	cfg.trialExpiry = timeout
	return cfg
}

// A Permit allows one attempt. Exactly one call of Report, Cancel or Unanswered
// gives it back. One that is never given back blocks trials for at most
// Config.trialExpiry. The breaker ignores permits of an earlier generation.
type Permit struct {
	Generation uint64
	Trial      uint32 // the number of the trial; 0: the attempt is no trial
	answered   bool   // already counted as a success
}

// A Result is what an attempt says about the endpoint.
type Result struct {
	Failed   bool
	Denied   bool  // failed because the endpoint refused its own credentials
	Doubted  bool  // failed, and Doubt has counted the failure
	Followed bool  // failed, and a later attempt has succeeded since
	Slow     bool  // took longer than Config.SlowAfter
	Slower   bool  // took, or has been taking, much longer than usual
	Moved    Moved // whether its call has moved on already
}

// Breaker decides whether an endpoint may be called and how much of its
// traffic it may have. The zero value is closed. It is not safe for concurrent
// use: its endpoint's mutex guards it.
//
//	from           event                                    to          share
//	closed         more failures in a row than the usual
//	               ones explain, failure ratio, denied in
//	               a row, slow ratio                        open        0
//	closed         checks fail                              open        0
//	closed         most scopes of the endpoint are out      open        0
//	closed, wary   one failure, of a check too              open        0
//	closed         much slower than usual, or clients
//	               give up waiting                          open        0
//	open           the period is over, and the latest
//	               check, if any, passed                    recovering  0, one trial at a time
//	open           the period is over or checks pass in a
//	               row, the latest passed in time, and one had
//	               failed or was late while it was open     recovering  start
//	open           all endpoints down, a trial is due       recovering  0, this one trial
//	recovering     the trial fails, or its client leaves
//	               before an answer                         open        0, a relapse unless all were down
//	recovering     the trial of a pool that was all down
//	               says nothing                             open        0, the same period
//	recovering     the trial succeeds, or a check and none
//	               passed while it was open                 recovering  start
//	recovering     the same, and it opened for its scopes   closed      1
//	recovering     a step with successes only               recovering  grown, at most doubled
//	recovering     a success of a quick recovery            recovering  grown
//	recovering     first failure of a step, not made up for
//	               by the successes before                  recovering  halved
//	recovering     failures of two calls at the smallest
//	               share, or two steps with failures in a
//	               row, much slower than usual, or clients
//	               give up waiting                          open        0, a relapse
//	recovering     share reaches 1                          closed      1
//	any            operator trips                           forced_open 0
//	any            operator enables for a time              forced_closed 1
//	forced_open    operator enables, or the time is over    recovering  0, one trial at a time
//	forced_closed  the time is over                         closed      1
//	any            operator resets                          closed      1
//	open,
//	recovering     breakers are off in a new configuration  closed      1
//
// The operator's states hold even if breakers are off.
//
// An open period lasts OpenFor, doubled for each relapse, with ±20 % jitter. It is at most
// OpenMax, or DeniedMax if the endpoint last refused its own credentials. After a trial that cost
// its client nothing it may be as short as half of OpenFor (MovedOn). Each opening of an
// endpoint that flaps counts as a relapse, and so does the third within five minutes. A minute
// closed with successes forgives one relapse.
//
// If the clock jumps back, an open period or a step lasts longer by the jump; nothing else changes.
type Breaker struct {
	Generation uint64
	State      State

	// closed
	Worked    bool           // something has succeeded since goodSince
	uncounted int            // successes that no window contains yet
	denied    int            // refusals of the endpoint's own credentials in a row
	Outcomes  window.Counter // failures
	Failures  usual          // failures that were the endpoint's, as far as known
	doubts    usual          // failures that may have been the requests' own
	Latencies window.Counter // slow attempts
	Relapses  int
	goodSince time.Time    // when it closed or last forgave a relapse
	setbacks  int          // recoveries that have failed since it was closed last
	openings  [2]time.Time // when it opened last while it was closed, and before
	failedAt  time.Time    // of the latest failure
	Heard     bool         // other instances want to know when it HasFailed
	wary      bool         // other instances have opened: see SetWary
	trusted   time.Time    // when a success last ended its wariness

	// Told is the state that events, the API and the log show.
	Told Told
	// AllOut says that every endpoint of the pool is out; then Told does not follow trials.
	// The control loop sets it.
	AllOut bool

	failingSince    time.Time // when the failures began that opened it while it was closed
	checksFailSince time.Time // when the first of the checks failed that have since

	Reason  string // of the last transition
	Opened  string // why it last opened; kept while recovering
	Changed time.Time

	Served  float64 // ratio of successes before it opened, and of attempts since
	failing float64 // usual ratio of failures before it opened, which recovery tolerates

	// open
	Until   time.Time // end of the period
	pace    float64   // attempts a second before it opened; 0: unknown
	quiet   bool      // the trial that ends the period is no news unless it succeeds
	stale   bool      // so is it after failed trials that made the period as long as it gets
	vain    int       // failures of the trial before it, whose calls may have moved on; 0: none
	noticed bool      // the latest check before it opened, or one since, has failed or was late
	late    bool      // the latest check passed late
	upheld  bool      // a check has passed
	putOff  int       // trials of other instances in vain that made the period longer
	left    *left     // turns of other instances; nil: none

	Latest   checkState // result of the latest check
	Flapping bool       // it opens and closes again and again

	// recovering
	Share      float64   // 0 until a trial has succeeded
	trial      uint32    // number of the latest trial
	trialUntil time.Time // when it expires
	probation  bool      // the trial takes place only because all endpoints are down
	stepBegan  time.Time
	successes  int // of this step
	stepFailed bool
	warned     bool // one attempt has failed at the smallest share
	failures   int
	grown      bool // the share has been more than the first
	credit     int  // successes that can make up for failures
	badSteps   int  // in a row
	thin       int  // steps in a row without an attempt
	idle       int  // steps in a row without a result
	quick      quick
	together   bool // other instances return too: see ReturnTogether
}

// Transition changes the state and begins a new generation. Nothing else changes the state.
func (b *Breaker) Transition(to State, now time.Time, reason string) {
	from := b.State
	b.State, b.Reason, b.Changed = to, reason, now
	b.Generation++
	if !b.silent(from, to, reason) {
		b.tell(now)
	}
	b.denied, b.uncounted = 0, 0
	b.Outcomes.Reset()
	b.Latencies.Reset()
	b.Failures, b.doubts = usual{}, usual{}
	b.Share, b.trial, b.trialUntil, b.probation = 0, 0, time.Time{}, false
	b.badSteps, b.thin, b.idle, b.credit, b.warned = 0, 0, 0, 0, false
	b.quick = quick{may: b.quick.may}
	b.failures, b.grown, b.vain = 0, false, 0
	b.late, b.quiet, b.stale, b.putOff = false, false, false, 0
	b.left = nil
	b.goodSince, b.Worked, b.wary, b.trusted = now, false, false, time.Time{}
	b.together = b.together && to != Closed
	if to == Closed || to == ForcedClosed {
		b.setbacks = 0
	}
	if to == Open {
		b.Opened, b.noticed, b.upheld = reason, b.Latest == CheckHasFailed, false
	}
}

// Acquire returns a permit for one attempt; ok is false if the breaker allows none.
func (b *Breaker) Acquire(now time.Time, cfg *Config) (p Permit, ok bool) {
	switch {
	case b.State == ForcedOpen:
		return Permit{}, false
	case cfg.Off, b.State == Closed, b.State == ForcedClosed:
		return Permit{Generation: b.Generation}, true
	case b.State == Recovering && b.Share > 0:
		b.thin = 0
		return Permit{Generation: b.Generation}, true
	case b.State == Recovering && !now.Before(b.trialUntil):
		b.trial++
		b.trialUntil = now.Add(cfg.trialExpiry)
		return Permit{Generation: b.Generation, Trial: b.trial}, true
	}
	return Permit{}, false
}

// AcquireLast is Acquire while every endpoint of the pool is out. It allows a trial
// during the open period; if the trial fails, that period goes on.
func (b *Breaker) AcquireLast(now time.Time, cfg *Config) (p Permit, ok bool) {
	if b.State == Open && !cfg.Off {
		until := b.Until
		b.Transition(Recovering, now, reasonAllDown)
		b.Until, b.probation = until, true
	}
	return b.Acquire(now, cfg)
}

// Answered takes the beginning of a good response. It counts as a success of the
// recovery, so that a long stream does not hold the recovery up; other states wait
// for the report. A permit counts once. slow says that it took longer than Config.SlowAfter.
func (b *Breaker) Answered(now time.Time, cfg *Config, p *Permit, slow bool) (changed bool) {
	if p.answered || p.Generation != b.Generation || b.State != Recovering || cfg.Off {
		return false
	}
	if slow && b.Opened == ReasonSlow {
		return false // Report will count it as slow
	}
	p.answered = true
	return b.callSucceeded(now, cfg)
}

// Report gives a permit back with the result of the attempt.
func (b *Breaker) Report(now time.Time, cfg *Config, p Permit, r Result) (changed bool) {
	if p.Generation != b.Generation || cfg.Off {
		return false
	}
	switch b.State {
	case Closed:
		return b.reportClosed(now, cfg, r)
	case Recovering:
		if r.Failed || r.Slow && b.Opened == ReasonSlow || r.Slower && b.Opened == ReasonSlower {
			changed = b.stepFailedAt(now, cfg, b.causeOf(r))
			return b.MovedOn(now, cfg, p, r.Moved) || changed
		}
		b.credit = min(b.credit+1, b.forgivenEvery()*maxForgiven)
		return !p.answered && b.callSucceeded(now, cfg)
	}
	return false
}

// Cancel gives a permit back after an attempt that says nothing about the endpoint.
func (b *Breaker) Cancel(now time.Time, p Permit) (changed bool) {
	if p.Trial == 0 || p.Trial != b.trial || p.Generation != b.Generation || b.Share > 0 {
		return false // no trial, or not the latest one
	}
	if b.probation {
		b.reopen(now)
		return true
	}
	b.trialUntil = time.Time{}
	return false
}

// Unanswered gives a permit back after the client left before an answer. A trial counts
// as failed; other attempts change nothing.
func (b *Breaker) Unanswered(now time.Time, cfg *Config, p Permit) (changed bool) {
	if p.Generation != b.Generation || !b.OnTrial(cfg) {
		return false
	}
	return b.stepFailedAt(now, cfg, ReasonUnanswered)
}

// Suspect opens the breaker for ReasonSlower or ReasonUnanswered. The caller has made
// sure that another endpoint is available.
func (b *Breaker) Suspect(now time.Time, cfg *Config, reason string) (changed bool) {
	switch {
	case cfg.Off:
		return false
	case b.State == Closed:
		b.open(now, cfg, reason)
	case b.State == Recovering:
		b.relapse(now, cfg, reason, reason)
	default:
		return false
	}
	return true
}

// Tick makes the changes that depend on time alone: it ends open periods and steps, and
// forgives relapses.
func (b *Breaker) Tick(now time.Time, cfg *Config) (changed bool) {
	switch {
	case cfg.Off && (b.State == Open || b.State == Recovering):
		b.Transition(Closed, now, reasonOff)
		return true
	case b.State == Closed:
		if b.wary && b.uncounted > 0 {
			b.trusts(now)
			changed = true
		}
		b.countSuccesses(now, cfg)
		if b.Relapses > 0 && b.Worked && now.Sub(b.goodSince) >= forgiveAfter {
			b.Relapses--
			b.goodSince, b.Worked = now, false
		}
	case b.State == Open:
		if !now.Before(b.Until) && b.Latest != CheckHasFailed {
			b.recover(now, cfg, ReasonPeriodOver)
			return true
		}
	case b.State == Recovering:
		if b.Share > 0 && now.Sub(b.stepBegan) >= cfg.Step {
			return b.endStep(now)
		}
	}
	return changed
}

// Settled reports whether Tick changes nothing before the next attempt, check or order.
func (b *Breaker) Settled() bool {
	return b.State == Closed && b.Told.State == Closed && !b.wary && b.uncounted == 0 && (b.Relapses == 0 || !b.Worked)
}

// Due returns when Tick will next change something; zero if only an event can.
func (b *Breaker) Due(cfg *Config) time.Time {
	switch {
	case b.State == Open && b.Latest != CheckHasFailed:
		return b.Until
	case b.State == Recovering && b.Share > 0:
		return b.stepBegan.Add(cfg.Step)
	}
	return time.Time{}
}

// Allowed returns the share of its normal traffic that the endpoint may have now, 0 to 1.
func (b *Breaker) Allowed(cfg *Config) float64 {
	switch {
	case b.State == ForcedOpen:
		return 0
	case !cfg.Off && b.wary:
		return WaryShare
	case cfg.Off, b.State == Closed, b.State == ForcedClosed:
		return 1
	case b.State == Recovering:
		return b.Share
	}
	return 0
}

// IsOpen reports whether the breaker allows no attempts.
func (b *Breaker) IsOpen() bool { return b.State == Open || b.State == ForcedOpen }
