// Package pool owns the endpoints behind a name: their control loop, routing tables, checks and
// history.
package pool

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/budget"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/incident"
	"github.com/apifailover/caddy-failover/internal/sla"
)

// A Pool holds the state of the endpoints behind one or several handlers. Its control loop
// builds routing tables from the states and ends overdue attempts. Its outbox delivers
// events. It is safe for concurrent use.
type Pool struct {
	Name   string
	Phase  uint64   // the first number of Turn; random, so that many proxies do not draw in step
	Secret [32]byte // signs cookies; made with the pool
	Budget budget.Budget
	Hedges budget.Hedges
	Outbox *event.Outbox
	Fleet  Fleet // nil: the process's fleet

	generation atomic.Pointer[Generation] // the generation whose settings the pool uses
	down       atomic.Bool                // no endpoint serves anything
	Loop       loop

	trials struct { // trials while every endpoint is out
		sync.Mutex
		next map[string]time.Time // the earliest next trial, by Routes.trials
	}

	leaving leaving
	checker checker
	trends  trends // guarded by mu

	History sla.History
	Keeping keeping
	// Refusals count calls that reached no endpoint since the latest fold: all endpoints were
	// out, all were on hold, the others were full, or the client left or sent no readable body.
	Refusals struct{ down, held, full, Gone atomic.Uint64 }
	Queue    Queue // calls that wait for an endpoint

	Fingerprints Fingerprints  // of calls that failed
	Saved        atomic.Uint64 // calls that an endpoint answered after another had failed
	Incidents    incident.Tracker
	outage       struct { // guarded by Mu
		began  time.Time
		failed uint64   // calls that had failed before it
		scopes []string // those it was down for; none: every endpoint was out
	}
	wellSince time.Time // since when some endpoint serves and none is out, while an incident was left open; guarded by Mu
	undecided undecided
	poison    atomic.Uint64 // calls whose requests fail at every endpoint
	NotKept   atomic.Uint64 // bodies not kept for lack of memory, since the pool was made

	Mu       sync.Mutex
	Members  map[endpoint.Key]*PoolMember
	calls    sla.Batch     // as their clients saw them, since the pool was made
	attached []*Generation // oldest first
	live     bool          // as liveLocked returned

	awake awake

	planDue     time.Time // when a schedule begins or ends next; zero: there is none
	planned     bool      // a plan is in force
	split       bool      // limits have been split with a fleet
	sharedWith  Fleet     // whom all findings were told; nil: nobody, or not all
	scopedBy    string    // Generation.scopedBy of the known scopes
	staleRoutes bool      // an endpoint has left the pool, so counts of failovers to it must go
}

// A Generation is one configuration's use of a pool: the handlers that name the pool. They must agree
// on its settings.
type Generation struct {
	config   any // identifies the configuration
	serial   int
	logger   *zap.Logger
	Source   EventSource
	handlers []*Handler // guarded by Pool.Mu
	Breaker  atomic.Pointer[breaker.Config]
	ctx      context.Context // ends with the last of the handlers
	cancel   context.CancelFunc
	sla      atomic.Pointer[sla.Objective] // nil: none
	scopedBy string                        // as Handler.ScopedBy; guarded by Pool.Mu

	// The first endpoint of each URL and its credentials, see isTwin. Pool.Mu guards it.
	firsts map[[2]string]endpoint.Key
}

var generations atomic.Int64

// Attach adds a handler of the configuration config. After an error the pool is unchanged.
func (p *Pool) Attach(h *Handler, config any) error {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	i := slices.IndexFunc(p.attached, func(g *Generation) bool { return g.config == config })
	if i >= 0 {
		for _, other := range p.attached[i].handlers {
			if err := h.Terms.AgreesWith(other.Terms); err != nil {
				return err
			}
		}
	} else {
		i = len(p.attached)
		g := &Generation{config: config, serial: int(generations.Add(1)), logger: h.Logger, Source: h.Source}
		g.ctx, g.cancel = context.WithCancel(context.Background())
		p.attached = append(p.attached, g)
	}
	g := p.attached[i]
	g.handlers = append(g.handlers, h)
	p.runBy(g)
	h.Generation = g
	for _, t := range h.Targets {
		key := endpoint.Key{Name: t.Name, Address: t.Address}
		m := p.joinLocked(key)
		m.refs++
		t.State = m.State
		twin := g.isTwin(key, t)
		if runs := p.generation.Load(); runs == nil || runs == g || m.shared.target == nil {
			p.identifyLocked(m, t, twin)
		}
	}
	if p.generation.Load() == nil {
		p.generation.Store(g)
		p.scopedBy = g.scopedBy
		p.Poke() // for its schedules
	}
	return nil
}

// runBy sets each setting of a generation to that of the first handler that has it, else to the
// default.
func (p *Pool) runBy(g *Generation) {
	g.scopedBy = ""
	var own *breaker.Config
	var objective *sla.Objective
	longest := time.Duration(0)
	for _, h := range g.handlers {
		own = cmp.Or(own, h.Breaker)
		objective = cmp.Or(objective, h.Objective)
		longest = max(longest, h.Longest)
		g.scopedBy = cmp.Or(g.scopedBy, h.ScopedBy)
	}
	cfg := breaker.Defaults(longest)
	if own != nil {
		cfg = own.WithTimeout(longest)
	}
	g.Breaker.Store(&cfg)
	g.sla.Store(objective)
}

// Detach removes a handler, and the endpoints that no other handler has.
func (p *Pool) Detach(h *Handler) {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	g := h.Generation
	if g == nil {
		return
	}
	g.handlers = slices.DeleteFunc(g.handlers, func(other *Handler) bool { return other == h })
	if len(g.handlers) > 0 {
		p.runBy(g)
	} else {
		g.cancel()
		p.attached = slices.DeleteFunc(p.attached, func(other *Generation) bool { return other == g })
		if p.generation.Load() == g && len(p.attached) > 0 {
			g = p.attached[len(p.attached)-1]
			p.generation.Store(g)
			p.identifyAllLocked(g)
		}
	}
	p.inheritLocked(h)
	parted := h.Targets
	h.parted.Store(&parted)
	orphans := false
	for _, t := range h.takeTargets() {
		m := p.memberLocked(t.State)
		p.releaseLocked(t.State)
		orphans = orphans || m != nil && m.refs > 0 && m.shared.target == t
	}
	if runs := p.generation.Load(); orphans && runs != nil {
		p.identifyAllLocked(runs)
	}
	p.checker.replan()
	p.Poke()
}

// logger returns the logger of the pool's configuration.
func (p *Pool) logger() *zap.Logger {
	if g := p.generation.Load(); g != nil {
		return g.logger
	}
	return zap.NewNop()
}

// breakerConfig returns the breaker settings of the pool's configuration; nil if nothing uses
// the pool.
func (p *Pool) breakerConfig() *breaker.Config {
	if g := p.generation.Load(); g != nil {
		return g.Breaker.Load()
	}
	return nil
}

// TrialDue reports whether a call with these routes may be a trial while all endpoints are out, and
// counts it. There is one trial each PollAllIn, which the instances of a fleet share.
func (p *Pool) TrialDue(r *Routes, now time.Time) bool {
	p.trials.Lock()
	defer p.trials.Unlock()
	waits := func(next time.Time) bool { // unless the clock jumped back
		return now.Before(next) && next.Sub(now) <= longestBetween
	}
	if waits(p.trials.next[r.trials]) {
		return false
	}
	if p.trials.next == nil {
		p.trials.next = make(map[string]time.Time)
	}
	maps.DeleteFunc(p.trials.next, func(_ string, next time.Time) bool { return !waits(next) })
	p.trials.next[r.trials] = now.Add(p.betweenTrials(r, now))
	return true
}

// Rebuild rebuilds the routing tables at once, not at the next tick.
func (p *Pool) Rebuild(now time.Time) {
	p.Mu.Lock()
	p.rebuildLocked(now)
	p.Mu.Unlock()
}

// Tick does what is due at now, and returns when something is due next; zero: after an event.
func (p *Pool) Tick(now time.Time) (due time.Time) {
	p.undecided.decide(now) // before the states count failures whose doubt is over
	p.Mu.Lock()
	due, collected := p.tickLocked(now)
	p.Mu.Unlock()
	p.emitAll(collected)
	return due
}

// tickLocked is Tick, and returns the events to emit. It needs Pool.Mu.
func (p *Pool) tickLocked(now time.Time) (due time.Time, collected []event.Event) {
	g := p.generation.Load()
	if g == nil || !p.liveLocked() {
		p.Loop.takePoke()
		return time.Time{}, nil
	}
	cfg := g.Breaker.Load()
	changed := p.Loop.takePoke()
	planned, collected := p.planLocked(g, now, collected)
	rescoped, collected := p.rescopeLocked(g, now, collected)
	changed = planned || rescoped || changed
	restless, scopes := false, false
	tick := func(s *endpoint.State) {
		moved, at, news := s.Tick(now, cfg)
		collected = append(collected, news...)
		changed = changed || moved
		due = endpoint.Earliest(due, at)
		own, some := s.Scores()
		restless, scopes = restless || own, scopes || some
	}
	for _, m := range p.toTickLocked(now, cfg) {
		tick(m.State)
	}
	for _, s := range p.passingLocked() {
		tick(s)
	}
	p.foldLocked(now)
	for _, m := range p.awakeLocked() {
		p.trackLocked(m, now, cfg)
	}
	p.Budget.Tick(now)
	opened, collected := p.openSlowLocked(g, now, collected)
	changed = opened || changed
	if restless || scopes {
		changed = g.rescoreLocked(now, cfg, scopes) || changed
	}
	heard, collected := p.shareLocked(now, cfg, collected)
	changed = heard || changed
	changed = changed || g.roomsChanged(now)
	collected = p.trendLocked(now, cfg, collected)
	p.restLocked(cfg)
	if changed {
		p.rebuildLocked(now)
		p.scopesDownLocked(g)
		p.Queue.Wake()
		p.checker.hasten()
	}
	if e := p.downLocked(g, now); e != nil {
		collected = append(collected, *e)
	}
	over, at := p.Incidents.Tick(now, p.someOutLocked(), p.down.Load(), p.totalsLocked())
	if over == nil {
		var next time.Time
		over, next = p.leftOpenLocked(now)
		at = endpoint.Earliest(at, next)
	}
	if over != nil {
		collected = append(collected, *over)
	}
	due = endpoint.Earliest(due, at)
	p.forgetLocked(now)
	return due, collected
}

// rescopeLocked forgets all scopes if the calls of a new configuration get their scopes in another
// way. It returns whether it did, and the events.
func (p *Pool) rescopeLocked(g *Generation, now time.Time, collected []event.Event) (changed bool, _ []event.Event) {
	if g.scopedBy == p.scopedBy {
		return false, collected
	}
	p.scopedBy = g.scopedBy
	for _, m := range p.Members {
		collected = append(collected, m.DropScopes(now, breaker.ReasonForgotten)...)
	}
	return true, collected
}

// liveLocked reports whether a configuration with the pool has started, or has a request: Caddy's server starts before its slowest app
// has. Until then, the pool does nothing that anybody could notice: Caddy may only be checking the configuration. It needs a generation and
// Pool.Mu.
func (p *Pool) liveLocked() bool {
	if !p.live {
		p.live = p.generation.Load().Source == nil || p.Budget.Calls.Load() > 0 ||
			slices.ContainsFunc(p.attached, func(g *Generation) bool { return isUsable(g.Source) })
	}
	return p.live
}

// Started tells the pool that a configuration has started.
func (p *Pool) Started() {
	p.Keeping.Poke()
	p.checker.replan()
	p.Poke()
}

// Poke tells the control loop that a state has changed.
func (p *Pool) Poke() { p.Loop.poke() }

// Turn counts a call, and returns its number among the pool's calls, from Phase on.
func (p *Pool) Turn() uint64 { return p.Phase + uint64(p.Budget.Call()) }

// Watch tells the control loop that an attempt with this timeout has begun.
func (p *Pool) Watch(timeout time.Duration) { p.Loop.watch(p, timeout) }
