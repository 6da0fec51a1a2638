package target

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/schedule"
)

// A Schedule changes settings of an endpoint while a window is open.
type Schedule struct {
	*schedule.Window
	Drain    bool
	Weight   *float64 // nil: as configured
	Priority *int     // nil: as configured
}

// Plan returns the settings of the target's open schedules at a time; nil: none is open. They may
// change at the returned time; zero: never.
func (t *Target) Plan(now time.Time) (plan *endpoint.Plan, change time.Time) {
	for _, s := range t.Schedules {
		open, since, next := s.At(now)
		change = endpoint.Earliest(change, next)
		if !open {
			continue
		}
		if plan == nil {
			plan = &endpoint.Plan{Since: since, Until: next}
		}
		plan.Since, plan.Until = endpoint.Earliest(plan.Since, since), endpoint.Earliest(plan.Until, next)
		plan.Drain = plan.Drain || s.Drain
		if plan.Weight == nil {
			plan.Weight = s.Weight
		}
		if plan.Priority == nil {
			plan.Priority = s.Priority
		}
	}
	return plan, change
}
