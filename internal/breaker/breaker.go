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
	Closed       State = iota // every call may go
	Open                      // no call may
	Recovering                // trials, then a share that grows
	ForcedOpen                // no call may, until an operator says otherwise
	ForcedClosed              // every call may go, until an operator says otherwise
)

// StateNames are the words for the states in the API, the metrics and the log, by state.
var StateNames = [...]string{"closed", "open", "recovering", "forced_open", "forced_closed"}

// String returns the state's word.
func (s State) String() string { return StateNames[s] }

// Reasons for which a breaker changes its state.
const (
	ReasonConsecutive = "consecutive_failures"
	reasonRatio       = "failure_ratio"
	reasonDenied      = "denied"
	ReasonSlow        = "slow"
	ReasonSlower      = "slower_than_usual"
	ReasonUnanswered  = "unanswered"
	ReasonCheckFailed = "check_failed"
	ReasonChecksPass  = "checks_passed"
	ReasonPeriodOver  = "open_period_over"
	reasonAllDown     = "all_down"
	reasonTrialFailed = "trial_failed"
	ReasonRelapse     = "relapse"
	ReasonRecovered   = "recovered"
	ReasonOperator    = "operator"
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

// Config is what a breaker runs by. It is read-only and belongs to the
// configuration, not to the breaker: breakers outlive configurations.
type Config struct {
	Off                 bool
	ConsecutiveFailures int     // 0: failures in a row do not open it
	FailureRatio        float64 // 0: no ratio of failures opens it
	MinRequests         int
	Window              time.Duration
	SlowRatio           float64 // 0: calls are never slow
	SlowAfter           time.Duration
	SlowFactor          float64 // of relative slowness; 0: off
	OpenFor, OpenMax    time.Duration
	DeniedMax           time.Duration // OpenMax where the endpoint refuses its own credentials
	Start               float64       // the first share
	Step                time.Duration
	trialExpiry         time.Duration // a trial not heard of by then frees its place
}

// Defaults is what a breaker runs by unless told otherwise; trials expire after
// the longest timeout.
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

// WithTimeout is the configuration where that is the timeout of the slowest attempt.
func (cfg Config) WithTimeout(timeout time.Duration) Config {
	cfg.trialExpiry = timeout
	return cfg
}

// A Permit allows one attempt. It is given back by exactly one of report and
// cancel; one that never comes back blocks nothing for longer than
// Config.trialExpiry. Its generation voids results of attempts begun
// before the last transition.
type Permit struct {
	Generation uint64
	Trial      uint32 // its number; 0 for other attempts
	answered   bool   // counts as a success already
}

// A Result is what an attempt says about the endpoint.
type Result struct {
	Failed   bool
	Denied   bool // failed, because the endpoint refused its own credentials
	Doubted  bool // failed, and doubt has been told
	Followed bool // failed some time ago, and an attempt has succeeded since
	Slow     bool // took longer than Config.SlowAfter
	Slower   bool // took, or has been taking, much longer than usual
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
//	closed         much slower than usual, or clients
//	               give up waiting                          open        0
//	open           the period is over, and the latest
//	               check, if any, passed                    recovering  0, one trial at a time
//	open           the same, or checks pass in a row,
//	               after one has failed while it was open   recovering  start
//	open           all endpoints down, a trial is due       recovering  0, this one trial
//	recovering     the trial fails, or nobody waits for it
//	               any longer                               open        0, a relapse unless all were down
//	recovering     the trial of a pool that was all down
//	               comes to nothing                         open        0, as it was
//	recovering     the trial succeeds, or a check           recovering  start
//	recovering     a step with successes only               recovering  grown, at most doubled
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
// The operator's states hold even where breakers are off.
//
// An open period lasts OpenFor doubled for each relapse, at most OpenMax, or DeniedMax where
// the endpoint refused its own credentials last, with ±20 % jitter; each opening of one that
// flaps counts as a relapse. A minute closed with successes forgives one relapse.
//
// Times are compared as they come in: a clock that jumps back makes a period
// or a step longer by the jump, and nothing else.
type Breaker struct {
	Generation uint64
	State      State

	// closed
	Worked    bool           // since goodSince
	waiting   int            // successes that are not in the windows yet
	denied    int            // in a row
	Outcomes  window.Counter // failures
	Failures  usual          // those that were the endpoint's, as far as was known
	doubts    usual          // those that may have been the requests' own
	Latencies window.Counter // slow calls
	Relapses  int
	goodSince time.Time // closed or last forgiven

	// Told is where the breaker stands for those who look at it from outside.
	Told Told
	// AllOut says that every endpoint of the pool is out, so that trials are no turns. The
	// control loop sets it.
	AllOut bool

	Reason  string // of the last transition
	Opened  string // why it opened last, kept while recovering
	Changed time.Time

	Served  float64 // ratio of successes before it opened, and of attempts since
	failing float64 // usual ratio of failures before it opened, which is no reason to stay away

	// open
	Until   time.Time
	noticed bool // the latest check then, or one since, has failed

	Latest   checkState // the newest check
	Flapping bool       // it has been opening and closing again and again

	// recovering
	Share      float64   // 0 until a trial has succeeded
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

// Transition is the only place where the state changes.
func (b *Breaker) Transition(to State, now time.Time, reason string) {
	from := b.State
	b.State, b.Reason, b.Changed = to, reason, now
	b.Generation++
	if !b.inSilence(from, to, reason) {
		b.tell(now)
	}
	b.denied, b.waiting = 0, 0
	b.Outcomes.Reset()
	b.Latencies.Reset()
	b.Failures, b.doubts = usual{}, usual{}
	b.Share, b.trial, b.trialUntil, b.probation = 0, 0, time.Time{}, false
	b.badSteps, b.thin, b.idle, b.credit, b.warned = 0, 0, 0, 0, false
	b.goodSince, b.Worked = now, false
	if to == Open {
		b.Opened, b.noticed = reason, b.Latest == CheckHasFailed
	}
}

// Acquire asks for a permit for one attempt.
func (b *Breaker) Acquire(now time.Time, cfg *Config) (Permit, bool) {
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

// AcquireLast asks for a trial while every endpoint of the pool is out. Unlike
// acquire it does not wait for the open period to end, and its failure leaves
// that period as it was.
func (b *Breaker) AcquireLast(now time.Time, cfg *Config) (Permit, bool) {
	if b.State == Open && !cfg.Off {
		until := b.Until
		b.Transition(Recovering, now, reasonAllDown)
		b.Until, b.probation = until, true
	}
	return b.Acquire(now, cfg)
}

// Answered says that an endpoint has begun to answer well, if slowly. A long
// stream that is under way is enough to go on with recovery, though only its end
// is a success. A permit counts once.
func (b *Breaker) Answered(now time.Time, cfg *Config, p *Permit, slow bool) (changed bool) {
	if p.answered || p.Generation != b.Generation || b.State != Recovering || cfg.Off {
		return false
	}
	if slow && b.Opened == ReasonSlow {
		return false // its end will be reported as slow
	}
	p.answered = true
	return b.stepSucceeded(now, cfg)
}

// Report gives a permit back with what the attempt came to.
func (b *Breaker) Report(now time.Time, cfg *Config, p Permit, r Result) (changed bool) {
	if p.Generation != b.Generation || cfg.Off {
		return false
	}
	switch b.State {
	case Closed:
		return b.reportClosed(now, cfg, r)
	case Recovering:
		if r.Failed || r.Slow && b.Opened == ReasonSlow || r.Slower && b.Opened == ReasonSlower {
			return b.stepFailedAt(now, cfg, b.causeOf(r))
		}
		b.credit = min(b.credit+1, b.forgivenEvery()*maxForgiven)
		return !p.answered && b.stepSucceeded(now, cfg)
	}
	return false
}

// Cancel gives a permit back for an attempt that says nothing about the
// endpoint.
func (b *Breaker) Cancel(now time.Time, p Permit) (changed bool) {
	if p.Trial == 0 || p.Trial != b.trial || p.Generation != b.Generation || b.Share > 0 {
		return false // no trial, or another has taken its place
	}
	if b.probation {
		b.reopen(now)
		return true
	}
	b.trialUntil = time.Time{}
	return false
}

// Unanswered gives the permit of a trial back for which nobody waits any longer: it has
// failed. Of other attempts it takes no notice.
func (b *Breaker) Unanswered(now time.Time, cfg *Config, p Permit) (changed bool) {
	if p.Generation != b.Generation || !b.OnTrial(cfg) {
		return false
	}
	return b.stepFailedAt(now, cfg, ReasonUnanswered)
}

// checkState is what the newest check says.
type checkState uint8

const (
	unchecked checkState = iota
	checkHasPassed
	CheckHasFailed
)

// Unchecked says that there are no checks (any more), or none yet.
func (b *Breaker) Unchecked() { b.Latest = unchecked }

// Checked takes the result of a check. Steady is set if enough in a row said
// the same; alone, if no other endpoint is available: checks alone never take
// the last one out.
func (b *Breaker) Checked(now time.Time, cfg *Config, passed, steady, alone bool) (changed bool) {
	b.Latest = CheckHasFailed
	if passed {
		b.Latest = checkHasPassed
	}
	switch {
	case cfg.Off:
		return false
	case b.State == Closed && passed:
		b.Worked = true
	case b.State == Closed && steady && !alone:
		b.open(now, cfg, ReasonCheckFailed)
		b.noticed = true
		return true
	case b.State == Open && !passed:
		b.noticed = true
	case b.State == Open && (steady && b.noticed || !now.Before(b.Until)):
		b.recover(now, cfg, ReasonChecksPass)
		return true
	case b.State == Recovering && passed:
		return b.stepSucceeded(now, cfg)
	case b.State == Recovering && !alone:
		changed = b.stepFailedAt(now, cfg, b.Opened)
		b.noticed = true
		return changed
	}
	return false
}

// Slower opens the breaker of an endpoint that has become much slower than
// usual. It is for the control loop to say so, which knows whether another
// endpoint is available.
func (b *Breaker) Slower(now time.Time, cfg *Config) (changed bool) {
	return b.Suspected(now, cfg, ReasonSlower)
}

// Suspected is Slower for a reason, which may be ReasonUnanswered, too.
func (b *Breaker) Suspected(now time.Time, cfg *Config, reason string) (changed bool) {
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

// Tick does what time alone brings about.
func (b *Breaker) Tick(now time.Time, cfg *Config) (changed bool) {
	switch {
	case cfg.Off && (b.State == Open || b.State == Recovering):
		b.Transition(Closed, now, reasonOff)
		return true
	case b.State == Closed:
		b.countWaiting(now, cfg)
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
	return false
}

// Due is when tick has something to do next; zero if only an event can change
// anything.
func (b *Breaker) Due(cfg *Config) time.Time {
	switch {
	case b.State == Open && b.Latest != CheckHasFailed:
		return b.Until
	case b.State == Recovering && b.Share > 0:
		return b.stepBegan.Add(cfg.Step)
	}
	return time.Time{}
}

// Allowed is the part of its normal traffic that the endpoint may have now,
// 0 to 1.
func (b *Breaker) Allowed(cfg *Config) float64 {
	switch {
	case b.State == ForcedOpen:
		return 0
	case cfg.Off, b.State == Closed, b.State == ForcedClosed:
		return 1
	case b.State == Recovering:
		return b.Share
	}
	return 0
}

// Force holds the breaker open or closed until release, whatever happens, and
// whether or not the pool has breakers.
func (b *Breaker) Force(now time.Time, to State) { b.Transition(to, now, ReasonOperator) }

// Release ends what was forced. What was forced open recovers, as after an open
// period; what was forced closed is closed.
func (b *Breaker) Release(now time.Time, cfg *Config) {
	switch {
	case b.State == ForcedOpen && !cfg.Off:
		b.Transition(Recovering, now, ReasonOperator)
		b.Opened = ReasonOperator
	case b.State == ForcedOpen, b.State == ForcedClosed:
		b.Transition(Closed, now, ReasonOperator)
	}
}

// Trip opens the breaker as if the endpoint had failed.
func (b *Breaker) Trip(now time.Time, cfg *Config, reason string) { b.open(now, cfg, reason) }

// Reset closes the breaker and forgets its relapses.
func (b *Breaker) Reset(now time.Time) {
	b.Relapses = 0
	b.Transition(Closed, now, ReasonOperator)
}

// IsOpen tells whether calls are kept from the endpoint.
func (b *Breaker) IsOpen() bool { return b.State == Open || b.State == ForcedOpen }
