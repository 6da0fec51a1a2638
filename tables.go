package failover

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
)

// routes are where calls can go: a table, and the target that each of its members
// stands for. The control loop builds them and Select reads them; they never change.
type routes struct {
	table
	targets []*target // in the order of the table's members
	trials  []*target // recovering, and in want of a call
	standby []*target // available, in tiers below the one that serves
}

// newRoutes lays out targets, which are sorted by priority, with how available each is.
func newRoutes(targets []*target, available []float64, overflow float64) *routes {
	members := make([]member, len(targets))
	for i, t := range targets {
		members[i] = member{priority: t.priority, weight: t.weight, available: available[i]}
	}
	return &routes{table: *newTable(members, overflow), targets: targets}
}

// load is how long a call would wait at the i-th target, as the states know it.
func (r *routes) load(i int) float64 { return r.targets[i].state.load() }

// build makes the routes to targets from the states of their endpoints.
func (h *poolHandler) build(targets []*target, now time.Time) *routes {
	cfg := h.breakerConfig()
	targets = inForce(targets)
	available := make([]float64, len(targets))
	trials, out := h.assess(targets, available, now, cfg, false)
	if out { // then a hold that may be a request's own keeps nothing away
		trials, _ = h.assess(targets, available, now, cfg, true)
	}
	built := newRoutes(targets, available, h.overflow)
	built.trials = trials
	if h.standbyShare > 0 {
		for _, i := range built.belowServing() {
			built.standby = append(built.standby, targets[i])
		}
	}
	return built
}

// assess fills in how available each target is, and returns those in want of a call
// and whether none is available. Holds that are in doubt count unless pastDoubt is set.
func (h *poolHandler) assess(targets []*target, available []float64, now time.Time, cfg *breaker.Config, pastDoubt bool) (trials []*target, out bool) {
	out = true
	for i, t := range targets {
		s := t.state
		s.mu.Lock()
		if t.weight > 0 && !s.barred && (!now.Before(s.holdUntil) || pastDoubt && s.holdSoft) {
			available[i] = s.breaker.Allowed(cfg) * (1 - s.scorer.Lost)
			out = out && available[i] == 0
			if wants, _ := s.breaker.WantsTrial(now, cfg); wants || s.breaker.OnTrial(cfg) {
				trials = append(trials, t)
			}
		}
		s.mu.Unlock()
	}
	return trials, out
}
