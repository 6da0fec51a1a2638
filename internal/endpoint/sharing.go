package endpoint

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// How instances of a fleet share their knowledge of an endpoint.

// A Finding is what this instance has found out by itself about an endpoint or one of its scopes.
type Finding struct {
	Scope     string    // empty: the whole endpoint
	HeldUntil time.Time // the endpoint asked for it; zero: it did not, or the request may have caused it
	HeldFor   string    // why
	State     breaker.State
	Reason    string
	OnTrial   bool   // it is on trial
	Failing   bool   // calls of a closed breaker have just failed, and none has succeeded since
	Begun     uint64 // attempts that began
	New       bool   // the first finding about the scope
}

// Findings returns what this instance has found out about the whole endpoint, and about those scopes
// that are new, on hold or not closed. It leaves out OtherScope.
func (s *State) Findings(now time.Time, cfg *breaker.Config) (own Finding, scopes []Finding) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	s.countLocked(now)
	for _, c := range s.scopes.list {
		if c.heard || c.scope == OtherScope {
			continue
		}
		if f := c.finding(now, cfg); f.New || f.Ill() {
			scopes = append(scopes, f)
		}
		c.found = true
	}
	return s.own.finding(now, cfg), scopes
}

// Ill reports whether there is something to tell.
func (f *Finding) Ill() bool {
	return f.State != breaker.Closed || f.Failing || !f.HeldUntil.IsZero()
}

func (c *condition) finding(now time.Time, cfg *breaker.Config) Finding {
	c.breaker.Heard = true
	f := Finding{
		Scope: c.scope, State: c.breaker.State, Reason: c.breaker.Opened, OnTrial: c.breaker.OnTrial(cfg), Begun: c.begun,
		New: !c.found, Failing: c.breaker.HasFailed(now, cfg),
	}
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

// ScopesInUse returns the scopes that have had calls here since a time, to the precision of ticks.
func (s *State) ScopesInUse(since time.Time) (names []string) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	for _, c := range s.scopes.list {
		if !c.heard && c.scope != OtherScope && (c.begun != c.quiet.begun || c.quiet.since.After(since)) {
			names = append(names, c.scope)
		}
	}
	return names
}

// InUse reports whether the scope had a call here within a time, to the precision of ticks.
func (v Scoped) InUse(now time.Time, within time.Duration) bool {
	v.Mu.Lock()
	defer v.Mu.Unlock()
	c := v.known()
	return c != nil && !c.heard && c.calledWithin(now, within)
}

// known returns the condition that facts about the scope change; nil: the scope is not known. Calls of
// many scopes share OtherScope, so no fact is about it. It needs Mu.
func (v Scoped) known() *condition {
	switch v.scope {
	case "":
		return &v.own
	case OtherScope:
		return nil
	}
	return v.scopes.byName[v.scope]
}

// HearHold holds the endpoint for calls of the scope, because the endpoint asked another instance to
// wait, or denied it. The longest hold counts. If until is over, it ends a hold that came from the
// same instance. A scope without calls here is kept while it is on hold, if there is room for it.
func (v Scoped) HearHold(until time.Time, reason, from string, now time.Time) (changed bool, news []event.Event) {
	if reason != ReasonQuota && reason != outcome.Denied.String() { // no stranger's words
		reason = outcome.RateLimited.String()
	}
	return v.update(nil, func() bool {
		c := v.known()
		if c == nil && until.After(now) {
			c = v.scopes.hear(v.scope, now)
		}
		return c != nil && c.hearHold(until, reason, from, now)
	})
}

func (c *condition) hearHold(until time.Time, reason, from string, now time.Time) (changed bool) {
	h, q := &c.hold, &c.stated
	if q.from == from && !until.After(now) {
		changed = !q.until.IsZero()
		q.until, q.from = time.Time{}, ""
	}
	switch {
	case !until.After(now):
		if h.from != from {
			return changed
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
	c.news = append(c.news, event.Event{
		At: now, Kind: event.EndpointHeld, Reason: reason,
		Details: map[string]any{"until": until, "seconds": until.Sub(now).Seconds(), "from": from},
	})
	return true
}

// SetWary sets whether enough other instances have opened their breakers of the endpoint, or of the
// scope. When that becomes true for the whole endpoint and it has checks, the next one is due at once.
func (v Scoped) SetWary(wary bool, now time.Time, cfg *breaker.Config) (changed bool) {
	v.Mu.Lock()
	defer v.Mu.Unlock()
	c := v.known()
	if c == nil {
		return false
	}
	v.stirLocked()
	v.countLocked(now)
	changed = c.breaker.SetWary(now, cfg, wary)
	if changed && wary && v.scope == "" && v.checks.asked != nil {
		v.checks.next = now
	}
	return changed
}

// Wary reports whether the endpoint, or the scope, is trusted less, because other instances have opened
// their breakers.
func (v Scoped) Wary() bool {
	v.Mu.Lock()
	defer v.Mu.Unlock()
	c := v.known()
	return c != nil && c.breaker.Wary()
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
// back for calls of the scope.
func (v Scoped) TryAt(at time.Time) {
	v.withBreaker(func(b *breaker.Breaker) { b.TryAt(at) })
}

// ReturnTogether says that other instances return to the endpoint at the same time, with calls of the scope.
func (v Scoped) ReturnTogether() {
	v.withBreaker(func(b *breaker.Breaker) { b.ReturnTogether() })
}

// Postpone begins an open period anew, because another instance, by, has tried the endpoint in vain.
func (v Scoped) Postpone(now time.Time, cfg *breaker.Config, by string) {
	v.withBreaker(func(b *breaker.Breaker) { b.Postpone(now, cfg, by) })
}

// TryAfter makes an open period last at least until at, because another instance, by, tries the endpoint.
func (v Scoped) TryAfter(at, now time.Time, cfg *breaker.Config, by string) {
	v.withBreaker(func(b *breaker.Breaker) { b.TryAfter(at, now, cfg, by) })
}

// withBreaker calls do with the breaker that facts about the scope change, if there is one.
func (v Scoped) withBreaker(do func(*breaker.Breaker)) {
	v.Mu.Lock()
	defer v.Mu.Unlock()
	if c := v.known(); c != nil {
		do(&c.breaker)
	}
}
