package failover

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/sla"
)

// A poolMember is an endpoint of a pool, with what the pool's mutex guards of it.
type poolMember struct {
	*endpointState

	series   *sla.Series // by name: endpoints that had the name before are in it
	total    counted
	wasDown  bool
	refs     int // handlers that use it
	rescored time.Time
	trend    trend
	seen     time.Time // when last among the upstreams, for dynamic ones
}

// joinLocked finds the member of a key, or makes it. It needs pool.mu.
func (p *pool) joinLocked(key endpointKey) *poolMember {
	m := p.members[key]
	if m == nil {
		m = &poolMember{
			endpointState: &endpointState{endpointKey: key, owner: p},
			series:        p.history.Endpoint(key.name),
		}
		p.members[key] = m
	}
	return m
}

// memberLocked is the member that has a state; nil: the endpoint is not in the pool, or
// no longer. It needs pool.mu.
func (p *pool) memberLocked(s *endpointState) *poolMember {
	if m := p.members[s.endpointKey]; m != nil && m.endpointState == s {
		return m
	}
	return nil
}

// seenLocked is when an endpoint was last among the upstreams; zero if it is not in the
// pool. It needs pool.mu.
func (p *pool) seenLocked(s *endpointState) time.Time {
	if m := p.memberLocked(s); m != nil {
		return m.seen
	}
	return time.Time{}
}

// sawLocked notes that an endpoint is among the upstreams. It needs pool.mu.
func (p *pool) sawLocked(s *endpointState, now time.Time) {
	if m := p.memberLocked(s); m != nil {
		m.seen = now
	}
}

// releaseLocked takes back one handler's use of an endpoint, which leaves the pool with
// the last. It needs pool.mu.
func (p *pool) releaseLocked(s *endpointState) {
	m := p.memberLocked(s)
	if m == nil {
		return
	}
	m.refs--
	p.dropLocked(m)
}

// dropLocked forgets an endpoint that nobody uses. It needs pool.mu.
func (p *pool) dropLocked(m *poolMember) {
	if m.refs != 0 {
		return
	}
	m.forgetOrders()
	p.foldMemberLocked(m, time.Now())
	delete(p.members, m.endpointKey)
	p.staleRoutes = true
	p.checker.replan()
	p.leaving.take(m.endpointState)
}
