package pool

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/sla"
)

// A PoolMember is an endpoint of a pool. Pool.Mu guards its fields.
type PoolMember struct {
	*endpoint.State

	series  *sla.Series      // history by name, including earlier endpoints of this name
	total   endpoint.Counted // counts since the endpoint joined
	wasDown bool             // it took no calls at the latest tick
	refs    int              // handlers that use it
	awake   bool             // it is in Pool.awake
	trend   trend
	shared  shared
	seen    time.Time // when a dynamic endpoint was last among the upstreams
}

// joinLocked returns the member of a key, and makes it if necessary. It needs Pool.Mu.
func (p *Pool) joinLocked(key endpoint.Key) *PoolMember {
	m := p.Members[key]
	if m == nil {
		m = &PoolMember{
			State:  &endpoint.State{Key: key, Owner: p},
			series: p.History.Endpoint(key.Name),
		}
		p.Members[key] = m
		p.awake.add(m)
	}
	return m
}

// memberLocked returns the member with a state; nil if it is not in the pool. It needs
// Pool.Mu.
func (p *Pool) memberLocked(s *endpoint.State) *PoolMember {
	if m := p.Members[s.Key]; m != nil && m.State == s {
		return m
	}
	return nil
}

// seenLocked returns when an endpoint was last among the upstreams; zero if it is not in
// the pool. It needs Pool.Mu.
func (p *Pool) seenLocked(s *endpoint.State) time.Time {
	if m := p.memberLocked(s); m != nil {
		return m.seen
	}
	return time.Time{}
}

// sawLocked notes that an endpoint is among the upstreams. It needs Pool.Mu.
func (p *Pool) sawLocked(s *endpoint.State, now time.Time) {
	if m := p.memberLocked(s); m != nil {
		m.seen = now
	}
}

// releaseLocked ends one handler's use of an endpoint. The endpoint leaves the pool with its
// last handler. It needs Pool.Mu.
func (p *Pool) releaseLocked(s *endpoint.State) {
	m := p.memberLocked(s)
	if m == nil {
		return
	}
	m.refs--
	p.dropLocked(m)
}

// dropLocked removes an endpoint that no handler uses. It needs Pool.Mu.
func (p *Pool) dropLocked(m *PoolMember) {
	if m.refs != 0 {
		return
	}
	m.ForgetOrders()
	p.foldMemberLocked(m, time.Now())
	delete(p.Members, m.Key)
	p.awake.remove(m)
	p.staleRoutes = true
	p.checker.replan()
	p.leaving.take(m.State)
}
