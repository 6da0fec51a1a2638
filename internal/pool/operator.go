package pool

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/event"
)

// UnknownEndpointError says that a pool has no such endpoint. Names are those that it has.
type UnknownEndpointError struct {
	Pool, Endpoint string
	Names          []string
}

// Error implements error.
func (e *UnknownEndpointError) Error() string {
	return fmt.Sprintf("pool %q has no endpoint %q; it has %s", e.Pool, e.Endpoint, api.ListNames(e.Names))
}

// ErrNoFleet says that an order cannot be for the fleet.
var ErrNoFleet = errors.New("there is no fleet: configure one in the global options, or leave out where (--fleet)")

// Operate carries out an order at every endpoint with the name, since handlers of the pool may have
// it at different addresses. When it returns, the order is in force at all of them.
func (p *Pool) Operate(endpoint string, c api.Order, now time.Time) (api.OperatorAnswer, error) {
	answer := api.OperatorAnswer{Pool: p.Name, Endpoint: endpoint, Action: c.Action}
	p.Mu.Lock()
	states := p.namedLocked(endpoint)
	g := p.generation.Load()
	if len(states) == 0 || g == nil {
		err := &UnknownEndpointError{p.Name, endpoint, p.namesLocked()}
		p.Mu.Unlock()
		return answer, err
	}
	cfg := g.Breaker.Load()
	var collected []event.Event
	if c.Where == api.InFleet && p.fleet() == nil {
		p.Mu.Unlock()
		return answer, ErrNoFleet
	}
	for _, s := range states {
		if m := p.memberLocked(s); m != nil && c.Where != api.Here && p.tellOrderLocked(m, &c, now) {
			answer.Fleet = true
		}
		inFlight, news := s.Obey(c, now, cfg)
		answer.InFlight += inFlight
		collected = append(collected, news...)
	}
	p.rebuildLocked(now)
	views := p.viewsLocked(g)
	i := slices.IndexFunc(views, func(v view) bool { return v.Name == endpoint })
	if i >= 0 {
		answer.Status = views[i].State.Status(now, cfg)
		views[i].describe(&answer.Status, now)
		answer.Status.SLA = p.Keeping.standing.Load().endpoint(endpoint)
	} else {
		answer.Status = states[0].Status(now, cfg) // only a configuration that has no request yet has it
	}
	p.Mu.Unlock()
	p.Poke()
	p.Emit(c.Event(endpoint, answer.InFlight, now))
	p.emitAll(collected)
	return answer, nil
}

// namedLocked returns the endpoints of a name. It needs Pool.Mu.
func (p *Pool) namedLocked(name string) []*endpoint.State {
	var found []*endpoint.State
	for key, s := range p.Members {
		if key.Name == name {
			found = append(found, s.State)
		}
	}
	slices.SortFunc(found, func(a, b *endpoint.State) int { return cmp.Compare(a.Address, b.Address) })
	return found
}

// namesLocked returns the names of all endpoints, sorted.
func (p *Pool) namesLocked() []string {
	var names []string
	for key := range p.Members {
		names = append(names, key.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// rebuildLocked rebuilds the routing tables of all handlers. It needs Pool.Mu.
func (p *Pool) rebuildLocked(now time.Time) {
	for _, g := range p.attached {
		for _, h := range g.handlers {
			h.Rebuild(now)
		}
	}
}

// OrderOver ends an order whose time is over, unless it has been undone.
func (p *Pool) OrderOver(s *endpoint.State, o *endpoint.Order, now time.Time) {
	p.Mu.Lock()
	g := p.generation.Load()
	if g == nil || p.memberLocked(s) == nil {
		p.Mu.Unlock()
		return
	}
	ended, news := s.EndOrder(o, now, g.Breaker.Load())
	if ended {
		p.rebuildLocked(now)
	}
	p.Mu.Unlock()
	if !ended {
		p.emitAll(news)
		return
	}
	p.Poke()
	e := event.Event{At: now, Kind: event.Operator, Endpoint: s.Name, Reason: o.Action + endpoint.OverSuffix}
	if o.Reason != "" {
		e.Details = map[string]any{"note": o.Reason}
	}
	p.Emit(e)
	p.emitAll(news)
}
