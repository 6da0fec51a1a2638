package breaker

import "time"

// How a breaker recovers: one trial at a time, then a share of the traffic that grows
// with each good step and halves with each bad one.

// A good step adds shareOfSuccess for each of its successes. If they are few, it adds
// shareOfStep for itself and for each step without a result just before it. It at
// most doubles the share.
//
// Many proxies may return to an endpoint that has little capacity yet. A proxy with few
// calls sees a refusal late, so its share must not double on one or two calls. The
// additions do not grow with the share: growth would be fastest near the endpoint's capacity.
const (
	shareOfSuccess = 0.01
	shareOfStep    = 0.025
)

// recover ends an open period. Trials follow; if checks failed and pass again, the first
// share follows at once.
func (b *Breaker) recover(now time.Time, cfg *Config, reason string) {
	proven := b.noticed && b.Latest == checkHasPassed && !b.late
	upheld := b.upheld && !b.noticed
	b.Transition(Recovering, now, reason)
	b.quick.begin(proven, upheld, b.pace)
	if proven {
		b.stepSucceeded(now, cfg)
	}
}

// stepSucceeded counts a success of a recovering endpoint; the first one gives it the first share.
func (b *Breaker) stepSucceeded(now time.Time, cfg *Config) (changed bool) {
	if b.Share > 0 {
		b.successes++
		return false
	}
	if b.Opened == ReasonScopes {
		b.Transition(Closed, now, ReasonRecovered)
		return true
	}
	b.Share, b.probation = cfg.Start, false
	if b.Told.State == Open {
		b.tell(now) // the trial was silent until now
	}
	b.beginStep(now)
	if b.Share >= 1 {
		b.Transition(Closed, now, ReasonRecovered)
	}
	return true
}

// stepFailedAt counts a failure of a recovering endpoint; cause is what keeps it out if
// this ends the recovery.
func (b *Breaker) stepFailedAt(now time.Time, cfg *Config, cause string) (changed bool) {
	b.failures++
	wasQuick := b.quick.setBack()
	switch {
	case b.Share == 0 && b.probation:
		b.reopen(now)
	case b.Share == 0:
		b.relapse(now, cfg, reasonTrialFailed, cause)
	case wasQuick && b.Share > cfg.Start:
		b.overshot(now, cfg)
	case b.credit >= b.forgivenEvery() && !b.stepFailed:
		b.credit -= b.forgivenEvery()
		return false
	case b.Share <= cfg.Start && b.badSteps == 0 && !b.warned:
		b.warned, b.stepFailed = true, true // the call itself may have caused it
		return false
	case b.Share <= cfg.Start && b.warned:
		b.relapse(now, cfg, reasonRelapse, cause)
	case b.stepFailed:
		return false // this step has already halved the share
	case b.badSteps > 0:
		b.relapse(now, cfg, reasonRelapse, cause)
	default:
		b.stepFailed = true
		b.Share = max(cfg.Start, b.Share/2)
	}
	return true
}

// forgivenEvery returns how many successes make up for one failure while the endpoint
// recovers: half of the successes that usually came between two failures, at most the
// constant of this name. It is half because the number between two failures varies.
func (b *Breaker) forgivenEvery() int {
	if b.failing <= 0 {
		return forgivenEvery
	}
	return max(1, min(forgivenEvery, int((1-b.failing)/b.failing/2)))
}

func (b *Breaker) beginStep(now time.Time) {
	b.stepBegan, b.successes, b.stepFailed = now, 0, false
	b.quick.began, b.quick.routed = b.Share, b.Share
}

// endStep ends a step, sets the share by its results, and closes the breaker at a share of 1.
func (b *Breaker) endStep(now time.Time) (changed bool) {
	switch {
	case b.stepFailed:
		b.badSteps++
		b.thin, b.idle = 0, 0
	case b.successes > 0:
		learnt := max(b.quick.ofSuccess()*float64(b.successes), shareOfStep*float64(1+b.idle))
		b.Share = min(1, max(b.Share, min(b.mostGrowth(2)*b.quick.began, b.quick.began+learnt)))
		b.grown = true
		b.badSteps, b.thin, b.idle, b.warned = 0, 0, 0, false
		changed = true
	default:
		b.idle++
		b.thin++
		changed = b.thin%thinSteps == 0
	}
	b.beginStep(now)
	if b.Share >= 1 {
		b.Transition(Closed, now, ReasonRecovered)
	}
	return changed
}

// OnTrial reports whether a recovering endpoint has had no success yet: it gets one
// trial at a time.
func (b *Breaker) OnTrial(cfg *Config) bool {
	return b.State == Recovering && b.Share == 0 && !cfg.Off
}

// TrialTaken reports whether the trial of an endpoint on trial is under way.
func (b *Breaker) TrialTaken(now time.Time, cfg *Config) bool {
	return b.OnTrial(cfg) && now.Before(b.trialUntil)
}

// WantsTrial reports whether the endpoint should get the next call that may be
// retried elsewhere: it is on trial, or its share brings it too few calls to learn
// from. urgent says that it has waited so long that it should get any call.
func (b *Breaker) WantsTrial(now time.Time, cfg *Config) (wants, urgent bool) {
	if b.State != Recovering || cfg.Off {
		return false, false
	}
	if b.Share == 0 {
		return !now.Before(b.trialUntil), now.Sub(b.Changed) >= trialPatience
	}
	return b.thin >= thinSteps, b.thin >= 2*thinSteps
}

// trialPatience is how long an endpoint on trial waits for a call that may be retried
// elsewhere before it takes any call.
const trialPatience = 5 * time.Second
