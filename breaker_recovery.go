package failover

import "time"

// How a breaker comes back: one trial at a time, then a share of the traffic that
// doubles with each good step and halves with each bad one.

// recover ends an open period: by a trial, or with the first share at once where
// checks that had failed pass again.
func (b *breaker) recover(now time.Time, cfg *breakerConfig, reason string) {
	proven := b.noticed && b.latest == checkHasPassed
	b.transition(stateRecovering, now, reason)
	if proven {
		b.stepSucceeded(now, cfg)
	}
}

func (b *breaker) stepSucceeded(now time.Time, cfg *breakerConfig) (changed bool) {
	b.stepGood = true
	if b.share > 0 {
		return false
	}
	b.share, b.probation = cfg.start, false
	b.stepBegan, b.stepGood, b.stepFailed = now, false, false
	if b.share >= 1 {
		b.transition(stateClosed, now, reasonRecovered)
	}
	return true
}

func (b *breaker) stepFailedAt(now time.Time, cfg *breakerConfig) (changed bool) {
	switch {
	case b.share == 0 && b.probation:
		b.reopen(now)
	case b.share == 0:
		b.relapse(now, cfg, reasonTrialFailed)
	case b.stepFailed:
		return false // this step has paid for it already
	case b.credit >= forgivenEvery:
		b.credit -= forgivenEvery
		return false
	case b.share <= cfg.start || b.badSteps > 0:
		b.relapse(now, cfg, reasonRelapse)
	default:
		b.stepFailed = true
		b.share = max(cfg.start, b.share/2)
	}
	return true
}

func (b *breaker) endStep(now time.Time) (changed bool) {
	switch {
	case b.stepFailed:
		b.badSteps++
		b.thin = 0
	case b.stepGood:
		b.badSteps, b.thin = 0, 0
		b.share = min(1, 2*b.share)
		changed = true
	default:
		b.thin++
		changed = b.thin%thinSteps == 0
	}
	b.stepBegan, b.stepGood, b.stepFailed = now, false, false
	if b.share >= 1 {
		b.transition(stateClosed, now, reasonRecovered)
	}
	return changed
}

// onTrial says that nothing is known yet about a recovering endpoint: calls
// reach it one at a time.
func (b *breaker) onTrial(cfg *breakerConfig) bool {
	return b.state == stateRecovering && b.share == 0 && !cfg.off
}

// trialTaken says that the one call an endpoint on trial may have is under way.
func (b *breaker) trialTaken(now time.Time, cfg *breakerConfig) bool {
	return b.onTrial(cfg) && now.Before(b.trialUntil)
}

// wantsTrial says that the endpoint should get the next call that may be
// retried elsewhere: because nothing is known about it yet, or because its
// share brings it too few calls to learn from. Urgent is set when it has waited
// so long that any call will do.
func (b *breaker) wantsTrial(now time.Time, cfg *breakerConfig) (wants, urgent bool) {
	if b.state != stateRecovering || cfg.off {
		return false, false
	}
	if b.share == 0 {
		return !now.Before(b.trialUntil), now.Sub(b.changed) >= trialPatience
	}
	return b.thin >= thinSteps, b.thin >= 2*thinSteps
}

// trialPatience is how long a recovering endpoint waits for a call that may be
// retried elsewhere before it takes any.
const trialPatience = 5 * time.Second
