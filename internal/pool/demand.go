package pool

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/fleet"
)

// demanded is a member's demand of its limits at the latest split. Pool.Mu guards it.
type demanded struct {
	at    time.Time
	asked uint64
	need  fleet.Need
	part  float64 // this instance's part of the limits; 0: not split yet
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
	p.split = true
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
	asked, whole := m.Demand(s.target.Bounds)
	told := d.need.Part
	if !d.at.IsZero() && now.After(d.at) {
		d.need.Saw(float64(asked-d.asked), whole*now.Sub(d.at).Seconds())
	}
	d.at, d.asked = now, asked
	var others []fleet.Claim
	for _, o := range f.Demands(s.id, now) {
		others = append(others, fleet.Claim{Need: o.Need, Part: o.Part})
	}
	d.part = fleet.Split(fleet.Claim{Need: told, Part: d.part}, others, f.Others(now)+1, steady)
	m.SetPart(d.part, len(others)+1)
	f.Tell(fleet.Fact{
		Kind: fleet.Demand, Endpoint: s.id, Pool: p.Name, Name: m.Name, Need: d.need.Part, Part: d.part, Left: fleet.ClaimLasts(every),
	}, now)
}
