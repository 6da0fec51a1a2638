package failover

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/sla"
	"github.com/apifailover/caddy-failover/internal/slowness"
)

// Status returns how every pool of this process stands, by name. It holds each
// lock only for as long as it takes to copy a few numbers.
func Status(now time.Time) []api.PoolStatus {
	all := []api.PoolStatus{}
	for _, p := range runningPools() {
		all = append(all, p.status(now))
	}
	return all
}

// runningPools returns the pools of this process, by name.
func runningPools() []*pool {
	var all []*pool
	pools.Range(func(_, value any) bool {
		all = append(all, value.(*pool))
		return true
	})
	slices.SortFunc(all, func(a, b *pool) int { return cmp.Compare(a.name, b.name) })
	return all
}

// findPool returns the pool of a name, nil if there is none.
func findPool(name string) *pool {
	var found *pool
	pools.Range(func(key, value any) bool {
		if key == name {
			found = value.(*pool)
		}
		return found == nil
	})
	return found
}

// status copies how the pool stands.
func (p *pool) status(now time.Time) api.PoolStatus {
	status := api.PoolStatus{
		Name:           p.name,
		At:             now,
		CallsPerSecond: p.budget.Rate(now),
		RetriesDenied:  p.budget.Denied.Load(),
		Endpoints:      []api.EndpointStatus{},
	}
	p.mu.Lock()
	g := p.generation.Load() // under the lock, or a reload might empty it meanwhile
	if g == nil {
		p.mu.Unlock()
		return status
	}
	cfg := g.breaker.Load()
	views := p.viewsLocked(g)
	status.Down = g.allOutLocked()
	p.mu.Unlock()
	judged := p.keeping.standing.Load()
	if judged != nil {
		status.SLA = slaStatus(judged.objective, judged.pool, &judged.alert)
	}
	for _, v := range views {
		e := v.state.status(now, cfg)
		v.describe(&e)
		e.SLA = judged.endpoint(e.Name)
		status.Endpoints = append(status.Endpoints, e)
	}
	return status
}

// endpoint is how an endpoint compares with the pool's objective, nil if that is
// not known.
func (s *standing) endpoint(name string) *api.SLAStatus {
	if s == nil {
		return nil
	}
	own, ok := s.endpoints[name]
	if !ok {
		return nil
	}
	return slaStatus(s.objective, own, new(sla.Alert))
}

// A view is an endpoint as the first handler that has it sees it.
type view struct {
	*target
	traffic float64
}

// viewsLocked returns the endpoints of a configuration.
func (p *pool) viewsLocked(g *generation) (views []view) {
	seen := make(map[*endpointState]bool)
	add := func(t *target, traffic float64) {
		if !seen[t.state] {
			seen[t.state] = true
			views = append(views, view{t, traffic})
		}
	}
	for _, h := range g.handlers {
		if t := h.currentTable(); t != nil && len(t.targets) > 0 {
			for i, target := range t.targets {
				add(target, t.share(i))
			}
		}
		if h.dynamic != nil {
			for _, address := range slices.Sorted(maps.Keys(h.dynamic.known)) {
				add(h.dynamic.known[address], 0)
			}
		}
	}
	slices.SortStableFunc(views, func(a, b view) int { return cmp.Compare(a.priority, b.priority) })
	return views
}

// currentTable is the table that the last calls went by; nil if there is none
// yet.
func (h *poolHandler) currentTable() *routes {
	if h.dynamic == nil {
		return h.table.Load()
	}
	if d := h.dynamic.current.Load(); d != nil {
		return d.table.Load()
	}
	return nil
}

// describe adds what the configuration knows.
func (v view) describe(e *api.EndpointStatus) {
	e.URL = redactURL(v.url)
	e.Priority, e.Weight = v.priority, v.weight
	e.Traffic = api.Tidy(v.traffic)
	configured := v.target
	if v.configured != nil {
		configured = v.configured
	}
	if e.Override != nil && e.Override.Weight != nil {
		e.Override.Weight.Configured = configured.weight
	}
	if e.Override != nil && e.Override.Priority != nil {
		e.Override.Priority.Configured = configured.priority
	}
}

// status copies how the endpoint stands. What takes long it does without the
// endpoint's lock.
func (s *endpointState) status(now time.Time, cfg *breaker.Config) api.EndpointStatus {
	s.mu.Lock()
	s.countLocked(now)
	e := s.statusLocked(now, cfg)
	last, latencies := s.last, s.slowness.Known
	s.mu.Unlock()
	e.LastOutcomes = last.names()
	e.Latency = latencyStatus(&latencies)
	return e
}

func (s *endpointState) statusLocked(now time.Time, cfg *breaker.Config) api.EndpointStatus {
	b := &s.breaker
	e := api.EndpointStatus{
		Name:      s.name,
		Address:   s.address,
		State:     b.State.String(),
		Reason:    b.Reason,
		Since:     b.Changed,
		Share:     api.Tidy(b.Allowed(cfg)),
		Score:     api.Tidy(1 - s.scorer.Lost),
		InFlight:  s.busy.Load(),
		Attempts:  s.totals.Attempts,
		Successes: s.totals.Successes,
		Failures:  s.totals.Failures,
		Cancelled: s.totals.Cancelled,
	}
	e.Check = s.checks.status()
	if b.State == breaker.Open {
		e.Until = b.Until
	}
	if now.Before(s.holdUntil) {
		e.HeldUntil = s.holdUntil
	}
	s.describeOrdersLocked(&e)
	return e
}

// latencyStatus makes quantiles, to an eighth; nil if nothing is known.
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

// describeOrdersLocked adds what an operator has ordered.
func (s *endpointState) describeOrdersLocked(e *api.EndpointStatus) {
	if o := s.lever; o != nil {
		e.Draining = o.action == api.Drain
		e.Operator = &api.OperatorStatus{Action: o.action, Reason: o.reason, Since: o.since, Until: o.until}
	}
	in := s.settings.Load()
	if in == nil {
		return
	}
	e.Override = &api.OverrideStatus{}
	if w := in.weight; w != nil {
		e.Override.Weight = &api.SettingStatus[float64]{Value: w.value, Reason: w.reason, Since: w.since, Until: w.until}
	}
	if p := in.priority; p != nil {
		e.Override.Priority = &api.SettingStatus[int]{Value: p.value, Reason: p.reason, Since: p.since, Until: p.until}
	}
}
