package endpoint

import (
	"slices"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

const (
	// doubtFor is how long a failure stays in doubt at most. Then it counts against the
	// endpoint, or a 429 begins a hold, unless Resolve says otherwise later.
	doubtFor = 250 * time.Millisecond
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
	DoubtedBefore                   // perhaps the request, whose call failed in this way elsewhere
	blamed                          // it was in doubt, and counts against the endpoint
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

// ServedLately reports whether a call has succeeded at the endpoint within servedFor.
func (s *State) ServedLately(now time.Time) bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	s.countLocked(now)
	since := now.Sub(s.served)
	return !s.served.IsZero() && since <= servedFor
}

// HeldInDoubt reports whether a 429 that a request may have caused holds the endpoint, or is
// in doubt.
func (s *State) HeldInDoubt(now time.Time) bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.holdSoft && now.Before(s.holdUntil) ||
		slices.ContainsFunc(s.doubts, func(f failure) bool { return f.ticket.Outcome == outcome.RateLimited })
}

// doubtLocked keeps a failure in doubt until Resolve, or until doubtFor is over.
func (s *State) doubtLocked(t *Ticket, now time.Time, cfg *breaker.Config, r breaker.Result) (changed bool) {
	r.Doubted = true
	s.doubts = append(s.doubts, failure{t, now, r})
	return s.breaker.Doubt(now, cfg, t.Permit, !t.Doubtful && !t.RefusedAlone)
}

// Resolve says who caused a failure that was settled in doubt: the endpoint, if toBlame is
// set, else the request. It may clear a failure that already counts against the endpoint.
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

// holdAfter returns how long a 429 holds the endpoint; 0: it did not say.
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

// takeBackLocked removes a failure that the request caused from the counts.
func (s *State) takeBackLocked(t *Ticket, now time.Time, cfg *breaker.Config) {
	if s.tally.Failures > 0 {
		s.tally.Calls--
		s.tally.Failures--
	} else {
		s.Scorer.TakeBack()
	}
	s.breaker.TakeBack(now, cfg, t.Permit, t.Outcome == outcome.Denied)
}

// doubtsOverLocked counts the failures that have been in doubt for doubtFor.
func (s *State) doubtsOverLocked(now time.Time, cfg *breaker.Config) (changed bool) {
	for len(s.doubts) > 0 {
		d := s.doubts[0]
		if age := now.Sub(d.since); age >= 0 && age < doubtFor {
			break
		}
		s.doubts = slices.Delete(s.doubts, 0, 1)
		if t := d.ticket; t.Outcome == outcome.RateLimited {
			s.holdLocked(t, now, holdAfter(t, t.doubt), true)
			changed = true
			continue
		}
		d.ticket.doubt = blamed
		changed = s.blameLocked(d, now, cfg) || changed
	}
	return changed
}

// resolveHoldLocked confirms a hold, or shortens it because the request caused the 429.
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
