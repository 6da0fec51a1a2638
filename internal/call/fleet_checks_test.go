package call

import (
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/endpoint"
)

// simulatedChecks are the health checks of the first API by each instance of a fleet.
type simulatedChecks struct {
	endpoint.CheckConfig
	pass func(at time.Duration) bool
}

func (c *simulatedChecks) begin(f *fleet) {
	for _, in := range f.instances {
		in.policy.Targets[0].State.AskChecks(&c.CheckConfig, f.clock(), time.Second)
	}
}

// tick makes the check of an instance if one is due.
func (c *simulatedChecks) tick(in *instance, at time.Duration, now time.Time) {
	s := in.policy.Targets[0].State
	if due, _, _ := s.CheckDue(now); now.Before(due) || !s.BeginCheck(now, c.Interval) {
		return
	}
	_, changed, _ := s.EndCheck(now, &c.CheckConfig, in.policy.BreakerConfig(), endpoint.CheckResult{Passed: c.pass(at), Latency: time.Millisecond}, false)
	if changed {
		in.policy.Pool.Poke()
	}
}

// TestFleetColdReturnChecked: proxies that tell each other nothing overload an endpoint little that returns with a
// tenth of its capacity, although health checks make each of them return sooner.
func TestFleetColdReturnChecked(t *testing.T) {
	for _, seen := range []bool{true, false} {
		for _, rate := range []float64{5, 20} {
			s := fleetScenarios[1]
			s.to, s.lasts = fleetTo, 65*time.Second
			s.apis = func(load float64) []*simulatedAPI {
				apis := primaryAndBackups(load, func(at time.Duration) float64 {
					full := downBetween(1.25*load, fleetFrom, fleetTo)(at)
					if at < fleetTo {
						return full
					}
					return full * min(1, 0.1+0.9*(at-fleetTo).Seconds()/20)
				})
				apis[0].refuses = !seen
				return apis
			}
			s.checks = &simulatedChecks{pass: func(at time.Duration) bool { return !seen || at < fleetFrom || at >= fleetTo }}
			s.checks.Interval, s.checks.FastInterval, s.checks.Passes, s.checks.Fails = 10*time.Second, 2*time.Second, 2, 2
			const instances = 100
			r := s.run(t, fleetVariants()[0], instances, rate)
			t.Logf("checks see the fault: %t, %v calls/s of each: load on return %.2f, then %.2f of capacity; even after %.1f s; %.1f attempts of each in vain",
				seen, rate, r.OverloadFirst, r.Overload, r.EvenAfter, float64(r.InVain)/instances)
			if load := max(r.OverloadFirst, r.Overload); load > 1.45 {
				t.Errorf("checks see the fault: %t, %v calls/s of each: the load was %.2f of the capacity, want at most 1.45", seen, rate, load)
			}
			if r.EvenAfter < 0 || r.EvenAfter > 25 {
				t.Errorf("checks see the fault: %t, %v calls/s of each: even after %.1f s", seen, rate, r.EvenAfter)
			}
		}
	}
}
