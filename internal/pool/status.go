package pool

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/sla"
	"github.com/apifailover/caddy-failover/internal/target"
)

// Status returns the pool's status for the API.
func (p *Pool) Status(now time.Time) api.PoolStatus {
	status := api.PoolStatus{
		Name:           p.Name,
		At:             now,
		CallsPerSecond: p.Budget.Rate(now),
		RetriesDenied:  p.Budget.Denied.Load(),
		Incident:       p.Incidents.Now(),
		Endpoints:      []api.EndpointStatus{},
	}
	status.Waiting = p.Queue.status(now)
	p.Mu.Lock()
	g := p.generation.Load() // under the lock, so that no reload detaches its handlers meanwhile
	if g == nil {
		p.Mu.Unlock()
		return status
	}
	cfg := g.Breaker.Load()
	views := p.viewsLocked(g)
	status.Down, _ = g.isDownLocked(now)
	opinions, ofScopes := make([]*api.EndpointFleet, len(views)), make([]map[string]*api.EndpointFleet, len(views))
	for i, v := range views {
		opinions[i], ofScopes[i] = p.fleetStatusLocked(v.State, now)
	}
	p.Mu.Unlock()
	judged := p.Keeping.standing.Load()
	if judged != nil {
		status.SLA = slaStatus(judged.objective, judged.Pool, &judged.Alert)
	}
	for i, v := range views {
		e := v.State.Status(now, cfg)
		v.describe(&e, now)
		e.Fleet = opinions[i]
		for j := range e.Scopes {
			e.Scopes[j].Fleet = ofScopes[i][e.Scopes[j].Scope]
		}
		e.SLA = judged.endpoint(e.Name)
		status.Endpoints = append(status.Endpoints, e)
	}
	return status
}

// endpoint returns the comparison of an endpoint with the pool's objective; nil if it is not known.
func (s *Standing) endpoint(name string) *api.SLAStatus {
	if s == nil {
		return nil
	}
	own, ok := s.endpoints[name]
	if !ok {
		return nil
	}
	return slaStatus(s.objective, own, new(sla.Alert))
}

// A view is an endpoint with the target of the first handler that has it.
type view struct {
	*target.Target
	traffic float64
}

// viewsLocked returns the endpoints of a configuration.
func (p *Pool) viewsLocked(g *Generation) (views []view) {
	seen := make(map[*endpoint.State]bool)
	add := func(t *target.Target, traffic float64) {
		if !seen[t.State] {
			seen[t.State] = true
			views = append(views, view{t, traffic})
		}
	}
	for _, h := range g.handlers {
		if t := h.currentTable(); t != nil && len(t.Targets) > 0 {
			for i, target := range t.Targets {
				add(target, t.Share(i))
			}
		}
		if h.Dynamic != nil {
			for _, address := range slices.Sorted(maps.Keys(h.Dynamic.Known)) {
				add(h.Dynamic.Known[address], 0)
			}
		}
	}
	slices.SortStableFunc(views, func(a, b view) int { return cmp.Compare(a.Priority, b.Priority) })
	return views
}

// describe adds the fields that the configuration and the tables know.
func (v view) describe(e *api.EndpointStatus, now time.Time) {
	e.URL = target.RedactURL(v.URL)
	e.Priority, e.Weight = v.Priority, v.Weight
	e.Traffic = api.Tidy(v.traffic)
	e.Limits = v.State.Limits(v.Bounds, now)
	configured := v.Target
	if v.Configured != nil {
		configured = v.Configured
	}
	if e.Override != nil && e.Override.Weight != nil {
		e.Override.Weight.Configured = configured.Weight
	}
	if e.Override != nil && e.Override.Priority != nil {
		e.Override.Priority.Configured = configured.Priority
	}
}
