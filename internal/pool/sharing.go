package pool

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/fleet"
	"github.com/apifailover/caddy-failover/internal/target"
)

// A Fleet is what a pool tells its findings, and what it asks for those of other instances.
// *fleet.Node is one. No method waits.
type Fleet interface {
	ID(pool, base, credentials string) string
	Instance() string
	Tell(f fleet.Fact, now time.Time)
	NextVersion(id, slot string, now time.Time) uint64
	About(id string, now time.Time) []fleet.Fact
	Opinion(id, scope string, now time.Time) fleet.Opinion
	Demands(id string, now time.Time) []fleet.Fact
	Others(now time.Time) int
}

// common is the fleet of all pools of the process; nil: there is none.
var common atomic.Pointer[Fleet]

// UseFleet sets the fleet of all pools; nil: none.
func UseFleet(f Fleet) {
	if f == nil {
		common.Store(nil)
	} else {
		common.Store(&f)
	}
	for _, p := range Running() {
		p.Poke()
	}
}

// fleet returns the pool's fleet; nil: there is none.
func (p *Pool) fleet() Fleet {
	if p.Fleet != nil {
		return p.Fleet
	}
	if f := common.Load(); f != nil {
		return *f
	}
	return nil
}

const (
	// breakerLasts is for how long a fact about a breaker counts; an open one is told again
	// before.
	breakerLasts = 5 * time.Minute
	againAfter   = 2 * time.Minute
	// activeFor is for how long a call makes an endpoint one that has calls.
	activeFor = 10 * time.Second
	// comesBack is within which time instances try an endpoint that another one found back.
	comesBack = time.Second
	// backLasts is for how long all try an endpoint that was found back, whoever tries it too.
	backLasts = 10 * time.Second
	// trialLasts is for how long the others leave a trial to the instance that makes it.
	trialLasts = 2 * time.Second
	// undoneLasts is for how long it is known that an order was undone.
	undoneLasts = 31 * 24 * time.Hour
	// restLasts is for how long an order is known after its time is over.
	restLasts = 24 * time.Hour
)

// shared is what a pool has told of a member, and heard. Pool.Mu guards it.
type shared struct {
	with     Fleet // whom; nil: nobody yet
	id       string
	target   *target.Target // of the first handler that has the endpoint
	held     time.Time
	heldFor  string
	state    string    // of a breaker; empty: nothing was told
	trying   bool      // that it is tried was told
	back     time.Time // when another instance found the endpoint back
	told     time.Time
	begun    uint64
	active   time.Time         // of the latest look that found new attempts
	versions map[string]uint64 // of the latest orders that were carried out, by slot
	demand   demanded
}

// shareLocked tells the fleet what is new of the endpoints, and takes what it knows of those
// that are new here. It needs Pool.Mu.
func (p *Pool) shareLocked(now time.Time, cfg *breaker.Config, collected []event.Event) (changed bool, _ []event.Event) {
	f := p.fleet()
	p.sharedWith = f
	if f == nil {
		if p.split {
			p.split = false
			for _, m := range p.Members {
				if m.shared.demand.part != 0 {
					m.shared.demand = demanded{}
					m.SetPart(1)
				}
			}
		}
		return false, collected
	}
	for _, m := range p.awakeLocked() {
		s := &m.shared
		if s.target == nil {
			continue
		}
		if s.with != f || s.id == "" {
			base, credentials := s.target.Identity()
			*s = shared{with: f, id: f.ID(p.Name, base, credentials), target: s.target, versions: s.versions, demand: s.demand}
			for _, fact := range f.About(s.id, now) {
				var news []event.Event
				var moved bool
				moved, news = p.hearLocked(m, &fact, false, now, cfg)
				changed = changed || moved
				collected = append(collected, news...)
			}
		}
		p.tellLocked(m, f, now, cfg)
	}
	return changed, collected
}

// tellLocked tells what is new of a member. It needs Pool.Mu.
func (p *Pool) tellLocked(m *PoolMember, f Fleet, now time.Time, cfg *breaker.Config) {
	s, found := &m.shared, m.Findings(now, cfg)
	if found.Begun != s.begun {
		s.begun, s.active = found.Begun, now
	}
	about := fleet.Fact{Endpoint: s.id, Pool: p.Name, Name: m.Name}
	if found.HeldUntil != s.held || found.HeldFor != s.heldFor {
		if s.held.After(now) || found.HeldUntil.After(now) {
			hold := about
			hold.Kind, hold.Reason = fleet.Hold, cmp.Or(found.HeldFor, s.heldFor)
			hold.Left = min(fleet.MaxHold, max(0, found.HeldUntil.Sub(now)))
			f.Tell(hold, now)
		}
		s.held, s.heldFor = found.HeldUntil, found.HeldFor
	}
	if trying := found.OnTrial && found.Reason != breaker.ReasonOperator; trying != s.trying {
		s.trying = trying
		trial := about
		trial.Kind = fleet.Trial
		switch {
		case trying:
			trial.Left = trialLasts
			f.Tell(trial, now)
		case found.State == breaker.Open: // in vain
			f.Tell(trial, now)
		}
	}
	state := fleet.Closed
	switch {
	case found.State == breaker.Open || found.OnTrial && found.Reason != breaker.ReasonOperator:
		state = fleet.Opened
	case found.State == breaker.Recovering && found.Reason != breaker.ReasonOperator:
		state = fleet.Recovering
	}
	switch {
	case state == s.state && (state == fleet.Closed || now.Sub(s.told) < againAfter):
		return
	case s.state == "" && state == fleet.Closed:
		return
	}
	s.state, s.told = state, now
	told := about
	told.Kind, told.State, told.Left = fleet.Breaker, state, breakerLasts
	if state != fleet.Closed {
		told.Reason = found.Reason
	}
	f.Tell(told, now)
}

// Hear takes a fact of another instance for the pool that it is about. live is false for what
// was known before this instance came.
func Hear(f *fleet.Fact, live bool, now time.Time) {
	if f.Endpoint == "" {
		return
	}
	for _, p := range Running() {
		p.Hear(f, live, now)
	}
}

// Hear takes a fact of another instance, and reports whether it is about the pool.
func (p *Pool) Hear(f *fleet.Fact, live bool, now time.Time) bool {
	p.Mu.Lock()
	g := p.generation.Load()
	if g == nil {
		p.Mu.Unlock()
		return false
	}
	var collected []event.Event
	changed, known := false, false
	for _, m := range p.Members {
		if m.shared.id != f.Endpoint {
			continue
		}
		known = true
		moved, news := p.hearLocked(m, f, live, now, g.Breaker.Load())
		changed = changed || moved
		collected = append(collected, news...)
	}
	p.Mu.Unlock()
	p.emitAll(collected)
	if changed {
		p.Poke()
	}
	return known
}

// hearLocked takes a fact about a member. It returns whether routing tables may change, and the
// events. It needs Pool.Mu.
func (p *Pool) hearLocked(m *PoolMember, f *fleet.Fact, live bool, now time.Time, cfg *breaker.Config) (changed bool, news []event.Event) {
	switch f.Kind {
	case fleet.Hold:
		if f.Scope == "" {
			return m.HearHold(now.Add(min(f.Left, fleet.MaxHold)), f.Reason, f.Instance, now)
		}
	case fleet.Order:
		return p.obeyLocked(m, f, live, now, cfg)
	case fleet.Breaker:
		return p.hintLocked(m, f, now, cfg), nil
	case fleet.Trial:
		if now.Sub(m.shared.back) < backLasts {
			return false, nil // all may try
		}
		if f.Scope == "" && f.Left > 0 {
			m.TryAfter(now.Add(f.Left + time.Duration(rand.Float64()*float64(comesBack))))
		} else if f.Scope == "" && live {
			m.Postpone(now, cfg)
		}
		return true, nil // the loop must learn when the period ends
	}
	return false, nil
}

// hintLocked takes what another instance's breaker came to. It needs Pool.Mu.
func (p *Pool) hintLocked(m *PoolMember, f *fleet.Fact, now time.Time, cfg *breaker.Config) (changed bool) {
	if f.Scope != "" {
		return false
	}
	s := &m.shared
	switch agrees := s.with.Opinion(s.id, "", now).Agrees(now.Sub(s.active) < activeFor); {
	case !agrees:
		changed = m.SetWary(false, now, cfg)
	case f.State == fleet.Opened && f.Left > 0:
		if changed = m.SetWary(true, now, cfg); changed {
			p.checker.hasten()
		}
	}
	if f.State != fleet.Opened {
		s.back = now
		m.TryAt(now.Add(time.Duration(rand.Float64() * float64(comesBack))))
		changed = true // the loop must learn when the period ends
	}
	return changed
}

// obeyLocked carries out another instance's order, unless a newer one of its slot has been. It
// needs Pool.Mu.
func (p *Pool) obeyLocked(m *PoolMember, f *fleet.Fact, live bool, now time.Time, cfg *breaker.Config) (changed bool, news []event.Event) {
	s := &m.shared
	if f.Version <= s.versions[f.Slot] {
		return false, nil
	}
	if s.versions == nil {
		s.versions = make(map[string]uint64)
	}
	s.versions[f.Slot] = f.Version
	order, ok := orderOf(f)
	if !ok || f.Undone && !m.Obeys(f.Slot) && !(live && f.State == api.Reset) {
		return false, nil
	}
	inFlight, news := m.Obey(order, now, cfg)
	told := order.Event(m.Name, inFlight, now)
	told.Details["from"] = f.Instance
	return true, append(news, told)
}

// orderOf returns the order that a fact says; ok is false if it says none.
func orderOf(f *fleet.Fact) (o api.Order, ok bool) {
	o = api.Order{Action: f.State, Reason: f.Reason, Lasts: f.Lasts}
	switch f.Slot {
	case fleet.Steering:
		switch {
		case f.Undone && f.State != api.Reset:
			o.Action, o.Lasts = api.Enable, 0
			return o, true
		case o.Action == api.Enable:
			return o, o.Lasts > 0
		}
		return o, o.Action == api.Drain || o.Action == api.Trip || o.Action == api.Reset
	case fleet.Weight:
		o.Action, o.Weight.Made = api.Set, true
		if !f.Undone {
			o.Weight.Value = &f.Value
		}
	case fleet.Priority:
		o.Action, o.Priority.Made = api.Set, true
		if priority := int(f.Value); !f.Undone {
			o.Priority.Value = &priority
		}
	}
	return o, o.Action == api.Set
}

// tellOrderLocked tells the fleet of an operator's order for a member, and reports whether
// there is a fleet. It needs Pool.Mu.
func (p *Pool) tellOrderLocked(m *PoolMember, o *api.Order, now time.Time) bool {
	f, s := p.fleet(), &m.shared
	if f == nil || s.with != f {
		return false
	}
	tell := func(slot, action string, value float64, undone bool) {
		fact := fleet.Fact{
			Kind: fleet.Order, Endpoint: s.id, Pool: p.Name, Name: m.Name, Slot: slot, State: action, Reason: o.Reason,
			Version: f.NextVersion(s.id, slot, now), Value: value, Undone: undone, Lasts: o.Lasts,
		}
		switch {
		case undone:
			fact.Left, fact.Lasts = undoneLasts, 0
		case o.Lasts > 0:
			fact.Left = min(fleet.MaxOrder, o.Lasts+restLasts)
		default:
			fact.Left = fleet.MaxOrder
		}
		if s.versions == nil {
			s.versions = make(map[string]uint64)
		}
		s.versions[slot] = fact.Version
		f.Tell(fact, now)
	}
	if o.Action != api.Set {
		tell(fleet.Steering, o.Action, 0, o.Action == api.Reset || o.Action == api.Enable && o.Lasts == 0)
		return true
	}
	if o.Weight.Made {
		if v := o.Weight.Value; v != nil {
			tell(fleet.Weight, "", *v, false)
		} else {
			tell(fleet.Weight, "", 0, true)
		}
	}
	if o.Priority.Made {
		if v := o.Priority.Value; v != nil {
			tell(fleet.Priority, "", float64(*v), false)
		} else {
			tell(fleet.Priority, "", 0, true)
		}
	}
	return true
}

// Active returns the IDs of the endpoints of all pools that had calls since a time.
func Active(since time.Time) (ids []string) {
	for _, p := range Running() {
		ids = append(ids, p.Active(since)...)
	}
	return ids
}

// Active returns the IDs of the endpoints that had calls since a time.
func (p *Pool) Active(since time.Time) (ids []string) {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	for _, m := range p.Members {
		if m.shared.id != "" && m.shared.active.After(since) {
			ids = append(ids, m.shared.id)
		}
	}
	return ids
}

// fleetStatusLocked returns what the fleet says of an endpoint; nil without a fleet. It needs
// Pool.Mu.
func (p *Pool) fleetStatusLocked(s *endpoint.State, now time.Time) *api.EndpointFleet {
	m := p.memberLocked(s)
	if m == nil || m.shared.with == nil || m.shared.with != p.fleet() {
		return nil
	}
	o := m.shared.with.Opinion(m.shared.id, "", now)
	status := &api.EndpointFleet{Open: o.Open, Instances: o.Others + 1, Wary: m.Wary()}
	if m.shared.state == fleet.Opened {
		status.Open++
	}
	return status
}

// OpenHere returns what this instance has told that is open, of all pools, sorted.
func OpenHere() (open []fleet.Fact) {
	for _, p := range Running() {
		p.Mu.Lock()
		for _, key := range slices.SortedFunc(maps.Keys(p.Members), func(a, b endpoint.Key) int { return cmp.Compare(a.Name, b.Name) }) {
			if m := p.Members[key]; m.shared.state == fleet.Opened || m.shared.state == fleet.Recovering {
				open = append(open, fleet.Fact{Pool: p.Name, Name: m.Name, State: m.shared.state})
			}
		}
		p.Mu.Unlock()
	}
	return open
}

var _ Fleet = (*fleet.Node)(nil)
