package endpoint

import (
	"slices"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

const (
	// doubtFor is how long a failure is in doubt at most. Then it counts against the
	// endpoint, or a 429 keeps calls away, until it is known better.
	doubtFor = 250 * time.Millisecond
	// servedFor is how long a success tells that an endpoint serves other calls.
	servedFor = 2 * time.Second
	// doubtfulHold is how long a 429 that may be the request's own keeps calls away.
	doubtfulHold = time.Second
)

// DoubtStage says whether it is known whose an attempt's failure is.
type DoubtStage uint8

const (
	NoDoubt       DoubtStage = iota // it is the endpoint's, or none
	Doubted                         // it may be the request's own
	DoubtedBefore                   // the same, and the call has failed in this way elsewhere
	blamed                          // it was in doubt, and has been counted
	cleared                         // it was the request's own
)

// A failure is one that has not been counted yet, because it may be the request's own.
type failure struct {
	ticket *Ticket
	since  time.Time
	result breaker.Result
}

// InNoDoubt tells whether nothing about an attempt's failure is open.
func (s *State) InNoDoubt(t *Ticket) bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return t.doubt == NoDoubt
}

// ServedLately tells whether calls have succeeded at the endpoint of late.
func (s *State) ServedLately(now time.Time) bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	s.countLocked(now)
	since := now.Sub(s.served)
	return !s.served.IsZero() && since <= servedFor
}

// HeldInDoubt tells whether a 429 keeps calls away that may be a request's own, or is
// about to.
func (s *State) HeldInDoubt(now time.Time) bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.holdSoft && now.Before(s.holdUntil) ||
		slices.ContainsFunc(s.doubts, func(f failure) bool { return f.ticket.Outcome == outcome.RateLimited })
}

// doubtLocked keeps a failure back until resolve tells whose it is.
func (s *State) doubtLocked(t *Ticket, now time.Time, cfg *breaker.Config, r breaker.Result) (changed bool) {
	r.Doubted = true
	s.doubts = append(s.doubts, failure{t, now, r})
	return s.breaker.Doubt(now, cfg, t.Permit, !t.Doubtful && !t.RefusedAlone)
}

// Resolve says whose the failure of an attempt is that was reported in doubt: the
// endpoint's, or the request's own. The latter may also be found out later.
func (s *State) Resolve(t *Ticket, now time.Time, cfg *breaker.Config, toBlame bool) {
	s.tell(s.update(func() bool { return s.resolveLocked(t, now, cfg, toBlame) }))
}

func (s *State) resolveLocked(t *Ticket, now time.Time, cfg *breaker.Config, toBlame bool) (changed bool) {
	stage := t.doubt
	if stage == NoDoubt || stage == cleared || stage == blamed && toBlame {
		return false
	}
	t.doubt = cleared
	if toBlame {
		t.doubt = blamed
	}
	limited := t.Outcome == outcome.RateLimited
	i := slices.IndexFunc(s.doubts, func(f failure) bool { return f.ticket == t })
	if i < 0 {
		if limited {
			return s.resolveHoldLocked(t, now, toBlame)
		}
		s.takeBackLocked(t, now, cfg)
		return false
	}
	f := s.doubts[i]
	s.doubts = slices.Delete(s.doubts, i, i+1)
	switch {
	case !toBlame:
		return s.breaker.Cancel(now, t.Permit)
	case limited:
		s.holdLocked(t, now, holdAfter(t, stage), false)
		return true
	}
	return s.blameLocked(f, now, cfg)
}

// holdAfter is how long a 429 keeps calls away; 0: the endpoint has not said.
func holdAfter(t *Ticket, stage DoubtStage) time.Duration {
	if stage == DoubtedBefore {
		return doubtfulHold
	}
	return t.RetryAfter
}

// blameLocked counts a failure against the endpoint.
func (s *State) blameLocked(d failure, now time.Time, cfg *breaker.Config) (changed bool) {
	s.tally.Calls++
	s.tally.Failures++
	d.result.Followed = s.served.After(d.since)
	return s.breaker.Report(now, cfg, d.ticket.Permit, d.result)
}

// takeBackLocked undoes what a failure has counted that was the request's own.
func (s *State) takeBackLocked(t *Ticket, now time.Time, cfg *breaker.Config) {
	if s.tally.Failures > 0 {
		s.tally.Calls--
		s.tally.Failures--
	} else {
		s.Scorer.TakeBack()
	}
	s.breaker.TakeBack(now, cfg, t.Permit, t.Outcome == outcome.Denied)
}

// doubtsOverLocked counts the failures that have been in doubt for too long.
func (s *State) doubtsOverLocked(now time.Time, cfg *breaker.Config) (changed bool) {
	for len(s.doubts) > 0 {
		d := s.doubts[0]
		if age := now.Sub(d.since); age >= 0 && age < doubtFor {
			break
		}
		s.doubts = slices.Delete(s.doubts, 0, 1)
		if t := d.ticket; t.Outcome == outcome.RateLimited {
			s.holdLocked(t, now, holdAfter(t, t.doubt), true) // which is still in doubt
			changed = true
			continue
		}
		d.ticket.doubt = blamed
		changed = s.blameLocked(d, now, cfg) || changed
	}
	return changed
}

// resolveHoldLocked confirms a hold, or shortens that of a request which would get a
// 429 anywhere.
func (s *State) resolveHoldLocked(t *Ticket, now time.Time, confirmed bool) (changed bool) {
	if s.holdBy != t || s.holdUntil.IsZero() {
		return false
	}
	s.holdSoft = !confirmed
	if soon := now.Add(doubtfulHold); !confirmed && s.holdUntil.After(soon) {
		s.holdUntil = soon
	}
	return true
}
