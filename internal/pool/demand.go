package pool

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/fleet"
)

// demanded is what a member needed of its limits at the latest look. Pool.Mu guards it.
type demanded struct {
	at             time.Time
	taken, refused uint64
	told           float64 // what was wanted then
	part           float64 // of the limits; 0: not split yet
}

// SplitLimits splits the limits of all pools among the instances of the fleet. It is called
// again and again, and steady says that the other instances are known.
func SplitLimits(steady bool, every time.Duration, now time.Time) {
	for _, p := range Running() {
		p.SplitLimits(steady, every, now)
	}
}

// SplitLimits splits the limits of the pool's endpoints.
func (p *Pool) SplitLimits(steady bool, every time.Duration, now time.Time) {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	f := p.fleet()
	if f == nil {
		return
	}
	p.split = true
	for _, m := range p.Members {
		if s := &m.shared; s.with == f && s.target != nil && s.target.Bounds != nil && len(s.target.Bounds.Rates) > 0 {
			p.splitLocked(m, f, steady, every, now)
		}
	}
}

// splitLocked tells what an endpoint's limits are needed for here, and takes this instance's
// part. It needs Pool.Mu.
func (p *Pool) splitLocked(m *PoolMember, f Fleet, steady bool, every time.Duration, now time.Time) {
	s, d := &m.shared, &m.shared.demand
	taken, refused := m.Demand()
	wanted := 0.0
	if !d.at.IsZero() && now.After(d.at) {
		wanted = fleet.Need(float64(taken-d.taken)/now.Sub(d.at).Seconds(), refused != d.refused)
		wanted = (wanted + d.told) / 2 // chance moves no parts to and fro
	}
	d.at, d.taken, d.refused = now, taken, refused
	var others []fleet.Claim
	for _, o := range f.Demands(s.id, now) {
		others = append(others, fleet.Claim{Wanted: o.Wanted, Part: o.Part})
	}
	limit := s.target.Bounds.Rates[0]
	d.part = fleet.Split(fleet.Claim{Wanted: d.told, Part: d.part}, others, f.Others(now)+1, float64(limit.Amount)/limit.Per.Seconds(), steady)
	d.told = wanted
	m.SetPart(d.part)
	f.Tell(fleet.Fact{
		Kind: fleet.Demand, Endpoint: s.id, Pool: p.Name, Name: m.Name, Wanted: wanted, Part: d.part, Left: fleet.ClaimLasts(every),
	}, now)
}
