package endpoint

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
)

// How attempts are let in, and how they leave.

// Admission says what can keep an attempt out.
type Admission uint8

const (
	AdmitNormally Admission = iota // the breaker and holds
	AdmitProven                    // the breaker, holds and recovery
	AdmitHeld                      // the breaker, but no hold: the call has waited for it
	AdmitAllDown                   // holds, but no open period: every endpoint is out, and the attempt is a trial
	AdmitInNeed                    // as AdmitAllDown, at an endpoint that is out but may answer some calls; no trial
	AdmitAnyway                    // only the operator and the bounds
	AdmitPassed                    // the breaker and holds; the attempt is the trial of an endpoint that is passed over
)

// Acquire lets an attempt in and reports whether it did. If so, the attempt is in flight
// and holds a permit. b is nil if the endpoint has no bounds.
func (s *State) Acquire(f Watched, now time.Time, cfg *breaker.Config, b *Bounds, how Admission) bool {
	t := f.own()
	if t.rare != nil {
		return s.acquireScoped(f, now, cfg, b, how)
	}
	s.Mu.Lock()
	c := &s.own
	if c.slowness.Episode.Due(now) {
		s.countLocked(now)
		c.slowness.Episode.Mark(now, c.slowness.Limit)
	}
	if c.well() && !s.barred && !s.Left && how != AdmitPassed && (b == nil || s.fitsLocked(t, b, now)) { // the usual case
		t.Permit.Generation = c.breaker.Generation
		c.begun++
		s.addLocked(f)
		s.Mu.Unlock()
		return true
	}
	ok := s.acquireLocked(f, now, cfg, b, how)
	s.tell(false, s.unlock(t))
	return ok
}

// acquireScoped is Acquire for an attempt of a scope.
func (s *State) acquireScoped(f Watched, now time.Time, cfg *breaker.Config, b *Bounds, how Admission) bool {
	t, own := f.own(), &s.own
	s.Mu.Lock()
	c := s.scopes.enter(t.rare.name, own.begun, now)
	t.rare.about = c
	if c.slowness.Episode.Due(now) {
		s.countLocked(now)
		c.slowness.Episode.Mark(now, c.slowness.Limit)
	}
	if own.well() && c.well() && !s.barred && !s.Left && how != AdmitPassed && (b == nil || s.fitsLocked(t, b, now)) {
		t.Permit.Generation, t.rare.whole.Generation = c.breaker.Generation, own.breaker.Generation
		own.begun++
		c.begun++
		s.addLocked(f)
		s.Mu.Unlock()
		return true
	}
	ok := s.acquireLocked(f, now, cfg, b, how)
	s.tell(false, s.unlock(t))
	return ok
}

func (s *State) acquireLocked(f Watched, now time.Time, cfg *breaker.Config, b *Bounds, how Admission) (ok bool) {
	if s.barred {
		return false
	}
	if s.fullLocked(b) && !s.relieveLocked(b, now) {
		s.turnedAway = true
		return false
	}
	if s.readyLocked(b, now, f.own().asked()).After(now) {
		s.refused++
		s.turnedAway = true
		return false
	}
	if !s.admitLocked(f.own(), now, cfg, how) {
		return false
	}
	s.useLocked(f.own(), b, now)
	s.linkLocked(f)
	return true
}

// admitLocked gives an attempt the permits of the endpoint's own breaker and of its scope's, and
// reports whether it did.
func (s *State) admitLocked(t *Ticket, now time.Time, cfg *breaker.Config, how Admission) bool {
	own, c := &s.own, t.about()
	if c == nil {
		if how == AdmitPassed && !own.passing.due(now) || how == AdmitInNeed && !own.out(now) || !own.admits(now, cfg, how) {
			return false
		}
		t.Watchful = false
		own.admit(t, now, cfg, how)
		return true
	}
	if how == AdmitPassed && !c.passing.due(now) ||
		how == AdmitInNeed && !own.out(now) && !c.out(now) ||
		!own.admits(now, cfg, how) {
		return false
	}
	inScope := how
	if own.breaker.State == breaker.ForcedClosed && !c.hold.on(now) && !c.breaker.Admits(now, cfg) {
		inScope = AdmitAnyway // an operator wants the endpoint used
	}
	if !c.admits(now, cfg, inScope) {
		return false
	}
	t.Watchful = false
	if how == AdmitPassed {
		how = AdmitNormally
	}
	own.admit(t, now, cfg, how)
	c.admit(t, now, cfg, inScope)
	return true
}

// out reports whether the breaker or a hold keeps calls away.
func (c *condition) out(now time.Time) bool {
	return c.breaker.State == breaker.Open || c.breaker.State == breaker.Recovering || c.hold.on(now)
}

// admits reports whether the condition lets an attempt in.
func (c *condition) admits(now time.Time, cfg *breaker.Config, how Admission) bool {
	if c.hold.on(now) && !c.hold.soft && how != AdmitAnyway && how != AdmitHeld && how != AdmitInNeed {
		return false
	}
	b := &c.breaker
	switch how {
	case AdmitProven:
		return b.Admits(now, cfg) && (b.State != breaker.Recovering || cfg.Off)
	case AdmitAllDown:
		return b.State == breaker.Open || b.Admits(now, cfg)
	case AdmitInNeed, AdmitAnyway:
		return b.State != breaker.ForcedOpen
	}
	return b.Admits(now, cfg)
}

// admit gives the condition's permit to an attempt that it admits.
func (c *condition) admit(t *Ticket, now time.Time, cfg *breaker.Config, how Admission) {
	b := &c.breaker
	p, ok := breaker.Permit{}, false
	switch how {
	case AdmitAllDown, AdmitAnyway:
		p, ok = b.AcquireLast(now, cfg)
	case AdmitInNeed:
	default:
		p, ok = b.Acquire(now, cfg)
	}
	if !ok {
		p = breaker.Permit{Generation: b.Generation}
	}
	*t.permit(c) = p
	if how == AdmitPassed {
		c.passing.trial, c.passing.since = t, now
	}
	t.Watchful = t.Watchful || b.State == breaker.Recovering
	if b.State != breaker.Closed {
		c.lastTried = now
	}
	c.begun++
}

// addLocked adds an attempt to those in flight.
func (s *State) addLocked(f Watched) {
	s.Busy.Add(1)
	s.inFlight.add(f)
	if s.rest.is {
		s.stirLocked()
	}
}

func (s *State) linkLocked(f Watched) {
	s.addLocked(f)
	if s.Left {
		s.Owner.BusyOutside(s)
	}
}

func (s *State) unlinkLocked(t *Ticket) {
	if s.inFlight.remove(t) {
		s.Busy.Add(-1)
		if t.isVacant() {
			s.vacateLocked(&t.rare.pace, false)
		}
		s.makesRoomLocked()
	}
}
