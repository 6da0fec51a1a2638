package endpoint

import (
	"cmp"
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/slowness"
)

// Status returns the endpoint for the API. It works out quantiles without the mutex.
func (s *State) Status(now time.Time, cfg *breaker.Config) api.EndpointStatus {
	s.Mu.Lock()
	s.countLocked(now)
	e := s.statusLocked(now, cfg)
	last, latencies := s.last, s.own.slowness.Known
	s.Mu.Unlock()
	e.LastOutcomes = last.names()
	e.Latency = latencyStatus(&latencies)
	return e
}

func (s *State) statusLocked(now time.Time, cfg *breaker.Config) api.EndpointStatus {
	b := &s.own.breaker
	e := api.EndpointStatus{
		Name:      s.Name,
		Address:   s.Address,
		State:     b.Told.State.String(),
		Reason:    b.Told.Reason,
		Since:     b.Told.Since,
		DownSince: b.Told.Down,
		Share:     api.Tidy(b.Allowed(cfg)),
		Score:     api.Tidy(1 - s.own.scorer.Lost),
		InFlight:  s.Busy.Load(),
		Attempts:  s.totals.Attempts,
		Successes: s.totals.Successes,
		Failures:  s.totals.Failures,
		Cancelled: s.totals.Cancelled,
	}
	e.Cause = s.own.faults.openedStatus()
	e.LastFailure = s.own.faults.lastStatus()
	e.Check = s.checks.status()
	if b.Told.State == breaker.Open {
		e.Until = b.DueAgain(now, s.checks.next)
	}
	if s.own.hold.on(now) {
		e.HeldUntil, e.HeldReason = s.own.hold.until, cmp.Or(s.own.hold.reason, outcome.RateLimited.String())
	}
	if until := s.own.stated.until; now.Before(until) && until.After(e.HeldUntil) {
		e.HeldUntil, e.HeldReason = until, ReasonQuota
	}
	e.Quotas = s.own.stated.status(now)
	if until := s.own.passing.until; !until.IsZero() && until.After(e.HeldUntil) {
		e.HeldUntil, e.HeldReason = until, ReasonPassedOver
	}
	s.describeOrdersLocked(&e)
	if p := s.planned.Load(); p != nil {
		e.Draining = s.barred && (s.order == nil || e.Draining)
		e.Schedule = &api.ScheduleStatus{Drain: p.Drain, Weight: p.Weight, Priority: p.Priority, Since: p.Since, Until: p.Until}
	}
	return e
}

// A Standing is the state of an endpoint for metrics.
type Standing struct {
	State                   breaker.State
	Share, Score            float64
	Held                    bool
	Quotas                  []api.QuotaStatus
	Tokens                  uint64 // that answers have stated, at endpoints with a limit of tokens
	Passed, Failed, Skipped uint64 // checks
}

// Stands returns the state of the endpoint for metrics.
func (s *State) Stands(now time.Time, cfg *breaker.Config) Standing {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	c := &s.checks
	return Standing{s.own.breaker.Told.State, s.own.breaker.Allowed(cfg), 1 - s.own.scorer.Lost, s.own.passing.over() || s.own.keptAway(now, false), s.own.stated.status(now), s.used, c.passed, c.failed, c.skipped}
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
