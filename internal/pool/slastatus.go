package pool

import (
	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/sla"
)

// The objective in the API and in events.

// slaStatus returns a standing for the API; nil without an objective.
func slaStatus(o sla.Objective, s sla.Standing, alert *sla.Alert) *api.SLAStatus {
	if o.Availability == 0 && o.LatencyTarget == 0 {
		return nil
	}
	status := &api.SLAStatus{
		Window: s.Window.Seconds(),
		Calls:  s.Calls,
		Failed: s.Failures.Total(),
		Down:   s.Down.Seconds(),
	}
	indicator := func(i *sla.Indicator, of sla.SLI) *api.IndicatorStatus {
		status := &api.IndicatorStatus{Attainment: i.Attainment, Burning: alert.Burning(of)}
		for _, b := range i.Burn {
			status.Burn = append(status.Burn, api.BurnStatus{Long: b.Long.Seconds(), Short: b.Short.Seconds(), Limit: b.Limit, LongRate: b.LongRate, ShortRate: b.ShortRate})
		}
		return status
	}
	if o.Availability > 0 {
		status.Availability = indicator(&s.Availability, sla.Availability)
	}
	if o.LatencyTarget > 0 {
		status.Latency = indicator(&s.Latency, sla.Latency)
		status.Quantile, status.Target = s.Quantile.Seconds(), o.LatencyTarget.Seconds()
	}
	return status
}

// burnEvent returns the event of an error budget that begins or stops to burn.
func burnEvent(c sla.Change) event.Event {
	e := event.Event{At: c.At, Kind: event.SLABurning, Reason: c.SLI.String(), Details: map[string]any{
		"budget_left":   c.BudgetLeft,
		"long_seconds":  c.Burn.Long.Seconds(),
		"long_rate":     c.Burn.LongRate,
		"short_seconds": c.Burn.Short.Seconds(),
		"short_rate":    c.Burn.ShortRate,
		"limit":         c.Burn.Limit,
	}}
	if !c.Began {
		e.Kind = event.SLAMetAgain
	}
	return e
}
