package endpoint

import (
	"slices"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

const (
	// DoubtFor is the longest time for which a failure stays in doubt. Then it counts against the
	// endpoint, or a 429 begins a hold, until Resolve says otherwise.
	DoubtFor = 250 * time.Millisecond
	// doubtElsewhere is the same for a call that failed at another endpoint, too, but whose failures
	// nobody has resolved.
	doubtElsewhere = time.Second
	// servedFor is how long after a success an endpoint counts as serving.
	servedFor = 2 * time.Second
	// waitsLonger is how much longer than a failed call another must wait to show that it does not fail
	// in the same way.
	waitsLonger = 2 * time.Millisecond
	// doubtfulHold is how long a hold lasts if the request may have caused the 429.
	doubtfulHold = time.Second
)

// DoubtStage says what is known about who caused an attempt's failure.
type DoubtStage uint8

const (
	NoDoubt       DoubtStage = iota // the endpoint, or nothing failed
	Doubted                         // perhaps the request
	DoubtedBefore                   // perhaps the request; its call failed in this way elsewhere
	blamed                          // the failure was in doubt, and counts against the endpoint
	cleared                         // the request
)

// A failure is a failure in doubt that has not been counted yet.
type failure struct {
	ticket *Ticket
	since  time.Time
	took   time.Duration
	result breaker.Result
}

// InNoDoubt reports whether an attempt's failure has never been in doubt.
func (s *State) InNoDoubt(t *Ticket) bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return t.doubt == NoDoubt
}

// doubt keeps the failure of an attempt that took a time in doubt until Resolve, or until DoubtFor is
// over.
func (c *condition) doubt(t *Ticket, took time.Duration, now time.Time, cfg *breaker.Config, r breaker.Result) {
	r.Doubted = true
	c.doubts = append(c.doubts, failure{t, now, took, r})
	c.failedAfter = took
	if !t.Doubtful && !t.RefusedAlone {
		c.breaker.Doubt(now, cfg, *t.permit(c))
	}
}

// worksSince takes a success of an attempt that began at a time. It speaks of c, and shows that the
// endpoint works as a whole.
func (s *State) worksSince(c *condition, began time.Time) {
	if began.After(c.servedSince) {
		c.servedSince = began
	}
	c.breaker.Works(began)
	s.own.breaker.Works(began)
}

// openAfterRun opens the breaker of c if a run of failures shows that nothing works. It reports
// whether it did.
func (s *State) openAfterRun(c *condition, now time.Time, cfg *breaker.Config) bool {
	since, fails := c.breaker.FailsAfresh(c.failedAfter, now, cfg)
	if (!fails || s.othersUnderWay(c, since, c.failedAfter, now)) &&
		(!c.breaker.FailsInDoubt(now, cfg) || s.othersUnderWay(c, time.Time{}, c.failedAfter, now)) {
		return false
	}
	c.breaker.OpenAfterRun(now, cfg)
	return true
}

// othersUnderWay reports whether a call gets a good response, or has waited for one for clearly longer
// than those took that failed. Then failures do not show that nothing works. Only attempts count that
// began after a time and, for a scope's condition, are of that scope. If that time is zero, a response
// must have begun within servedFor.
func (s *State) othersUnderWay(c *condition, after time.Time, took time.Duration, now time.Time) bool {
	for f := range s.inFlight.all() {
		t := f.own()
		if t.Outcome != outcome.Pending || !f.HasStarted() || !f.StartedAt().After(after) || c != &s.own && t.about() != c {
			continue
		}
		if latency := f.FirstByte(); latency > 0 {
			if !after.IsZero() || now.Sub(f.StartedAt())-latency <= servedFor {
				return true
			}
		} else if !f.WaitsForClient() && f.WaitedFor(now) >= took+took/8+waitsLonger {
			return true
		}
	}
	return false
}

// FailedElsewhere notes that the call of an attempt whose failure is in doubt has failed at another
// endpoint in the same way, or everywhere. The doubt lasts until Resolve, or longer than others.
func (s *State) FailedElsewhere(t *Ticket) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	t.elsewhere = true
}

// Resolve says who caused a failure that was settled in doubt: the endpoint, if toBlame is
// set, else the request. It may clear a failure that already counts against the endpoint.
func (s *State) Resolve(t *Ticket, now time.Time, cfg *breaker.Config, toBlame bool) {
	s.tell(s.update(t, func() bool {
		c := t.speaksOf(s, t.Outcome)
		changed := c.resolve(t, now, cfg, toBlame)
		changed = s.openAfterRun(c, now, cfg) || changed
		return s.spreadLocked(c, now, cfg) || changed
	}))
}

func (c *condition) resolve(t *Ticket, now time.Time, cfg *breaker.Config, toBlame bool) (changed bool) {
	stage := t.doubt
	if stage == NoDoubt || stage == cleared || stage == blamed && toBlame {
		return false
	}
	t.doubt = cleared
	if toBlame {
		t.doubt = blamed
	}
	limited := t.Outcome == outcome.RateLimited
	i := slices.IndexFunc(c.doubts, func(f failure) bool { return f.ticket == t })
	if i < 0 {
		if limited {
			return c.resolveHold(t, now, toBlame)
		}
		c.takeBack(t, now, cfg)
		return false
	}
	f := c.doubts[i]
	c.doubts = slices.Delete(c.doubts, i, i+1)
	switch {
	case !toBlame:
		return c.breaker.Cancel(now, *t.permit(c))
	case limited:
		c.holdFor(t, now, holdAfter(t, stage), false)
		return true
	}
	return c.blame(f, now, cfg)
}

// holdAfter returns how long a 429 holds the endpoint; 0: it did not say.
func holdAfter(t *Ticket, stage DoubtStage) time.Duration {
	if stage == DoubtedBefore {
		return doubtfulHold
	}
	return t.RetryAfter
}

// blame counts a failure against the endpoint.
func (c *condition) blame(d failure, now time.Time, cfg *breaker.Config) (changed bool) {
	c.tally.Calls++
	c.tally.Failures++
	c.toBlame = c.toBlame || c.breaker.State == breaker.Closed
	d.result.Followed = c.served.After(d.since)
	c.failedAfter = d.took
	changed = c.breaker.Report(now, cfg, *d.ticket.permit(c), d.result)
	if !c.servedSince.Before(d.since) {
		c.breaker.Works(now)
	}
	return changed
}

// takeBack removes a failure that the request caused from the counts.
func (c *condition) takeBack(t *Ticket, now time.Time, cfg *breaker.Config) {
	if c.tally.Failures > 0 {
		c.tally.Calls--
		c.tally.Failures--
	} else {
		c.scorer.TakeBack()
	}
	c.breaker.TakeBack(now, cfg, *t.permit(c), t.Outcome == outcome.Denied)
}

// doubtsOver counts the failures of c whose doubt is over, and opens its breaker if they show that
// nothing works. It reports whether the control loop should look at the endpoint.
func (s *State) doubtsOver(c *condition, now time.Time, cfg *breaker.Config) (changed bool) {
	changed = c.doubtsOver(now, cfg)
	return s.openAfterRun(c, now, cfg) || changed
}

// doubtsOver counts the failures whose doubt is over.
func (c *condition) doubtsOver(now time.Time, cfg *breaker.Config) (changed bool) {
	kept := c.doubts[:0]
	for _, d := range c.doubts {
		switch t := d.ticket; {
		case !d.isOver(now):
			kept = append(kept, d)
		case t.Outcome == outcome.RateLimited:
			c.holdFor(t, now, holdAfter(t, t.doubt), true)
			changed = true
		default:
			t.doubt = blamed
			changed = c.blame(d, now, cfg) || changed
		}
	}
	clear(c.doubts[len(kept):])
	c.doubts = kept
	return changed
}

// isOver reports whether a failure has been in doubt for long enough.
func (d *failure) isOver(now time.Time) bool {
	age, longest := now.Sub(d.since), DoubtFor
	if d.ticket.elsewhere {
		longest = doubtElsewhere
	}
	return age < 0 || age >= longest
}
