package pool

// What this instance shows of the fleet, and what the fleet is told of its endpoints as a whole.

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/fleet"
)

// Active returns the places of all pools that had calls since a time: endpoints first, then their
// scopes.
func Active(since time.Time) (places []string) {
	var scopes []string
	for _, p := range Running() {
		own, of := p.places(since)
		places, scopes = append(places, own...), append(scopes, of...)
	}
	return append(places, scopes...)
}

// places returns the pool's places that had calls since a time.
func (p *Pool) places(since time.Time) (endpoints, scopes []string) {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	for _, m := range p.Members {
		s := &m.shared
		if s.id == "" || !s.active.After(since) {
			continue
		}
		endpoints = append(endpoints, s.id)
		for _, name := range m.ScopesInUse(since) {
			scopes = append(scopes, fleet.Place(s.id, name))
		}
	}
	return endpoints, scopes
}

// fleetStatusLocked returns what the fleet says about an endpoint, and about each of its scopes that an
// instance has found out; nil without a fleet. It needs Pool.Mu.
func (p *Pool) fleetStatusLocked(s *endpoint.State, now time.Time) (own *api.EndpointFleet, scopes map[string]*api.EndpointFleet) {
	m := p.memberLocked(s)
	if m == nil || m.shared.with == nil || m.shared.with != p.fleet() {
		return nil, nil
	}
	for _, name := range m.shared.with.OpenScopes(m.shared.id, now) {
		if scopes == nil {
			scopes = make(map[string]*api.EndpointFleet)
		}
		scopes[name] = m.opinion(name, now)
	}
	for name, one := range m.shared.scopes {
		if scopes[name] == nil && one.state == fleet.Opened {
			if scopes == nil {
				scopes = make(map[string]*api.EndpointFleet)
			}
			scopes[name] = m.opinion(name, now)
		}
	}
	return m.opinion("", now), scopes
}

// opinion returns what the fleet says about a scope, or about the whole endpoint if scope is empty.
func (m *PoolMember) opinion(scope string, now time.Time) *api.EndpointFleet {
	o := m.shared.with.Opinion(m.shared.id, scope, now)
	status := &api.EndpointFleet{Open: o.Open, Instances: o.Others + 1, Wary: m.For(scope).Wary()}
	if one := m.shared.of(scope); one != nil && one.state == fleet.Opened {
		status.Open++
	}
	return status
}

// OpenHere returns the breakers of all pools that this instance has told are open or recovering,
// sorted.
func OpenHere() (open []fleet.Fact) {
	for _, p := range Running() {
		p.Mu.Lock()
		for _, key := range slices.SortedFunc(maps.Keys(p.Members), func(a, b endpoint.Key) int { return cmp.Compare(a.Name, b.Name) }) {
			m := p.Members[key]
			add := func(scope string, s *said) {
				if s.state == fleet.Opened || s.state == fleet.Recovering {
					open = append(open, fleet.Fact{Pool: p.Name, Name: m.Name, Scope: scope, State: s.state})
				}
			}
			add("", &m.shared.own)
			for _, scope := range slices.Sorted(maps.Keys(m.shared.scopes)) {
				add(scope, m.shared.scopes[scope])
			}
		}
		p.Mu.Unlock()
	}
	return open
}
