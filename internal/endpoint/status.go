package endpoint

import (
	"cmp"
	"slices"
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/slowness"
)

// Status returns the endpoint for the API. It computes quantiles without holding the mutex.
func (s *State) Status(now time.Time, cfg *breaker.Config) api.EndpointStatus {
	s.Mu.Lock()
	s.countLocked(now)
	e := s.statusLocked(now, cfg)
	last, latencies := s.last, s.own.slowness.Known
	var scopes []scopeStatus
	for _, c := range s.scopes.list {
		latencies.Merge(&c.slowness.Known)
	}
	for _, c := range s.scopes.shown(now) {
		scopes = append(scopes, scopeStatus{c.status(now, cfg), c.slowness.Known})
	}
	s.Mu.Unlock()
	e.LastOutcomes = last.names()
	e.Latency = latencyStatus(&latencies)
	for i := range scopes {
		scopes[i].Latency = latencyStatus(&scopes[i].known)
		e.Scopes = append(e.Scopes, scopes[i].ScopeStatus)
	}
	return e
}

// scopeStatus is a scope's status without its quantiles, and the latencies for them.
type scopeStatus struct {
	api.ScopeStatus
	known slowness.Histogram
}

func (s *State) statusLocked(now time.Time, cfg *breaker.Config) api.EndpointStatus {
	own := s.own.status(now, cfg)
	e := api.EndpointStatus{
		Name:        s.Name,
		Address:     s.Address,
		State:       own.State,
		Reason:      own.Reason,
		Since:       own.Since,
		DownSince:   own.DownSince,
		Cause:       own.Cause,
		LastFailure: own.LastFailure,
		Share:       own.Share,
		Score:       own.Score,
		HeldUntil:   own.HeldUntil,
		HeldReason:  own.HeldReason,
		InFlight:    s.Busy.Load(),
		Attempts:    s.totals.Attempts,
		Successes:   s.totals.Successes,
		Failures:    s.totals.Failures,
		Cancelled:   s.totals.Cancelled,
		Check:       s.checks.status(),
	}
	if b := &s.own.breaker; b.Told.State == breaker.Open {
		e.Until = b.DueAgain(now, s.checks.next)
	}
	e.Quotas = s.shownQuotas().status(now)
	s.describeOrdersLocked(&e)
	if p := s.planned.Load(); p != nil {
		e.Draining = s.barred && (s.order == nil || e.Draining)
		e.Schedule = &api.ScheduleStatus{Drain: p.Drain, Weight: p.Weight, Priority: p.Priority, Since: p.Since, Until: p.Until}
	}
	return e
}

// status returns the condition for the API, without quantiles of latencies.
func (c *condition) status(now time.Time, cfg *breaker.Config) api.ScopeStatus {
	b := &c.breaker
	status := api.ScopeStatus{
		Scope:       c.scope,
		State:       b.Told.State.String(),
		Reason:      b.Told.Reason,
		Since:       b.Told.Since,
		DownSince:   b.Told.Down,
		Cause:       c.faults.openedStatus(),
		LastFailure: c.faults.lastStatus(),
		Share:       api.Tidy(b.Allowed(cfg)),
		Score:       api.Tidy(1 - c.scorer.Lost),
		Attempts:    c.begun,
	}
	if b.Told.State == breaker.Open {
		status.Until = b.DueAgain(now, time.Time{})
	}
	if c.hold.on(now) {
		status.HeldUntil, status.HeldReason = c.hold.until, cmp.Or(c.hold.reason, outcome.RateLimited.String())
	}
	if until := c.stated.until; now.Before(until) && until.After(status.HeldUntil) {
		status.HeldUntil, status.HeldReason = until, ReasonQuota
	}
	if until := c.passing.until; !until.IsZero() && until.After(status.HeldUntil) {
		status.HeldUntil, status.HeldReason = until, ReasonPassedOver
	}
	return status
}

// shownScopes is how many scopes a status shows beside those that are not well.
const shownScopes = 8

// shown returns the scopes that a status shows: those that are not well, and the busiest of the
// others.
func (x *scopes) shown(now time.Time) []*condition {
	list := slices.Clone(x.list)
	ill := func(c *condition) int {
		if c.ill(now) || c.breaker.Wary() {
			return 0
		}
		return 1
	}
	slices.SortFunc(list, func(a, b *condition) int {
		return cmp.Or(ill(a)-ill(b), cmp.Compare(b.busy, a.busy), cmp.Compare(a.scope, b.scope))
	})
	well := 0
	return slices.DeleteFunc(list, func(c *condition) bool {
		well += ill(c)
		return well > shownScopes
	})
}

// ill reports whether all or some calls are kept away from the endpoint.
func (c *condition) ill(now time.Time) bool {
	return !c.well() || c.passing.over() || c.stated.usedUp(now)
}

// illByItself is ill but for what other instances have told.
func (c *condition) illByItself(now time.Time) bool {
	return c.breaker.State != breaker.Closed || c.passing.over() ||
		!c.hold.until.IsZero() && c.hold.from == "" || c.stated.usedUp(now) && c.stated.from == ""
}

// A Standing is the state of an endpoint for metrics.
type Standing struct {
	State                   breaker.State
	Share, Score            float64
	Held                    bool
	Quotas                  []api.QuotaStatus
	Tokens                  uint64 // tokens that answers have stated, at endpoints with a limit of tokens
	Passed, Failed, Skipped uint64 // checks

	Scopes []ScopeStanding // those that are not well
}

// A ScopeStanding is how much of its normal traffic calls of a scope can have, 0 to 1.
type ScopeStanding struct {
	Scope string
	Share float64
}

// Stands returns the state of the endpoint for metrics.
func (s *State) Stands(now time.Time, cfg *breaker.Config) Standing {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	c := &s.checks
	standing := Standing{
		State: s.own.breaker.Told.State, Share: s.own.breaker.Allowed(cfg), Score: 1 - s.own.scorer.Lost,
		Held: s.own.passing.over() || s.own.keptAway(now, false), Quotas: s.shownQuotas().status(now), Tokens: s.used,
		Passed: c.passed, Failed: c.failed, Skipped: c.skipped,
	}
	for _, one := range s.scopes.list {
		if !one.ill(now) && !one.breaker.Wary() {
			continue
		}
		share := one.breaker.Allowed(cfg)
		if one.keptAway(now, false) || one.passing.over() {
			share = 0
		}
		standing.Scopes = append(standing.Scopes, ScopeStanding{one.scope, share})
	}
	return standing
}

// latencyStatus returns quantiles, to an eighth of their values; nil if no latency is known.
func latencyStatus(h *slowness.Histogram) *api.LatencyStatus {
	total := h.Total()
	if total < 1 {
		return nil
	}
	return &api.LatencyStatus{
		P50: api.Tidy(h.Quantile(0.5, total).Seconds()),
		P95: api.Tidy(h.Quantile(0.95, total).Seconds()),
		P99: api.Tidy(h.Quantile(0.99, total).Seconds()),
	}
}

// describeOrdersLocked adds the operator's orders.
func (s *State) describeOrdersLocked(e *api.EndpointStatus) {
	if o := s.order; o != nil {
		e.Draining = o.Action == api.Drain
		e.Operator = &api.OperatorStatus{Action: o.Action, Reason: o.Reason, Since: o.since, Until: o.until}
	}
	in := s.settings.Load()
	if in == nil {
		return
	}
	e.Override = &api.OverrideStatus{}
	if w := in.weight; w != nil {
		e.Override.Weight = &api.SettingStatus[float64]{Value: w.value, Reason: w.Reason, Since: w.since, Until: w.until}
	}
	if p := in.priority; p != nil {
		e.Override.Priority = &api.SettingStatus[int]{Value: p.value, Reason: p.Reason, Since: p.since, Until: p.until}
	}
}
