package failover

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/score"
)

// rescoreLocked computes the scores of all endpoints and returns whether one
// has moved enough to matter. An endpoint's latency is compared with the pool's
// target, else with the fastest other available endpoint of its tier, else with
// its own past. Where several handlers have an endpoint, the first one's tiers
// count. It needs pool.mu.
func (p *pool) rescoreLocked(g *generation, now time.Time) (moved bool) {
	cfg := g.breaker.Load()
	for _, h := range g.handlers {
		t := h.currentTable()
		if t == nil {
			continue
		}
		for _, tier := range t.tiers {
			speeds := p.speedsLocked(t.targets[tier.from:tier.to], now, cfg)
			for _, target := range t.targets[tier.from:tier.to] {
				s := target.state
				if m := p.memberLocked(s); m != nil {
					if m.rescored.Equal(now) {
						continue
					}
					m.rescored = now
				}
				reference := g.latencyTarget()
				if reference == 0 {
					reference = speeds.fastestBut(s)
				}
				moved = s.rescore(cfg, reference, speeds.mean) || moved
			}
		}
	}
	return moved
}

// speeds are the latencies of a tier's available endpoints; 0 where none is
// known.
type speeds struct {
	state           *endpointState // of the fastest
	fastest, second time.Duration
	mean            time.Duration
}

func (p *pool) speedsLocked(targets []*target, now time.Time, cfg *breaker.Config) (v speeds) {
	var sum time.Duration
	n := 0
	for _, target := range targets {
		s := target.state
		s.mu.Lock()
		typical := s.scorer.Typical()
		if s.breaker.Allowed(cfg) == 0 || now.Before(s.holdUntil) {
			typical = 0
		}
		s.mu.Unlock()
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

// fastestBut is the latency of the fastest endpoint other than s.
func (v *speeds) fastestBut(s *endpointState) time.Duration {
	if v.state == s {
		return v.second
	}
	return v.fastest
}

// rescore publishes a score that moved by score.Step or more, or back to full.
func (s *endpointState) rescore(cfg *breaker.Config, reference, usual time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	lost := 1 - s.scorer.Score(cfg.FailureRatio, reference, usual)
	if diff := lost - s.scorer.Lost; diff < score.Step && diff > -score.Step && (lost != 0 || s.scorer.Lost == 0) {
		return false
	}
	s.scorer.Lost = lost
	return true
}

// latencyTarget is that of the pool's objectives, 0 if there is none.
func (g *generation) latencyTarget() time.Duration {
	if o := g.sla.Load(); o != nil {
		return o.LatencyTarget
	}
	return 0
}
