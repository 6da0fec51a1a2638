package pool

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/fleet"
)

// demanded is a member's demand of its limits at the latest split. Pool.Mu guards it.
type demanded struct {
	at             time.Time
	taken, refused uint64  // State.Demand at that time
	told           float64 // the rate that this instance wanted then, as told to the fleet
	part           float64 // this instance's part of the limits; 0: not split yet
}

// SplitLimits splits the limits of all pools among the instances of the fleet. It is called each
// every. steady says that the other instances are known.
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
	for _, m := range p.Members {
		if s := &m.shared; s.with == f && s.target != nil && s.target.Bounds != nil && len(s.target.Bounds.Rates) > 0 {
			p.splitLocked(m, f, steady, every, now)
		}
	}
}

// splitLocked tells the fleet how much of an endpoint's limits this instance needs, and takes its
// part of them. It needs Pool.Mu.
func (p *Pool) splitLocked(m *PoolMember, f Fleet, steady bool, every time.Duration, now time.Time) {
	s, d := &m.shared, &m.shared.demand
	taken, refused := m.Demand()
	wanted := 0.0
	if !d.at.IsZero() && now.After(d.at) {
		wanted = fleet.Need(float64(taken-d.taken)/now.Sub(d.at).Seconds(), refused != d.refused)
		wanted = (wanted + d.told) / 2 // the mean keeps parts steady despite random fluctuations
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
