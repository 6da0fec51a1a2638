package breaker

import "time"

// How a breaker comes back: one trial at a time, then a share of the traffic that
// grows with each good step, by as much as has been learnt, and halves with each
// bad one.

// A good step adds shareOfSuccess for each of its successes or, where they are few,
// shareOfStep for itself and for each step without a result just before it. It at
// most doubles the share.
//
// An endpoint may return with little capacity, to many proxies. One with few calls
// sees a refusal late, so it must not double on a call or two before. What is added
// does not grow with the share: then growth would be fastest just where the
// endpoint's capacity is passed.
const (
	shareOfSuccess = 0.01
	shareOfStep    = 0.025
)

// recover ends an open period: by a trial, or with the first share at once where
// checks that had failed pass again.
func (b *Breaker) recover(now time.Time, cfg *Config, reason string) {
	proven := b.noticed && b.Latest == checkHasPassed
	b.Transition(Recovering, now, reason)
	if proven {
		b.stepSucceeded(now, cfg)
	}
}

func (b *Breaker) stepSucceeded(now time.Time, cfg *Config) (changed bool) {
	if b.Share > 0 {
		b.successes++
		return false
	}
	b.Share, b.probation = cfg.Start, false
	if b.Told.State == Open {
		b.tell(now) // the trial has told something
	}
	b.beginStep(now)
	if b.Share >= 1 {
		b.Transition(Closed, now, ReasonRecovered)
	}
	return true
}

// stepFailedAt takes a failure of a recovering endpoint; cause is what it opens for if that
// ends the recovery.
func (b *Breaker) stepFailedAt(now time.Time, cfg *Config, cause string) (changed bool) {
	switch {
	case b.Share == 0 && b.probation:
		b.reopen(now)
	case b.Share == 0:
		b.relapse(now, cfg, reasonTrialFailed, cause)
	case b.credit >= b.forgivenEvery() && !b.stepFailed:
		b.credit -= b.forgivenEvery()
		return false
	case b.Share <= cfg.Start && b.badSteps == 0 && !b.warned:
		b.warned, b.stepFailed = true, true // it may have been the call's own
		return false
	case b.Share <= cfg.Start && b.warned:
		b.relapse(now, cfg, ReasonRelapse, cause)
	case b.stepFailed:
		return false // this step has paid for it already
	case b.badSteps > 0:
		b.relapse(now, cfg, ReasonRelapse, cause)
	default:
		b.stepFailed = true
		b.Share = max(cfg.Start, b.Share/2)
	}
	return true
}

// forgivenEvery is how many successes make up for one failure while the endpoint
// recovers: half of those that usually came between two, since few calls tell little.
func (b *Breaker) forgivenEvery() int {
	if b.failing <= 0 {
		return forgivenEvery
	}
	return max(1, min(forgivenEvery, int((1-b.failing)/b.failing/2)))
}

func (b *Breaker) beginStep(now time.Time) {
	b.stepBegan, b.successes, b.stepFailed = now, 0, false
}

func (b *Breaker) endStep(now time.Time) (changed bool) {
	switch {
	case b.stepFailed:
		b.badSteps++
		b.thin, b.idle = 0, 0
	case b.successes > 0:
		learnt := max(shareOfSuccess*float64(b.successes), shareOfStep*float64(1+b.idle))
		b.Share = min(1, 2*b.Share, b.Share+learnt)
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

// OnTrial says that nothing is known yet about a recovering endpoint: calls
// reach it one at a time.
func (b *Breaker) OnTrial(cfg *Config) bool {
	return b.State == Recovering && b.Share == 0 && !cfg.Off
}

// TrialTaken says that the one call an endpoint on trial may have is under way.
func (b *Breaker) TrialTaken(now time.Time, cfg *Config) bool {
	return b.OnTrial(cfg) && now.Before(b.trialUntil)
}

// WantsTrial says that the endpoint should get the next call that may be
// retried elsewhere: because nothing is known about it yet, or because its
// share brings it too few calls to learn from. Urgent is set when it has waited
// so long that any call will do.
func (b *Breaker) WantsTrial(now time.Time, cfg *Config) (wants, urgent bool) {
	if b.State != Recovering || cfg.Off {
		return false, false
	}
	if b.Share == 0 {
		return !now.Before(b.trialUntil), now.Sub(b.Changed) >= trialPatience
	}
	return b.thin >= thinSteps, b.thin >= 2*thinSteps
}

// trialPatience is how long a recovering endpoint waits for a call that may be
// retried elsewhere before it takes any.
const trialPatience = 5 * time.Second
