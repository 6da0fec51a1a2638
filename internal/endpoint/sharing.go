package endpoint

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// How instances of a fleet share their knowledge of an endpoint.

// Finding is what this instance has found out about an endpoint by itself.
type Finding struct {
	HeldUntil time.Time // the endpoint asked for it; zero: it did not, or the request may have caused it
	HeldFor   string    // why
	State     breaker.State
	Reason    string
	OnTrial   bool   // it is on trial
	Begun     uint64 // attempts that began
}

// Findings returns what this instance has found out by itself.
func (s *State) Findings(now time.Time, cfg *breaker.Config) Finding {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	c := &s.own
	f := Finding{State: c.breaker.State, Reason: c.breaker.Opened, OnTrial: c.breaker.OnTrial(cfg), Begun: c.begun}
	switch {
	case c.hold.on(now) && !c.hold.soft && c.hold.from == "":
		f.HeldUntil, f.HeldFor = c.hold.until, outcome.RateLimited.String()
	case c.stated.usedUp(now) && c.stated.from == "":
		f.HeldUntil, f.HeldFor = c.stated.until, ReasonQuota
	case c.breaker.State == breaker.Open && c.breaker.Opened == outcome.Denied.String():
		f.HeldUntil, f.HeldFor = c.breaker.Until, outcome.Denied.String()
	}
	return f
}

// HearHold holds the endpoint because it asked another instance to wait, or denied it. The longest
// hold counts. If until is over, it ends a hold that came from the same instance.
func (s *State) HearHold(until time.Time, reason, from string, now time.Time) (changed bool, news []event.Event) {
	return s.update(nil, func() bool {
		h, q := &s.own.hold, &s.own.stated
		if q.from == from && !until.After(now) {
			q.until, q.from = time.Time{}, ""
		}
		switch {
		case !until.After(now):
			if h.from != from {
				return false
			}
			h.end()
			return true
		case reason == ReasonQuota:
			if !until.After(q.until) {
				return false
			}
			q.until, q.from = until, from
		case !until.After(h.until):
			return false
		default:
			h.end()
			h.until, h.from, h.reason = until, from, reason
			h.cause = Cause{}
		}
		s.own.news = append(s.own.news, event.Event{
			At: now, Kind: event.EndpointHeld, Reason: reason,
			Details: map[string]any{"until": until, "seconds": until.Sub(now).Seconds(), "from": from},
		})
		return true
	})
}

// SetWary sets whether enough other instances have opened their breakers of the endpoint. When that
// becomes true and the endpoint has checks, the next one is due at once.
func (s *State) SetWary(wary bool, now time.Time, cfg *breaker.Config) (changed bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	s.countLocked(now)
	changed = s.own.breaker.SetWary(now, cfg, wary)
	if changed && wary && s.checks.asked != nil {
		s.checks.next = now
	}
	return changed
}

// Wary reports whether the endpoint is trusted less, because other instances have opened their
// breakers.
func (s *State) Wary() bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.own.breaker.Wary()
}

// Obeys reports whether an order for the slot is in force: api.Weight, api.Priority, or the state for
// any other.
func (s *State) Obeys(slot string) bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	in := s.settings.Load()
	switch slot {
	case api.Weight:
		return in != nil && in.weight != nil
	case api.Priority:
		return in != nil && in.priority != nil
	}
	return s.order != nil
}

// TryAt makes an open period end no later than at, because another instance has found the endpoint
// back.
func (s *State) TryAt(at time.Time) {
	s.Mu.Lock()
	s.own.breaker.TryAt(at)
	s.Mu.Unlock()
}

// Postpone begins an open period anew, because another instance has tried the endpoint in vain.
func (s *State) Postpone(now time.Time, cfg *breaker.Config) {
	s.Mu.Lock()
	s.own.breaker.Postpone(now, cfg)
	s.Mu.Unlock()
}

// TryAfter makes an open period last at least until at, because another instance tries the endpoint.
func (s *State) TryAfter(at time.Time) {
	s.Mu.Lock()
	s.own.breaker.TryAfter(at)
	s.Mu.Unlock()
}
