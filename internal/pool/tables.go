package pool

import (
	"cmp"
	"slices"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/routing"
	"github.com/apifailover/caddy-failover/internal/target"
)

// inForce returns the targets with the weights and priorities that operators and schedules have set,
// by priority. If none is set, it returns the targets themselves.
func inForce(targets []*target.Target) []*target.Target {
	some := false
	for i, t := range targets {
		weight, priority := t.State.Overrides()
		if weight == nil && priority == nil {
			continue
		}
		if !some {
			targets, some = slices.Clone(targets), true
		}
		set := *t
		set.Configured = t
		if weight != nil {
			set.Weight = *weight
		}
		if priority != nil {
			set.Priority = *priority
		}
		targets[i] = &set
	}
	if !some {
		return targets
	}
	slices.SortStableFunc(targets, func(a, b *target.Target) int { return cmp.Compare(a.Priority, b.Priority) })
	return targets
}

// Routes are a routing table and the target of each of its members. The control loop builds them and
// Select reads them. They never change.
type Routes struct {
	routing.Table
	Targets []*target.Target // in the order of the table's members
	Trials  []*target.Target // targets that want a call as a trial
	Standby []*target.Target // available targets in tiers below the serving one
	Passed  []*target.Target // targets that are passed over, for calls that find no other
	metered []*target.Target // targets with limits or quotas; of the routes of all scopes only

	scope  string             // the scope of the calls; empty: all calls without their own routes
	trials string             // the key of TrialDue: the scope, or empty while other calls find no endpoint either
	scoped map[string]*Routes // the routes of scopes that some endpoint treats unlike others; nil: none
	others *Routes            // the routes of scopes that are not in scoped; nil: these
}

// For returns the routes of a scope's calls. While all endpoints are well, one table serves all
// scopes.
func (r *Routes) For(scope string) *Routes {
	if r.scoped == nil || scope == "" {
		return r
	}
	if own := r.scoped[scope]; own != nil {
		return own
	}
	if r.others != nil {
		return r.others
	}
	return r
}

// NewRoutes makes routes to targets, which are sorted by priority. available has how available each
// is, room its part of its weight; nil: the whole weight.
func NewRoutes(targets []*target.Target, available, room []float64, overflow float64) *Routes {
	members := make([]routing.Member, len(targets))
	for i, t := range targets {
		members[i] = routing.Member{Priority: t.Priority, Weight: t.Weight, Available: available[i]}
		if room != nil {
			members[i].Weight *= room[i]
		}
	}
	return &Routes{Table: *routing.New(members, overflow), Targets: targets}
}

// Scope returns the scope of the routes' calls; empty: all calls without their own routes.
func (r *Routes) Scope() string { return r.scope }

// Requests returns how many attempts are in flight at the i-th target, divided by its weight.
func (r *Routes) Requests(i int) float64 {
	return float64(r.Targets[i].State.Busy.Load()) / r.Members[i].Weight
}

// Load returns State.Load of the i-th target for calls of a scope.
func (r *Routes) Load(i int, scope string) float64 { return r.Targets[i].State.For(scope).Load() }

// build makes the routes to targets from the states of their endpoints.
func (h *Handler) build(targets []*target.Target, now time.Time) *Routes {
	cfg := h.BreakerConfig()
	targets = inForce(targets)
	built := h.buildFor("", targets, now, cfg)
	crowded := false
	for _, t := range targets {
		if t.IsMetered() {
			built.metered = append(built.metered, t)
		}
		names, full := t.State.Unwell(now, cfg)
		crowded = crowded || full
		for _, scope := range names {
			if built.scoped == nil {
				built.scoped = make(map[string]*Routes)
			}
			if built.scoped[scope] == nil {
				own := h.buildFor(scope, targets, now, cfg)
				if built.Total > 0 {
					own.trials = scope
				}
				built.scoped[scope] = own
			}
		}
	}
	if crowded {
		built.others = built.scoped[endpoint.OtherScope]
	}
	return built
}

// buildFor makes the routes of a scope's calls.
func (h *Handler) buildFor(scope string, targets []*target.Target, now time.Time, cfg *breaker.Config) *Routes {
	available := make([]float64, len(targets))
	in := h.assess(scope, targets, available, now, cfg, false)
	if in.out { // then soft holds, quotas and passing over do not count
		in = h.assess(scope, targets, available, now, cfg, true)
	}
	built := NewRoutes(targets, available, rooms(targets, scope, now), h.Overflow)
	built.scope, built.Trials, built.Passed = scope, in.trials, in.passed
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

// rooms returns the part of its weight that each target has in its tier, for calls of a scope; nil: all
// have their whole weight.
func rooms(targets []*target.Target, scope string, now time.Time) (all []float64) {
	for i, t := range targets {
		if !t.IsMetered() {
			continue
		}
		if all == nil {
			all = slices.Repeat([]float64{1}, len(targets))
		}
		all[i] = t.State.For(scope).Room(t.Bounds, now)
	}
	return all
}

// roomsChanged reports whether tables must be rebuilt because rooms would return other values. It
// needs Pool.Mu.
func (g *Generation) roomsChanged(now time.Time) bool {
	for _, h := range g.handlers {
		t := h.currentTable()
		if t == nil {
			continue
		}
		for _, one := range t.metered {
			if one.State.RoomChanged(one.Bounds, now) {
				return true
			}
		}
	}
	return false
}

// assessed are the results of assess beside how available the targets are.
type assessed struct {
	trials []*target.Target // they want a call as a trial
	passed []*target.Target // passed over
	out    bool             // none is available
}

// assess sets how available each target is. soft ignores soft holds, quotas and passing over.
func (h *Handler) assess(scope string, targets []*target.Target, available []float64, now time.Time, cfg *breaker.Config, soft bool) assessed {
	in := assessed{out: true}
	for i, t := range targets {
		if t.Weight <= 0 {
			continue
		}
		var trial, passed bool
		available[i], trial, passed = t.State.For(scope).Assess(now, cfg, soft)
		in.out = in.out && available[i] == 0
		if trial {
			in.trials = append(in.trials, t)
		}
		if passed {
			in.passed = append(in.passed, t)
		}
	}
	return in
}
