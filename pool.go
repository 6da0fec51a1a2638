package failover

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/budget"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
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
	states   map[endpointKey]*endpointState
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
	source   *EventSource
	policies []*Policy // guarded by pool.mu
	breaker  atomic.Pointer[breaker.Config]
	ctx      context.Context // ends with the last of the policies
	cancel   context.CancelFunc
	sla      atomic.Pointer[SLA] // nil: none
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
	p := &pool{name: name, phase: rand.Uint64(), states: make(map[endpointKey]*endpointState)}
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
func (p *pool) attach(policy *Policy, config any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.attached, func(g *generation) bool { return g.config == config })
	if i >= 0 {
		for _, other := range p.attached[i].policies {
			if err := policy.agreesWith(other); err != nil {
				return err
			}
		}
	} else {
		i = len(p.attached)
		g := &generation{config: config, serial: int(generations.Add(1)), logger: policy.logger, source: policy.source}
		g.ctx, g.cancel = context.WithCancel(context.Background())
		p.attached = append(p.attached, g)
	}
	g := p.attached[i]
	g.policies = append(g.policies, policy)
	p.runBy(g)
	policy.generation = g
	for _, t := range policy.targets {
		t.state = p.stateLocked(endpointKey{t.name, t.address})
		t.state.refs++
	}
	if p.generation.Load() == nil {
		p.generation.Store(g)
	}
	return nil
}

// runBy resolves what a generation runs by: the block of the handler that has
// one, else the defaults.
func (p *pool) runBy(g *generation) {
	var block *Breaker
	var objective *SLA
	longest := time.Duration(0)
	for _, policy := range g.policies {
		block = cmp.Or(block, policy.Breaker)
		objective = cmp.Or(objective, policy.SLA)
		longest = max(longest, policy.longestTimeout())
	}
	g.breaker.Store(block.config(longest))
	g.sla.Store(objective)
}

// agreesWith tells whether two handlers of one configuration can share a pool.
func (p *Policy) agreesWith(other *Policy) error {
	if p.Breaker != nil && other.Breaker != nil && !reflect.DeepEqual(p.Breaker, other.Breaker) {
		return fmt.Errorf("pool %q: the handlers of %s and %s give it different breakers; "+
			"make them equal, give one only, or name the pools apart", p.Name, p.where(), other.where())
	}
	if p.Health != nil && other.Health != nil && !reflect.DeepEqual(p.Health, other.Health) {
		return fmt.Errorf("pool %q: the handlers of %s and %s give it different health checks; "+
			"make them equal, give one only, or name the pools apart", p.Name, p.where(), other.where())
	}
	if p.SLA != nil && other.SLA != nil && p.SLA.objective() != other.SLA.objective() {
		return fmt.Errorf("pool %q: the handlers of %s and %s give it different SLAs; "+
			"make them equal, give one only, or name the pools apart", p.Name, p.where(), other.where())
	}
	for _, mine := range p.Endpoints {
		for _, theirs := range other.Endpoints {
			if mine.Name == theirs.Name && mine.Upstream == theirs.Upstream &&
				mine.Health != nil && theirs.Health != nil && *mine.Health != *theirs.Health {
				return fmt.Errorf("pool %q: the handlers of %s and %s give endpoint %q different health checks",
					p.Name, p.where(), other.where(), mine.Name)
			}
			if mine.Name == theirs.Name && mine.Upstream == theirs.Upstream &&
				mine.URL != "" && theirs.URL != "" && mine.URL != theirs.URL {
				return fmt.Errorf("pool %q: the handlers of %s and %s give endpoint %q different URLs",
					p.Name, p.where(), other.where(), mine.Name)
			}
		}
	}
	return nil
}

// stateLocked finds the state of an endpoint, or makes it.
func (p *pool) stateLocked(key endpointKey) *endpointState {
	s := p.states[key]
	if s == nil {
		s = &endpointState{endpointKey: key, owner: p, series: p.history.Endpoint(key.name)}
		p.states[key] = s
	}
	return s
}

// detach removes a handler, and the endpoints that no other handler has.
func (p *pool) detach(policy *Policy) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := policy.generation
	if g == nil {
		return
	}
	g.policies = slices.DeleteFunc(g.policies, func(other *Policy) bool { return other == policy })
	if len(g.policies) > 0 {
		p.runBy(g)
	} else {
		g.cancel()
		p.attached = slices.DeleteFunc(p.attached, func(other *generation) bool { return other == g })
		if p.generation.Load() == g && len(p.attached) > 0 {
			p.generation.Store(p.attached[len(p.attached)-1])
		}
	}
	p.inheritLocked(policy)
	for _, t := range policy.takeTargets() {
		t.state.refs--
		p.dropLocked(t.state)
	}
	p.checker.replan()
	p.poke()
}

// dropLocked forgets an endpoint that nobody uses.
func (p *pool) dropLocked(s *endpointState) {
	if s.refs == 0 && p.states[s.endpointKey] == s {
		s.forgetOrders()
		p.foldStateLocked(s, time.Now())
		delete(p.states, s.endpointKey)
		p.staleRoutes = true
		p.checker.replan()
		p.leaving.take(s)
	}
}

// goLive makes the pool run by this policy's configuration, once that has started
// or gets its first request: until then a reload may still fail.
func (p *Policy) goLive() {
	if p.pool.generation.Load() != p.generation {
		p.takeOver()
	}
}

// takeOver makes the pool go by this policy, unless it goes by a newer one already.
func (p *Policy) takeOver() {
	if p.pool.generation.Load().serial > p.generation.serial {
		return
	}
	p.pool.mu.Lock()
	if p.pool.generation.Load().serial < p.generation.serial {
		p.pool.generation.Store(p.generation)
	}
	p.pool.mu.Unlock()
	p.pool.checker.replan()
	p.pool.poke()
}

// logger is that of the configuration the pool runs by.
func (p *pool) logger() *zap.Logger {
	if g := p.generation.Load(); g != nil {
		return g.logger
	}
	return zap.NewNop()
}

// breakerConfig is what the breakers of this policy's pool run by.
func (p *Policy) breakerConfig() *breaker.Config { return p.generation.breaker.Load() }

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
		moved, at, e := s.tick(now, cfg)
		if e != nil {
			collected = append(collected, *e)
		}
		changed = changed || moved
		due = earliest(due, at)
	}
	for _, s := range p.states {
		tick(s)
	}
	for _, s := range p.passingLocked() {
		tick(s)
	}
	p.foldLocked(now)
	for _, s := range p.states {
		p.trackLocked(s, now, cfg)
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
	for _, s := range p.states {
		if cfg != nil && s.busy.Load() > 0 {
			s.mu.Lock()
			before := s.breaker.Generation
			looked = s.watchLocked(now, cfg) || looked
			if e := s.transitionLocked(before); e != nil {
				collected = append(collected, *e)
			}
			s.mu.Unlock()
		}
		inFlight += p.overdue(s, now, &verdicts, &shortest)
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
		switch v.why {
		case neverBegan:
			v.attempt.settle(now, outcome.Cancelled, true)
			v.attempt.call.record(v.attempt, outcome.Cancelled)
			if body := v.attempt.call.body; body != nil {
				body.finish()
			}
		case endedByRescue:
			v.attempt.rescue(now)
		case mayBeLost:
			v.attempt.sent.lookForLoss()
		case hedgeStarts:
			go v.attempt.hedge.race.start(now)
		default:
			v.attempt.expire(v.why)
			if v.why == endedByClient && v.attempt.is(holding) {
				v.attempt.settle(now, outcome.Cancelled, true) // nobody may be reading it
				v.attempt.call.record(v.attempt, outcome.Cancelled)
			}
		}
	}
	return inFlight, shortest
}

// A verdict says that an attempt is to end.
type verdict struct {
	attempt *attempt
	why     ending
}

// overdue adds the endpoint's attempts that are to end, and returns how many
// are in flight. It lowers shortest to the patience of these.
func (p *pool) overdue(s *endpointState, now time.Time, verdicts *[]verdict, shortest *time.Duration) (inFlight int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := s.breaker.IsOpen()
	for f := range s.inFlight.all() {
		a := f.(*attempt)
		inFlight++
		*shortest = min(*shortest, a.patienceLeft())
		why := a.overdue(now)
		if why == notEnded && open && a.waitsInVain(now) {
			why = endedByRescue
		}
		if why == notEnded && a.hedgeDue(now) {
			why = hedgeStarts
		}
		if why == notEnded && a.mayBeLost(now) {
			why = mayBeLost
		}
		s.paceLocked(a, now)
		if why != notEnded {
			*verdicts = append(*verdicts, verdict{a, why})
		}
	}
	return inFlight
}
