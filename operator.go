package failover

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/score"
	"github.com/apifailover/caddy-failover/internal/slowness"
)

// overSuffix is added to the reason of the event that tells that the time of
// a lever or a setting is over.
const overSuffix = "_over"

// An order is a lever that is held, or a setting that is in force. It is
// read-only, and is told from others by its address.
type order struct {
	action string // drain, trip, enable; weight, priority
	reason string
	since  time.Time
	until  time.Time // zero: until it is undone
	timer  *time.Timer
}

// stop keeps an order that was undone from ending.
func (o *order) stop() {
	if o != nil && o.timer != nil {
		o.timer.Stop()
	}
}

// A setting is in force instead of what is configured.
type setting[T any] struct {
	*order
	value T
}

// settings are those of an endpoint; nil is what is configured. They are
// read-only.
type settings struct {
	weight   *setting[float64]
	priority *setting[int]
}

// unknownEndpointError tells which endpoints a pool has.
type unknownEndpointError struct {
	pool, endpoint string
	names          []string
}

func (e *unknownEndpointError) Error() string {
	return fmt.Sprintf("pool %q has no endpoint %q; it has %s", e.pool, e.endpoint, api.ListNames(e.names))
}

// operate carries out a command at every endpoint of a name: handlers of the
// pool may know it at different addresses. When it returns, the command is in
// force in all handlers of the pool.
func (p *pool) operate(endpoint string, c api.Order, now time.Time) (api.OperatorAnswer, error) {
	answer := api.OperatorAnswer{Pool: p.name, Endpoint: endpoint, Action: c.Action}
	p.mu.Lock()
	states := p.namedLocked(endpoint)
	g := p.generation.Load()
	if len(states) == 0 || g == nil {
		err := &unknownEndpointError{p.name, endpoint, p.namesLocked()}
		p.mu.Unlock()
		return answer, err
	}
	cfg := g.breaker.Load()
	var collected []event.Event
	for _, s := range states {
		s.mu.Lock()
		before := s.breaker.Generation
		s.obeyLocked(c, now, cfg)
		if e := s.transitionLocked(before); e != nil {
			collected = append(collected, *e)
		}
		answer.InFlight += s.busy.Load()
		s.mu.Unlock()
	}
	p.rebuildLocked(now)
	views := p.viewsLocked(g)
	i := slices.IndexFunc(views, func(v view) bool { return v.name == endpoint })
	if i >= 0 {
		answer.Status = views[i].state.status(now, cfg)
		views[i].describe(&answer.Status)
		answer.Status.SLA = p.keeping.standing.Load().endpoint(endpoint)
	} else {
		answer.Status = states[0].status(now, cfg) // of a configuration that has just been loaded
	}
	p.mu.Unlock()
	p.poke()
	p.emit(c.Event(endpoint, answer.InFlight, now))
	p.emitAll(collected)
	return answer, nil
}

// namedLocked returns the endpoints of a name.
func (p *pool) namedLocked(name string) []*endpointState {
	var found []*endpointState
	for key, s := range p.members {
		if key.name == name {
			found = append(found, s.endpointState)
		}
	}
	slices.SortFunc(found, func(a, b *endpointState) int { return cmp.Compare(a.address, b.address) })
	return found
}

// namesLocked returns the names of all endpoints, sorted.
func (p *pool) namesLocked() []string {
	var names []string
	for key := range p.members {
		names = append(names, key.name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// rebuildLocked makes the routing tables of all handlers anew.
func (p *pool) rebuildLocked(now time.Time) {
	for _, g := range p.attached {
		for _, h := range g.handlers {
			h.rebuild(now)
		}
	}
}

// obeyLocked carries out a command.
func (s *endpointState) obeyLocked(c api.Order, now time.Time, cfg *breaker.Config) {
	if c.Action == api.Set {
		s.set(c, now)
		return
	}
	s.lever.stop()
	s.lever, s.barred = nil, false
	s.countLocked(now)
	switch {
	case c.Action == api.Trip:
		s.breaker.Force(now, breaker.ForcedOpen)
	case c.Action == api.Enable && c.Lasts > 0:
		s.breaker.Force(now, breaker.ForcedClosed)
	default:
		s.breaker.Release(now, cfg)
	}
	switch {
	case c.Action == api.Reset:
		s.breaker.Reset(now)
		s.scorer, s.tally, s.slowness = score.Scorer{}, score.Tally{}, slowness.Detector{}
		s.endHoldLocked()
		s.holdStep = 0
		s.peak.Store(0)
	case c.Action != api.Enable || c.Lasts > 0:
		s.lever = s.newOrder(c.Action, c, now)
		s.barred = c.Action != api.Enable
	}
}

// set puts settings in force, or takes them back.
func (s *endpointState) set(c api.Order, now time.Time) {
	var next settings
	if old := s.settings.Load(); old != nil {
		next = *old
	}
	if c.Weight.Made {
		if next.weight != nil {
			next.weight.stop()
			next.weight = nil
		}
		if value := c.Weight.Value; value != nil {
			next.weight = &setting[float64]{s.newOrder(api.Weight, c, now), *value}
		}
	}
	if c.Priority.Made {
		if next.priority != nil {
			next.priority.stop()
			next.priority = nil
		}
		if value := c.Priority.Value; value != nil {
			next.priority = &setting[int]{s.newOrder(api.Priority, c, now), *value}
		}
	}
	s.putInForce(next)
}

func (s *endpointState) putInForce(next settings) {
	if next == (settings{}) {
		s.settings.Store(nil)
		return
	}
	s.settings.Store(&next)
}

// newOrder makes an order, which ends by itself when its time is over.
func (s *endpointState) newOrder(action string, c api.Order, now time.Time) *order {
	o := &order{action: action, reason: c.Reason, since: now}
	if c.Lasts > 0 {
		o.until = now.Add(c.Lasts)
		o.timer = time.AfterFunc(c.Lasts, func() { s.owner.orderOver(s, o, time.Now()) })
	}
	return o
}

// orderOver ends an order whose time is over, unless it was undone meanwhile.
func (p *pool) orderOver(s *endpointState, o *order, now time.Time) {
	p.mu.Lock()
	g := p.generation.Load()
	if g == nil || p.memberLocked(s) == nil {
		p.mu.Unlock()
		return
	}
	s.mu.Lock()
	before := s.breaker.Generation
	ended := s.endLocked(o, now, g.breaker.Load())
	moved := s.transitionLocked(before)
	s.mu.Unlock()
	if ended {
		p.rebuildLocked(now)
	}
	p.mu.Unlock()
	if !ended {
		return
	}
	p.poke()
	e := event.Event{At: now, Kind: event.Operator, Endpoint: s.name, Reason: o.action + overSuffix}
	if o.reason != "" {
		e.Details = map[string]any{"note": o.reason}
	}
	p.emit(e)
	if moved != nil {
		p.emit(*moved)
	}
}

// endLocked ends an order, if it is still in force.
func (s *endpointState) endLocked(o *order, now time.Time, cfg *breaker.Config) bool {
	if s.lever == o {
		s.lever, s.barred = nil, false
		s.breaker.Release(now, cfg)
		return true
	}
	in := s.settings.Load()
	if in == nil {
		return false
	}
	next := *in
	switch {
	case next.weight != nil && next.weight.order == o:
		next.weight = nil
	case next.priority != nil && next.priority.order == o:
		next.priority = nil
	default:
		return false
	}
	s.putInForce(next)
	return true
}

// forgetOrders stops what would end orders of an endpoint that nobody uses.
func (s *endpointState) forgetOrders() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lever.stop()
	if in := s.settings.Load(); in != nil {
		if in.weight != nil {
			in.weight.stop()
		}
		if in.priority != nil {
			in.priority.stop()
		}
	}
}

// steered tells whether an operator has ordered anything about the endpoint.
func (s *endpointState) steered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lever != nil || s.settings.Load() != nil
}

// barredUntil tells whether an operator keeps attempts away, and until when;
// without an end, that is as far off as a hold can be.
func (s *endpointState) barredUntil(now time.Time) (until time.Time, barred bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.barred {
		return time.Time{}, false
	}
	if s.lever.until.IsZero() {
		return now.Add(outcome.MaxHold), true
	}
	return s.lever.until, true
}

// inForce returns the targets with the weights and priorities that operators
// have set, by priority. Without any, those are the targets themselves.
func inForce(targets []*target) []*target {
	if !slices.ContainsFunc(targets, func(t *target) bool { return t.state.settings.Load() != nil }) {
		return targets
	}
	targets = slices.Clone(targets)
	for i, t := range targets {
		in := t.state.settings.Load()
		if in == nil {
			continue
		}
		set := *t
		set.configured = t
		if in.weight != nil {
			set.weight = in.weight.value
		}
		if in.priority != nil {
			set.priority = in.priority.value
		}
		targets[i] = &set
	}
	slices.SortStableFunc(targets, func(a, b *target) int { return cmp.Compare(a.priority, b.priority) })
	return targets
}
