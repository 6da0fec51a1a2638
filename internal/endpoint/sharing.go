package endpoint

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// What other instances may learn of an endpoint, and what they may change.

// Finding is what this instance found out about an endpoint by itself.
type Finding struct {
	HeldUntil time.Time // the endpoint asked for it; zero: it did not, or the request may have caused it
	HeldFor   string    // why
	State     breaker.State
	Reason    string
	OnTrial   bool   // it is tried, and has not answered yet
	Begun     uint64 // attempts
}

// Findings returns what this instance found out.
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

// HearHold holds the endpoint because another instance was asked to wait, or was denied. The
// longest hold wins. A time that is over ends a hold of the same instance.
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

// SetWary says whether enough other instances have opened their breakers of the endpoint. If
// so, and if the endpoint has checks, the next one is due at once.
func (s *State) SetWary(wary bool, now time.Time, cfg *breaker.Config) (changed bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	s.stirLocked()
	s.countLocked(now)
	changed = s.own.breaker.SetWary(now, cfg, wary)
	if changed && wary && s.checks.asked != nil {
		s.checks.next = now
	}
	return changed
}

// Wary reports whether the endpoint is watched closely because other instances have opened.
func (s *State) Wary() bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.own.breaker.Wary()
}

// Obeys reports whether an order of a slot is in force: state, weight or priority.
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

// TryAt ends an open period at a time if it would end later: another instance found the
// endpoint back.
func (s *State) TryAt(at time.Time) {
	s.Mu.Lock()
	s.own.breaker.TryAt(at)
	s.Mu.Unlock()
}

// Postpone begins an open period anew: another instance has tried the endpoint in vain.
func (s *State) Postpone(now time.Time, cfg *breaker.Config) {
	s.Mu.Lock()
	s.own.breaker.Postpone(now, cfg)
	s.Mu.Unlock()
}

// TryAfter makes an open period last at least until a time: another instance tries the
// endpoint.
func (s *State) TryAfter(at time.Time) {
	s.Mu.Lock()
	s.own.breaker.TryAfter(at)
	s.Mu.Unlock()
}
