package pool

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/target"
)

// rescoreLocked computes the scores that may change, also those of scopes if scopes is set, and returns
// whether any was published anew. It compares an endpoint's latency with the objective's target, else
// with the fastest other available endpoint of its tier, else with its own past. If several handlers
// have an endpoint, the first one's tiers count. It needs Pool.Mu.
func (g *Generation) rescoreLocked(now time.Time, cfg *breaker.Config, scopes bool) (moved bool) {
	for _, h := range g.handlers {
		t := h.currentTable()
		if t == nil {
			continue
		}
		for _, tier := range t.Tiers {
			targets := t.Targets[tier.From:tier.To]
			moved = g.rescoreTier(targets, "", now, cfg) || moved
			if scopes {
				moved = g.rescoreScopes(targets, now, cfg) || moved
			}
		}
	}
	return moved
}

// rescoreTier computes the scores that a tier's endpoints have for a scope. A second call at the same
// time changes nothing.
func (g *Generation) rescoreTier(targets []*target.Target, scope string, now time.Time, cfg *breaker.Config) (moved bool) {
	speeds := speedsOf(targets, scope, now, cfg)
	for _, t := range speeds.restless {
		reference := g.latencyTarget()
		if reference == 0 {
			reference = speeds.fastestBut(t.State)
		}
		moved = t.State.For(scope).Rescore(cfg, reference, speeds.mean) || moved
	}
	return moved
}

// rescoreScopes computes the scores that a tier's endpoints have for scopes.
func (g *Generation) rescoreScopes(targets []*target.Target, now time.Time, cfg *breaker.Config) (moved bool) {
	var done map[string]bool // nil in most pools
	for _, one := range targets {
		for _, scope := range one.State.Restless() {
			if done[scope] {
				continue
			}
			if done == nil {
				done = make(map[string]bool)
			}
			done[scope] = true
			moved = g.rescoreTier(targets, scope, now, cfg) || moved
		}
	}
	return moved
}

// speeds are latencies of a tier's available endpoints; 0: unknown.
type speeds struct {
	state           *endpoint.State // the fastest endpoint
	fastest, second time.Duration
	mean            time.Duration
	restless        []*target.Target // whose scores may change
}

func speedsOf(targets []*target.Target, scope string, now time.Time, cfg *breaker.Config) (v speeds) {
	var sum time.Duration
	n := 0
	for _, target := range targets {
		s := target.State
		typical, restless := s.For(scope).Usual(now, cfg)
		if restless {
			v.restless = append(v.restless, target)
		}
		if typical == 0 {
			continue
		}
		sum += typical
		n++
		switch {
		case v.state == nil || typical < v.fastest:
			v.second = v.fastest
			v.state, v.fastest = s, typical
		case v.second == 0 || typical < v.second:
			v.second = typical
		}
	}
	if n > 0 {
		v.mean = sum / time.Duration(n)
	}
	return v
}

// fastestBut returns the latency of the fastest endpoint other than s; 0: unknown.
func (v *speeds) fastestBut(s *endpoint.State) time.Duration {
	if v.state == s {
		return v.second
	}
	return v.fastest
}

// latencyTarget returns the latency target of the pool's objective; 0 if there is none.
func (g *Generation) latencyTarget() time.Duration {
	if o := g.sla.Load(); o != nil {
		return o.LatencyTarget
	}
	return 0
}
