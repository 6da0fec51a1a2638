package endpoint

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
)

// How an attempt is let in, and how it leaves.

// Admission says what may keep an attempt out.
type Admission uint8

const (
	AdmitNormally Admission = iota // the breaker and holds
	AdmitProven                    // the same, and recovery
	AdmitHeld                      // the breaker; the call has waited for the hold
	AdmitAllDown                   // holds, not an open period, since every endpoint is out; it is a trial
	AdmitInNeed                    // the same, at an open endpoint that still answers some calls; it is no trial
	AdmitAnyway                    // only the operator and the bounds
	AdmitPassed                    // the breaker and holds; it is the trial of an endpoint that is passed over
)

// Acquire lets an attempt in and reports whether it did. If so, the attempt is in flight
// and holds a permit. b is nil if the endpoint has no bounds.
func (s *State) Acquire(f Watched, now time.Time, cfg *breaker.Config, b *Bounds, how Admission) bool {
	s.Mu.Lock()
	c := &s.own
	if c.slowness.Episode.Due(now) {
		s.countLocked(now)
		c.slowness.Episode.Mark(now, c.slowness.Limit)
	}
	if c.well() && !s.barred && !s.Left && b == nil && how != AdmitPassed { // the usual case
		f.own().Permit.Generation = c.breaker.Generation
		c.begun++
		s.Busy.Add(1)
		s.inFlight.add(f)
		s.Mu.Unlock()
		return true
	}
	before := c.breaker.Told.Turn
	ok := s.acquireLocked(f, now, cfg, b, how)
	s.tell(false, s.unlock(before))
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
	if !s.own.admit(f.own(), now, cfg, how) {
		return false
	}
	s.useLocked(f.own(), b, now)
	s.linkLocked(f)
	return true
}

// admit gives an attempt a permit, and reports whether it did.
func (c *condition) admit(t *Ticket, now time.Time, cfg *breaker.Config, how Admission) (ok bool) {
	if c.hold.on(now) && !c.hold.soft && how != AdmitAnyway && how != AdmitHeld {
		return false
	}
	if how == AdmitPassed && !c.passing.due(now) {
		return false
	}
	switch how {
	case AdmitProven:
		if c.breaker.State == breaker.Recovering && !cfg.Off {
			return false
		}
		fallthrough
	case AdmitNormally, AdmitHeld, AdmitPassed:
		t.Permit, ok = c.breaker.Acquire(now, cfg)
	case AdmitAllDown:
		t.Permit, ok = c.breaker.AcquireLast(now, cfg)
	case AdmitInNeed:
		t.Permit, ok = breaker.Permit{Generation: c.breaker.Generation}, c.breaker.State == breaker.Open
	case AdmitAnyway:
		if t.Permit, ok = c.breaker.AcquireLast(now, cfg); !ok && c.breaker.State != breaker.ForcedOpen {
			t.Permit, ok = breaker.Permit{Generation: c.breaker.Generation}, true
		}
	}
	if !ok {
		return false
	}
	if how == AdmitPassed {
		c.passing.trial, c.passing.since = t, now
	}
	t.Watchful = c.breaker.State == breaker.Recovering
	if c.breaker.State != breaker.Closed {
		c.lastTried = now
	}
	c.begun++
	return true
}

func (s *State) linkLocked(f Watched) {
	s.Busy.Add(1)
	s.inFlight.add(f)
	if s.Left {
		s.Owner.BusyOutside(s)
	}
}

func (s *State) unlinkLocked(t *Ticket) {
	if s.inFlight.remove(t) {
		s.Busy.Add(-1)
		if t.pace != nil {
			s.vacateLocked(t.pace, false)
		}
		if s.turnedAway {
			s.turnedAway = false
			s.Owner.HasRoom()
		}
	}
}
