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
	// servedFor is how long after a success an endpoint counts as serving.
	servedFor = 2 * time.Second
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
	result breaker.Result
}

// InNoDoubt reports whether an attempt's failure has never been in doubt.
func (s *State) InNoDoubt(t *Ticket) bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return t.doubt == NoDoubt
}

// doubt keeps a failure in doubt until Resolve, or until DoubtFor is over.
func (c *condition) doubt(t *Ticket, now time.Time, cfg *breaker.Config, r breaker.Result) (changed bool) {
	r.Doubted = true
	c.doubts = append(c.doubts, failure{t, now, r})
	return c.breaker.Doubt(now, cfg, *t.permit(c), !t.Doubtful && !t.RefusedAlone)
}

// Resolve says who caused a failure that was settled in doubt: the endpoint, if toBlame is
// set, else the request. It may clear a failure that already counts against the endpoint.
func (s *State) Resolve(t *Ticket, now time.Time, cfg *breaker.Config, toBlame bool) {
	s.tell(s.update(t, func() bool {
		c := t.speaksOf(s, t.Outcome)
		changed := c.resolve(t, now, cfg, toBlame)
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
	return c.breaker.Report(now, cfg, *d.ticket.permit(c), d.result)
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

// doubtsOver counts the failures that have been in doubt for DoubtFor.
func (c *condition) doubtsOver(now time.Time, cfg *breaker.Config) (changed bool) {
	for len(c.doubts) > 0 {
		d := c.doubts[0]
		if age := now.Sub(d.since); age >= 0 && age < DoubtFor {
			break
		}
		c.doubts = slices.Delete(c.doubts, 0, 1)
		if t := d.ticket; t.Outcome == outcome.RateLimited {
			c.holdFor(t, now, holdAfter(t, t.doubt), true)
			changed = true
			continue
		}
		d.ticket.doubt = blamed
		changed = c.blame(d, now, cfg) || changed
	}
	return changed
}
