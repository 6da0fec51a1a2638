package pool

import (
	"slices"
	"sync"
	"time"

	"github.com/apifailover/caddy-failover/internal/anomaly"
	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/endpoint"
)

// awake are the endpoints at which ticks have something to do. The others are at rest: a tick leaves
// them alone, unless it ends a step of the trend. The zero value is empty.
type awake struct {
	members []*PoolMember   // guarded by Pool.Mu
	rested  bool            // some of members are at rest; guarded by Pool.Mu
	by      *breaker.Config // of the latest tick; guarded by Pool.Mu

	mu      sync.Mutex // taken while an endpoint's is held, never the other way round
	stirred []*endpoint.State
}

// Stirs implements owner.
func (p *Pool) Stirs(s *endpoint.State) {
	p.awake.mu.Lock()
	p.awake.stirred = append(p.awake.stirred, s)
	p.awake.mu.Unlock()
}

// awakeLocked returns the endpoints that are not at rest, until the next call. It needs Pool.Mu.
func (p *Pool) awakeLocked() []*PoolMember {
	a := &p.awake
	if a.rested {
		a.rested = false
		a.members = slices.DeleteFunc(a.members, func(m *PoolMember) bool { return !m.awake })
	}
	a.mu.Lock()
	stirred := a.stirred
	a.stirred = nil
	a.mu.Unlock()
	for _, s := range stirred {
		if m := p.memberLocked(s); m != nil {
			a.add(m)
		}
	}
	return a.members
}

func (a *awake) add(m *PoolMember) {
	if !m.awake {
		m.awake = true
		a.members = append(a.members, m)
	}
}

// restLocked puts endpoints to rest after a tick. It needs Pool.Mu.
func (p *Pool) restLocked(cfg *breaker.Config) {
	for _, m := range p.awakeLocked() {
		if m.Rest(cfg) {
			p.awake.remove(m)
		}
	}
}

func (a *awake) remove(m *PoolMember) {
	if m.awake {
		m.awake, a.rested = false, true
	}
}

// toTickLocked returns the endpoints that a tick looks at: all if it ends a step of the trend, or if
// the settings of breakers or the fleet are new. It needs Pool.Mu.
func (p *Pool) toTickLocked(now time.Time, cfg *breaker.Config) []*PoolMember {
	due := p.awakeLocked()
	if p.awake.by == cfg && p.sharedWith == p.fleet() && !p.stepOverLocked(now) {
		return due
	}
	p.awake.by = cfg
	for _, m := range p.Members {
		p.awake.add(m)
	}
	return p.awake.members
}

// stepOverLocked reports whether a step of the trend is over. It needs Pool.Mu.
func (p *Pool) stepOverLocked(now time.Time) bool {
	return !now.Before(p.trends.next) || p.trends.next.Sub(now) > anomaly.Step
}
