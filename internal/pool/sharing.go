package pool

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/fleet"
	"github.com/apifailover/caddy-failover/internal/target"
)

// A Fleet takes a pool's findings, and returns those of other instances. *fleet.Node is one. No method
// blocks.
type Fleet interface {
	ID(pool, base, credentials string) string
	Instance() string
	Tell(f fleet.Fact, now time.Time)
	NextVersion(id, slot string, now time.Time) uint64
	About(id string, now time.Time) []fleet.Fact
	AboutScope(id, scope string, now time.Time) []fleet.Fact
	OpenScopes(id string, now time.Time) []string
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
	// breakerLasts is how long a fact about a breaker counts. While a breaker is not closed, its fact
	// is told again each againAfter.
	breakerLasts = 5 * time.Minute
	againAfter   = 2 * time.Minute
	// activeFor is how long after a call an endpoint counts as one that has calls.
	activeFor = 10 * time.Second
	// comesBack is the time within which instances try an endpoint that another one found back. In a small fleet it is a part of that.
	comesBack = time.Second
	// backLasts is how long all instances may try an endpoint that was found back, at the same time.
	backLasts = 10 * time.Second
	// toldEach is how many instances a second tell what the others know already.
	toldEach = 200
	// trialLasts is how long the others leave a trial to the instance that makes it.
	trialLasts = 2 * time.Second
	// undoneLasts is how long the fleet remembers that an order was undone.
	undoneLasts = 31 * 24 * time.Hour
	// restLasts is how long the fleet remembers an order whose time is over.
	restLasts = 24 * time.Hour
)

// shared is what a pool has told the fleet of a member, and has heard of it. Pool.Mu guards it.
type shared struct {
	with   Fleet          // the fleet that was told; nil: none yet
	id     string         // the endpoint's ID in the fleet
	target *target.Target // the target of a handler that has the endpoint
	twin   bool           // an endpoint before it has its URL and credentials, so its ID has its name too
	own    said           // about the whole endpoint
	scopes map[string]*said
	begun  uint64                 // attempts at the latest look
	active time.Time              // time of the latest look that found new attempts
	orders map[string]fleet.Stamp // of the latest orders that were carried out, by slot
	demand demanded
}

// said is what a pool has told the fleet, and has heard, about an endpoint or one of its scopes.
type said struct {
	held    time.Time // Finding.HeldUntil and HeldFor, as told
	heldFor string
	state   string    // state of the breaker, as told; empty: it was not told
	trying  bool      // the fleet was told that the endpoint is on trial
	back    time.Time // when another instance found the endpoint back
	told    time.Time // when state was told
	later   time.Time // when to tell what is no news to the others; zero: there is nothing
	failed  time.Time // when the fleet was told that calls fail
}

// isTwin reports whether an endpoint before this one, in any handler of the generation, has the same URL and credentials, as they
// are written. It needs Pool.Mu.
func (g *Generation) isTwin(key endpoint.Key, t *target.Target) bool {
	base, credentials := t.Written()
	written := [2]string{base, credentials}
	first, known := g.firsts[written]
	if !known {
		if g.firsts == nil {
			g.firsts = make(map[[2]string]endpoint.Key)
		}
		g.firsts[written] = key
	}
	return known && first != key
}

// identifyLocked notes which endpoint of the fleet a member is: that of a target. It needs Pool.Mu.
func (p *Pool) identifyLocked(m *PoolMember, t *target.Target, twin bool) {
	m.shared.target, m.shared.twin, m.shared.id, p.sharedWith = t, twin, "", nil
}

// identifyAllLocked notes which endpoints of the fleet the members are that a generation has. It is called when the pool runs by that
// generation, not before: a configuration that does not start must not change what the fleet's drains and cooldowns concern. It needs Pool.Mu.
func (p *Pool) identifyAllLocked(g *Generation) {
	for _, h := range g.handlers {
		for _, t := range h.Targets {
			if m := p.memberLocked(t.State); m != nil && m.shared.target != t {
				p.identifyLocked(m, t, g.isTwin(m.Key, t))
			}
		}
	}
}

// of returns what was said about a scope, or about the whole endpoint if scope is empty; nil: nothing.
func (s *shared) of(scope string) *said {
	if scope == "" {
		return &s.own
	}
	return s.scopes[scope]
}

// shareLocked tells the fleet what is new about the endpoints, and takes what the fleet knows about
// endpoints that are new here. It needs Pool.Mu.
func (p *Pool) shareLocked(now time.Time, cfg *breaker.Config, collected []event.Event) (changed bool, _ []event.Event) {
	f := p.fleet()
	p.sharedWith = f
	if f == nil {
		if p.split {
			p.split = false
			for _, m := range p.Members {
				if m.shared.demand.part != 0 {
					m.shared.demand = demanded{}
					m.SetPart(1, 1)
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
			if s.twin {
				credentials += "\n\n" + m.Name
			}
			*s = shared{with: f, id: f.ID(p.Name, base, credentials), target: s.target, twin: s.twin, orders: s.orders, demand: s.demand}
			for _, fact := range f.About(s.id, now) {
				var news []event.Event
				var moved bool
				moved, news = p.hearLocked(m, &fact, false, now, cfg)
				changed = changed || moved
				collected = append(collected, news...)
			}
		}
		moved, news := p.tellLocked(m, f, now, cfg)
		changed = changed || moved
		collected = append(collected, news...)
	}
	return changed, collected
}

// tellLocked tells the fleet what is new about a member, and takes what the fleet knows about scopes
// that are new here. It needs Pool.Mu.
func (p *Pool) tellLocked(m *PoolMember, f Fleet, now time.Time, cfg *breaker.Config) (changed bool, collected []event.Event) {
	s := &m.shared
	own, scopes := m.Findings(now, cfg)
	if own.Begun != s.begun {
		s.begun, s.active = own.Begun, now
	}
	p.sayLocked(m, f, &s.own, &own, now)
	for i := range scopes {
		found := &scopes[i]
		if found.New {
			for _, fact := range f.AboutScope(s.id, found.Scope, now) {
				moved, news := p.hearLocked(m, &fact, false, now, cfg)
				changed = changed || moved
				collected = append(collected, news...)
			}
		}
		if !found.Ill() {
			continue
		}
		if s.scopes[found.Scope] == nil {
			if s.scopes == nil {
				s.scopes = make(map[string]*said)
			}
			s.scopes[found.Scope] = new(said)
		}
		p.sayLocked(m, f, s.scopes[found.Scope], found, now)
	}
	if len(s.scopes) == 0 {
		return changed, collected
	}
	for scope, one := range s.scopes {
		is := func(found endpoint.Finding) bool { return found.Scope == scope && found.Ill() }
		if !slices.ContainsFunc(scopes, is) { // it is well, or forgotten
			p.sayLocked(m, f, one, &endpoint.Finding{Scope: scope}, now)
			delete(s.scopes, scope)
		}
	}
	return changed, collected
}

// sayLocked tells the fleet what is new in a finding. It needs Pool.Mu.
func (p *Pool) sayLocked(m *PoolMember, f Fleet, s *said, found *endpoint.Finding, now time.Time) {
	about := fleet.Fact{Endpoint: m.shared.id, Scope: found.Scope, Pool: p.Name, Name: m.Name}
	if found.HeldUntil != s.held || found.HeldFor != s.heldFor {
		if s.held.After(now) || found.HeldUntil.After(now) {
			hold := about
			hold.Kind, hold.Reason = fleet.Hold, cmp.Or(found.HeldFor, s.heldFor)
			hold.Left = min(fleet.MaxHold, max(0, found.HeldUntil.Sub(now)))
			f.Tell(hold, now)
		}
		s.held, s.heldFor = found.HeldUntil, found.HeldFor
	}
	together := now.Sub(s.back) < backLasts // all try, so that one does is no news
	if trying := found.OnTrial && found.Reason != breaker.ReasonOperator; trying != s.trying {
		s.trying = trying
		trial := about
		trial.Kind = fleet.Trial
		switch {
		case together:
		case trying:
			trial.Left = trialLasts
			f.Tell(trial, now)
		case found.State == breaker.Open: // the trial failed
			f.Tell(trial, now)
		}
	}
	p.sayStateLocked(f, s, found, about, together, now)
}

// sayStateLocked tells what a breaker came to. together says that many instances return to the
// endpoint. It needs Pool.Mu.
func (p *Pool) sayStateLocked(f Fleet, s *said, found *endpoint.Finding, told fleet.Fact, together bool, now time.Time) {
	state := fleet.Closed
	switch {
	case found.State == breaker.Open || found.OnTrial && found.Reason != breaker.ReasonOperator:
		state = fleet.Opened
	case found.State == breaker.Recovering && found.Reason != breaker.ReasonOperator:
		state = fleet.Recovering
	case found.Failing:
		state = fleet.Failing
	}
	switch {
	case state == s.state && (state == fleet.Closed || state == fleet.Failing || now.Sub(s.told) < againAfter):
		s.later = time.Time{}
		return
	case s.state == "" && state == fleet.Closed:
		return
	case state == fleet.Failing && now.Sub(s.failed) < breaker.FailingFor:
		return // once in that time
	case state == s.state || state == fleet.Failing || s.state == fleet.Failing && state == fleet.Closed:
	case s.later.IsZero() && (together || state == fleet.Opened && f.Opinion(told.Endpoint, told.Scope, now).Settled()):
		// the others know, so there is no haste
		s.later = now.Add(time.Duration(rand.Float64() * float64(f.Others(now)) / toldEach * float64(time.Second)))
	}
	if now.Before(s.later) {
		return
	}
	s.later = time.Time{}
	told.Kind, told.State, told.Left = fleet.Breaker, state, breakerLasts
	if state != fleet.Closed {
		told.Reason = found.Reason
	}
	switch {
	case state == fleet.Failing:
		s.failed, told.Reason, told.Left = now, "", breaker.FailingFor
	case s.state == fleet.Failing && state == fleet.Closed:
		told.Left = 0 // it was no outage, so nothing has returned
	}
	s.state, s.told = state, now
	f.Tell(told, now)
}

// Hear passes a fact of another instance to the pool that it is about. live is false for facts that
// are older than this instance.
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
		if f.Scope != "" && p.scopedBy == "" {
			return false, nil // no call has a scope here
		}
		return m.For(f.Scope).HearHold(now.Add(min(f.Left, fleet.MaxHold)), f.Reason, f.Instance, now)
	case fleet.Order:
		return p.obeyLocked(m, f, live, now, cfg)
	case fleet.Breaker:
		return p.hintLocked(m, f, now, cfg), nil
	case fleet.Trial:
		if s := m.shared.of(f.Scope); s != nil && now.Sub(s.back) < backLasts {
			return false, nil // all may try
		}
		if f.Left > 0 {
			left := min(f.Left, trialLasts) + time.Duration(rand.Float64()*float64(comesBack))
			m.For(f.Scope).TryAfter(now.Add(left), now, cfg, f.Instance)
		} else if live {
			m.For(f.Scope).Postpone(now, cfg, f.Instance)
		}
		return true, nil // the loop must learn when the period ends
	}
	return false, nil
}

// manyInstances is how many other instances make a fleet so large that together they might send an endpoint
// that returns more than it can take yet. Those of a smaller fleet return as quickly as one alone.
const manyInstances = 9

// hintLocked takes a fact about another instance's breaker. It returns whether routing tables may
// change. It needs Pool.Mu.
func (p *Pool) hintLocked(m *PoolMember, f *fleet.Fact, now time.Time, cfg *breaker.Config) (changed bool) {
	s, about := &m.shared, m.For(f.Scope)
	active := now.Sub(s.active) < activeFor
	if f.Scope != "" {
		active = about.InUse(now, activeFor)
	}
	opinion := s.with.Opinion(s.id, f.Scope, now)
	agrees := opinion.Agrees(active)
	if one := s.of(f.Scope); one != nil && one.state == fleet.Failing {
		agrees = opinion.AgreesWith()
	}
	switch {
	case !agrees:
		changed = about.SetWary(false, now, cfg)
	case (f.State == fleet.Opened || f.State == fleet.Failing) && f.Left > 0:
		if changed = about.SetWary(true, now, cfg); changed && f.Scope == "" {
			p.checker.hasten()
		}
	}
	if (f.State == fleet.Recovering || f.State == fleet.Closed) && f.Left > 0 {
		if one := s.of(f.Scope); one != nil {
			one.back = now
		}
		if opinion.Others >= manyInstances {
			about.ReturnTogether()
		}
		within := min(comesBack, comesBack*time.Duration(opinion.Others+1)/(manyInstances+1))
		about.TryAt(now.Add(time.Duration(rand.Float64() * float64(within))))
		changed = true // the loop must learn when the period ends
	}
	return changed
}

// longestBetween is the longest time between two trials of an instance whose endpoints are all out. Others try them too, but what
// they say may be wrong, or untrue of this instance.
const longestBetween = 5 * time.Second

// betweenTrials returns the time until the next trial for calls with these routes, while all endpoints are out. All instances that have
// calls at these endpoints, and for which they are out too, together make one trial each PollAllIn, as far as longestBetween allows. Endpoints
// that nobody may try do not count.
func (p *Pool) betweenTrials(r *Routes, now time.Time) time.Duration {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	f, others := p.sharedWith, -1 // the fewest that try an endpoint
	for _, t := range r.Targets {
		m := p.memberLocked(t.State)
		if f == nil || m == nil || m.shared.id == "" {
			continue
		}
		if barred, held := m.KeptAway(now); barred || held || t.Weight == 0 {
			continue // nobody tries it, whoever is there
		}
		trying := f.Opinion(m.shared.id, "", now).Trying
		if r.trials != "" {
			trying = max(trying, f.Opinion(m.shared.id, r.trials, now).Trying)
		}
		if others < 0 || trying < others {
			others = trying
		}
	}
	if others <= 0 {
		return endpoint.PollAllIn
	}
	between := min(longestBetween, time.Duration(1+others)*endpoint.PollAllIn)
	return time.Duration(float64(between) * (0.75 + 0.25*rand.Float64())) // not all at once
}

var _ Fleet = (*fleet.Node)(nil)
