package pool

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/event"
)

// planLocked puts the plans of a generation's schedules in force. It returns whether any has changed,
// and the events. If several handlers have a schedule for an endpoint, the first one's counts. It
// needs Pool.Mu.
func (p *Pool) planLocked(g *Generation, now time.Time, collected []event.Event) (changed bool, _ []event.Event) {
	var planned map[*endpoint.State]bool // nil in most pools, which have no schedules
	p.planDue = time.Time{}
	for _, h := range g.handlers {
		if !h.Scheduled {
			continue
		}
		for _, t := range h.allTargets() {
			if len(t.Schedules) == 0 || planned[t.State] {
				continue
			}
			if planned == nil {
				planned = make(map[*endpoint.State]bool)
			}
			planned[t.State] = true
			plan, change := t.Plan(now)
			p.planDue = endpoint.Earliest(p.planDue, change)
			collected = changePlan(t.State, plan, now, &changed, collected)
		}
	}
	if p.planned {
		for _, m := range p.Members {
			if !planned[m.State] {
				collected = changePlan(m.State, nil, now, &changed, collected)
			}
		}
	}
	p.planned = len(planned) > 0
	return changed, collected
}

// changePlan puts a plan in force, unless it is in force already, and adds the events of its parts
// that begin or end.
func changePlan(s *endpoint.State, plan *endpoint.Plan, now time.Time, changed *bool, collected []event.Event) []event.Event {
	if plan.Equal(s.InPlan()) {
		return collected
	}
	before := s.Plan(plan)
	*changed = true
	if before == nil {
		before = new(endpoint.Plan)
	}
	if plan == nil {
		plan = new(endpoint.Plan)
	}
	tell := func(what string, was, is bool, value any) {
		if was == is {
			return
		}
		e := event.Event{At: now, Kind: event.Scheduled, Endpoint: s.Name, Reason: what}
		if !is {
			e.Reason += endpoint.OverSuffix
		} else {
			e.Details = map[string]any{"until": plan.Until}
			if value != nil {
				e.Details["value"] = value
			}
		}
		collected = append(collected, e)
	}
	tell("drain", before.Drain, plan.Drain, nil)
	tell("weight", before.Weight != nil, plan.Weight != nil, deref(plan.Weight))
	tell("priority", before.Priority != nil, plan.Priority != nil, deref(plan.Priority))
	return collected
}

func deref[T any](p *T) any {
	if p == nil {
		return nil
	}
	return *p
}

// wakesAt returns when an idle pool has something to do; zero: not before there are calls again.
func (p *Pool) wakesAt(now time.Time) time.Time {
	step := p.trendDue(now)
	p.Mu.Lock()
	defer p.Mu.Unlock()
	return endpoint.Earliest(step, p.planDue)
}
