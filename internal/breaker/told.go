package breaker

import "time"

// Told is the state of a breaker that events, the API and the log show. While every
// endpoint of the pool is out, it does not follow trials until one succeeds: such a trial
// takes place every 250 ms, and its failure is no news. Nor does it follow them once trials
// have failed again and again, and open periods are as long as they get.
type Told struct {
	State  State
	Reason string
	Since  time.Time // when State was told
	Down   time.Time // since when it has been neither closed nor forced closed; zero: it is one of them
	Turn   uint64    // grows with each change
}

// silent reports whether Told leaves a transition out: a trial while every endpoint of the
// pool is out, and the failure of such a trial.
func (b *Breaker) silent(from, to State, reason string) bool {
	switch {
	case b.Told.State != Open:
		return false
	case to == Recovering:
		return from == Open && (b.AllOut || b.quiet || b.stale || reason == reasonAllDown)
	case to == Open:
		return from == Recovering
	}
	return false
}

// tell brings Told up to date.
func (b *Breaker) tell(now time.Time) {
	down := b.State != Closed && b.State != ForcedClosed
	since := b.Told.Down
	switch {
	case !down:
		since = time.Time{}
	case since.IsZero():
		since = now
	}
	b.Told = Told{b.State, b.Reason, now, since, b.Told.Turn + 1}
}

// OpenedAfresh reports whether the breaker is open, and no recovery has failed since it was closed.
func (b *Breaker) OpenedAfresh() bool { return b.State == Open && b.setbacks == 0 }

// DueAgain returns when an endpoint whose Told.State is Open will be tried again at the
// latest, provided that there are calls and that checks pass. It is never before now.
// nextCheck is when the next check is due; zero: there are no checks.
func (b *Breaker) DueAgain(now, nextCheck time.Time) time.Time {
	switch {
	case b.Until.After(now):
		return b.Until
	case b.Latest == CheckHasFailed && nextCheck.After(now):
		return nextCheck
	}
	return now.Add(soon)
}

// soon is how long after the end of an open period a trial takes place at the latest,
// if there are calls.
const soon = 250 * time.Millisecond
