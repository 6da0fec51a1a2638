package failover

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/budget"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/sla"
)

// pools holds the state of every pool by name. Configurations come and go;
// a pool lives as long as one of them uses it.
var pools = caddy.NewUsagePool()

// A pool is what is known about the endpoints behind one or several handlers:
// the states of the endpoints and the retry budget. Its control loop turns
// states into routing tables and ends overdue attempts; its outbox is the way
// out for events.
type pool struct {
	name   string
	phase  uint64 // of its turns, so that many proxies do not take them in step
	budget budget.Budget
	hedges budget.Hedges
	outbox *event.Outbox

	generation atomic.Pointer[generation] // what the pool runs by
	down       atomic.Bool                // every endpoint is out
	loop       loop

	trials struct { // while every endpoint is out
		sync.Mutex
		next time.Time
	}

	leaving leaving
	checker checker
	trends  trends // guarded by mu

	history sla.History
	keeping keeping
	// Calls that came to no endpoint, since the last fold: all were out, all had asked to
	// wait, or the client's body could not be read.
	refusals struct{ down, held, unread atomic.Uint64 }
	poison   atomic.Uint64 // calls whose requests fail wherever they go
	notKept  atomic.Uint64 // bodies, for want of memory, since the pool was made

	mu       sync.Mutex
	members  map[endpointKey]*poolMember
	calls    sla.Batch     // as their clients saw them, since the pool was made
	attached []*generation // oldest first

	staleRoutes bool // an endpoint has gone to which failovers may have been counted
}

// A generation is one loaded configuration's use of a pool: the handlers that
// name it. What the pool itself runs by must agree in all of them.
type generation struct {
	config   any // identifies the configuration
	serial   int
	logger   *zap.Logger
	source   eventSource
	handlers []*poolHandler // guarded by pool.mu
	breaker  atomic.Pointer[breaker.Config]
	ctx      context.Context // ends with the last of the handlers
	cancel   context.CancelFunc
	sla      atomic.Pointer[sla.Objective] // nil: none
}

var generations atomic.Int64

// loadPool joins the pool of a name, which is made if need be.
func loadPool(name string) (*pool, error) {
	value, _, err := pools.LoadOrNew(name, func() (caddy.Destructor, error) {
		p := newPool(name)
		p.loop.start(p)
		p.keeping.start(p)
		return p, nil
	})
	if err != nil {
		return nil, err
	}
	return value.(*pool), nil
}

// newPool makes a pool whose control loop does not run yet.
func newPool(name string) *pool {
	p := &pool{name: name, phase: rand.Uint64(), members: make(map[endpointKey]*poolMember)}
	p.outbox = event.NewOutbox(p.logEvent, p.tellCaddy)
	return p
}

// Destruct implements caddy.Destructor.
func (p *pool) Destruct() error {
	p.checker.stop()
	p.loop.stop()
	p.keeping.stop()
	p.outbox.Close()
	return nil
}

// attach adds a handler of the configuration config. An error leaves the pool
// as it was.
func (p *pool) attach(h *poolHandler, config any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.attached, func(g *generation) bool { return g.config == config })
	if i >= 0 {
		for _, other := range p.attached[i].handlers {
			if err := h.terms.agreesWith(other.terms); err != nil {
				return err
			}
		}
	} else {
		i = len(p.attached)
		g := &generation{config: config, serial: int(generations.Add(1)), logger: h.logger, source: h.source}
		g.ctx, g.cancel = context.WithCancel(context.Background())
		p.attached = append(p.attached, g)
	}
	g := p.attached[i]
	g.handlers = append(g.handlers, h)
	p.runBy(g)
	h.generation = g
	for _, t := range h.targets {
		m := p.joinLocked(endpointKey{t.name, t.address})
		m.refs++
		t.state = m.endpointState
	}
	if p.generation.Load() == nil {
		p.generation.Store(g)
	}
	return nil
}

// runBy resolves what a generation runs by: what the first handler says that says
// anything, else the defaults.
func (p *pool) runBy(g *generation) {
	var own *breaker.Config
	var objective *sla.Objective
	longest := time.Duration(0)
	for _, h := range g.handlers {
		own = cmp.Or(own, h.breaker)
		objective = cmp.Or(objective, h.objective)
		longest = max(longest, h.longest)
	}
	cfg := breaker.Defaults(longest)
	if own != nil {
		cfg = own.WithTimeout(longest)
	}
	g.breaker.Store(&cfg)
	g.sla.Store(objective)
}

// detach removes a handler, and the endpoints that no other handler has.
func (p *pool) detach(h *poolHandler) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := h.generation
	if g == nil {
		return
	}
	g.handlers = slices.DeleteFunc(g.handlers, func(other *poolHandler) bool { return other == h })
	if len(g.handlers) > 0 {
		p.runBy(g)
	} else {
		g.cancel()
		p.attached = slices.DeleteFunc(p.attached, func(other *generation) bool { return other == g })
		if p.generation.Load() == g && len(p.attached) > 0 {
			p.generation.Store(p.attached[len(p.attached)-1])
		}
	}
	p.inheritLocked(h)
	for _, t := range h.takeTargets() {
		p.releaseLocked(t.state)
	}
	p.checker.replan()
	p.poke()
}

// goLive makes the pool run by this handler's configuration, once that has started
// or gets its first request: until then a reload may still fail.
func (h *poolHandler) goLive() {
	if h.pool.generation.Load() != h.generation {
		h.takeOver()
	}
}

// takeOver makes the pool go by this handler's configuration, unless it goes by a newer one already.
func (h *poolHandler) takeOver() {
	if h.pool.generation.Load().serial > h.generation.serial {
		return
	}
	h.pool.mu.Lock()
	if h.pool.generation.Load().serial < h.generation.serial {
		h.pool.generation.Store(h.generation)
	}
	h.pool.mu.Unlock()
	h.pool.checker.replan()
	h.pool.poke()
}

// logger is that of the configuration the pool runs by.
func (p *pool) logger() *zap.Logger {
	if g := p.generation.Load(); g != nil {
		return g.logger
	}
	return zap.NewNop()
}

// breakerConfig is what the breakers of this handler's pool run by.
func (h *poolHandler) breakerConfig() *breaker.Config { return h.generation.breaker.Load() }

// breakerConfig is what the pool runs by now; nil if nothing uses it.
func (p *pool) breakerConfig() *breaker.Config {
	if g := p.generation.Load(); g != nil {
		return g.breaker.Load()
	}
	return nil
}

// trialDue asks for the one trial that a pool gets while all its endpoints are
// out.
func (p *pool) trialDue(now time.Time) bool {
	p.trials.Lock()
	defer p.trials.Unlock()
	if now.Before(p.trials.next) && p.trials.next.Sub(now) <= pollAllIn { // else the clock jumped back
		return false
	}
	p.trials.next = now.Add(pollAllIn)
	return true
}

// tick does what is due at now and returns when there will be something to do
// again; zero if only an event can bring that about.
func (p *pool) tick(now time.Time) (due time.Time) {
	p.mu.Lock()
	due, collected := p.tickLocked(now)
	p.mu.Unlock()
	p.emitAll(collected)
	return due
}

// tickLocked also returns the events of what it brought about.
func (p *pool) tickLocked(now time.Time) (due time.Time, collected []event.Event) {
	g := p.generation.Load()
	if g == nil {
		return time.Time{}, nil
	}
	cfg := g.breaker.Load()
	changed := p.loop.takePoke()
	tick := func(s *endpointState) {
		moved, at, news := s.tick(now, cfg)
		collected = append(collected, news...)
		changed = changed || moved
		due = earliest(due, at)
	}
	for _, m := range p.members {
		tick(m.endpointState)
	}
	for _, s := range p.passingLocked() {
		tick(s)
	}
	p.foldLocked(now)
	for _, m := range p.members {
		p.trackLocked(m, now, cfg)
	}
	p.budget.Tick(now)
	opened, collected := p.openSlowLocked(g, now, collected)
	changed = opened || changed
	changed = p.rescoreLocked(g, now) || changed
	collected = p.trendLocked(now, cfg, collected)
	if changed {
		p.rebuildLocked(now)
		p.checker.nudge()
		if e := p.downLocked(g, now); e != nil {
			collected = append(collected, *e)
		}
	}
	p.forgetLocked(now)
	return due, collected
}

// poke tells the control loop that a state has changed.
func (p *pool) poke() { p.loop.poke() }

// turn counts a call, and says where it stands among the pool's calls.
func (p *pool) turn() uint64 { return p.phase + uint64(p.budget.Call()) }

// watch tells the control loop that an attempt with this timeout has begun.
func (p *pool) watch(timeout time.Duration) { p.loop.watch(p, timeout) }

// endOverdue ends the attempts that are to end. It returns how many are in flight,
// and the shortest time after which one of them may have to end.
func (p *pool) endOverdue(now time.Time) (inFlight int, shortest time.Duration) {
	shortest = math.MaxInt64
	var verdicts []verdict
	var collected []event.Event
	looked := false
	p.mu.Lock()
	cfg := p.breakerConfig()
	for _, s := range p.members {
		if cfg != nil && s.busy.Load() > 0 {
			s.mu.Lock()
			before := s.breaker.Generation
			looked = s.watchLocked(now, cfg) || looked
			collected = append(collected, s.newsLocked(before)...)
			s.mu.Unlock()
		}
		inFlight += p.overdue(s.endpointState, now, &verdicts, &shortest)
	}
	p.mu.Unlock()
	p.emitAll(collected)
	if looked {
		p.poke()
	}
	for _, s := range p.leaving.busy() {
		inFlight += p.overdue(s, now, &verdicts, &shortest)
	}
	for _, v := range verdicts {
		v.watched.act(v.why, now)
	}
	return inFlight, shortest
}

// A watched is an attempt as the watcher sees it. Its methods may be called from any
// goroutine.
type watched interface {
	// look tells whether something is to be done about the attempt, and what; open tells
	// whether its endpoint's breaker is. It runs under the endpoint's mutex.
	look(now time.Time, open bool) ending
	// act does it. No lock is held.
	act(why ending, now time.Time)
	// patienceLeft is the shortest time after which something may have to be done.
	patienceLeft() time.Duration
}

// A verdict says what is to be done about an attempt.
type verdict struct {
	watched watched
	why     ending
}

// overdue adds the attempts at an endpoint about which something is to be done, and
// returns how many are in flight. It lowers shortest to the patience of these.
func (p *pool) overdue(s *endpointState, now time.Time, verdicts *[]verdict, shortest *time.Duration) (inFlight int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := s.breaker.IsOpen()
	for f := range s.inFlight.all() {
		a := f.(watched)
		inFlight++
		*shortest = min(*shortest, a.patienceLeft())
		why := a.look(now, open)
		s.paceLocked(f, now)
		if why != notEnded {
			*verdicts = append(*verdicts, verdict{a, why})
		}
	}
	return inFlight
}
