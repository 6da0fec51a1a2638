package pool

import (
	"cmp"
	"slices"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/routing"
	"github.com/apifailover/caddy-failover/internal/target"
)

// inForce returns the targets with the weights and priorities that operators
// have set, by priority. Without any, those are the targets themselves.
func inForce(targets []*target.Target) []*target.Target {
	if !slices.ContainsFunc(targets, func(t *target.Target) bool { return t.State.Settings.Load() != nil }) {
		return targets
	}
	targets = slices.Clone(targets)
	for i, t := range targets {
		in := t.State.Settings.Load()
		if in == nil {
			continue
		}
		set := *t
		set.Configured = t
		if in.Weight != nil {
			set.Weight = in.Weight.Value
		}
		if in.Priority != nil {
			set.Priority = in.Priority.Value
		}
		targets[i] = &set
	}
	slices.SortStableFunc(targets, func(a, b *target.Target) int { return cmp.Compare(a.Priority, b.Priority) })
	return targets
}

// Routes are where calls can go: a table, and the target that each of its members
// stands for. The control loop builds them and Select reads them; they never change.
type Routes struct {
	routing.Table
	Targets []*target.Target // in the order of the table's members
	Trials  []*target.Target // recovering, and in want of a call
	Standby []*target.Target // available, in tiers below the one that serves
}

// NewRoutes lays out targets, which are sorted by priority, with how available each is.
func NewRoutes(targets []*target.Target, available []float64, overflow float64) *Routes {
	members := make([]routing.Member, len(targets))
	for i, t := range targets {
		members[i] = routing.Member{Priority: t.Priority, Weight: t.Weight, Available: available[i]}
	}
	return &Routes{Table: *routing.New(members, overflow), Targets: targets}
}

// Requests is how many attempts are in flight at the i-th target, for its weight.
func (r *Routes) Requests(i int) float64 {
	return float64(r.Targets[i].State.Busy.Load()) / r.Members[i].Weight
}

// Load is how long a call would wait at the i-th target, as the states know it.
func (r *Routes) Load(i int) float64 { return r.Targets[i].State.Load() }

// build makes the routes to targets from the states of their endpoints.
func (h *Handler) build(targets []*target.Target, now time.Time) *Routes {
	cfg := h.BreakerConfig()
	targets = inForce(targets)
	available := make([]float64, len(targets))
	trials, out := h.assess(targets, available, now, cfg, false)
	if out { // then a hold that may be a request's own keeps nothing away
		trials, _ = h.assess(targets, available, now, cfg, true)
	}
	built := NewRoutes(targets, available, h.Overflow)
	built.Trials = trials
	if h.Keyed {
		for _, t := range targets {
			built.Seeds = append(built.Seeds, routing.Hash(t.Name))
		}
	}
	if h.StandbyShare > 0 {
		for _, i := range built.BelowServing() {
			built.Standby = append(built.Standby, targets[i])
		}
	}
	return built
}

// assess fills in how available each target is, and returns those in want of a call
// and whether none is available. Holds that are in doubt count unless pastDoubt is set.
func (h *Handler) assess(targets []*target.Target, available []float64, now time.Time, cfg *breaker.Config, pastDoubt bool) (trials []*target.Target, out bool) {
	out = true
	for i, t := range targets {
		s := t.State
		s.Mu.Lock()
		if t.Weight > 0 && !s.Barred && (!now.Before(s.HoldUntil) || pastDoubt && s.HoldSoft) {
			available[i] = s.Breaker.Allowed(cfg) * (1 - s.Scorer.Lost)
			out = out && available[i] == 0
			if wants, _ := s.Breaker.WantsTrial(now, cfg); wants || s.Breaker.OnTrial(cfg) {
				trials = append(trials, t)
			}
		}
		s.Mu.Unlock()
	}
	return trials, out
}
