package breaker

import "time"

// Told is what people are told of a breaker. It is behind the breaker where a trial of a
// pool whose endpoints are all out has come to nothing yet: such a trial comes every 250 ms,
// and tells no more than that the pool is still down.
type Told struct {
	State  State
	Reason string
	Since  time.Time
	Down   time.Time // since when it has been open or recovering, whatever it did between; zero: it is neither
	Turn   uint64    // rises with each change
}

// inSilence tells whether nobody hears of a transition: a trial while every endpoint of the
// pool is out, and its failure.
func (b *Breaker) inSilence(from, to State, reason string) bool {
	switch {
	case b.Told.State != Open:
		return false
	case to == Recovering:
		return from == Open && (b.AllOut || reason == reasonAllDown)
	case to == Open:
		return from == Recovering
	}
	return false
}

// tell brings people up to date.
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

// DueAgain is when an endpoint whose breaker is open for those who look at it will be
// tried again at the latest, if there are calls and checks let it; it is never before now.
// NextCheck is when the endpoint is checked next; zero: it is not.
func (b *Breaker) DueAgain(now, nextCheck time.Time) time.Time {
	switch {
	case b.Until.After(now):
		return b.Until
	case b.Latest == CheckHasFailed && nextCheck.After(now):
		return nextCheck
	}
	return now.Add(soon)
}

// soon is within how long an endpoint is tried whose open period is over.
const soon = 250 * time.Millisecond
