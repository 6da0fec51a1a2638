package call

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	told "github.com/apifailover/caddy-failover/internal/fleet"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/pool"
)

// A fleet is many proxies in front of the same APIs, under virtual time: the
// real breakers, budgets, scores and tables of each instance, and APIs with a
// finite capacity. Nothing waits, so a minute of 1,000 instances takes seconds.
type fleet struct {
	now       time.Duration
	queue     eventQueue
	instances []*instance
	apis      []*simulatedAPI
	request   *http.Request
	slowStart time.Duration // above 0: instead of progressive recovery
	record    *fleetRecord
	sharing   *sharing         // nil: they tell each other nothing
	checks    *simulatedChecks // nil: none
}

var fleetEpoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func (f *fleet) clock() time.Time { return fleetEpoch.Add(f.now) }

// A simulatedAPI answers what its capacity allows and refuses the rest at once.
type simulatedAPI struct {
	capacity func(at time.Duration) float64 // calls a second; 0: it is down
	latency  func(at time.Duration) time.Duration
	failing  func(at time.Duration) float64 // part of the calls; nil: none
	refuses  bool                           // while it is down it refuses calls, instead of connections

	tokens float64
	last   time.Duration
}

// burst is how much of a second's capacity may come at once.
const burst = 0.25

// answer returns the outcome of an attempt that begins at a time.
func (a *simulatedAPI) answer(at time.Duration) (outcome.Outcome, time.Duration) {
	capacity := a.capacity(at)
	if capacity <= 0 {
		a.tokens, a.last = 0, at
		if a.refuses {
			return outcome.FailedStatus, 2 * time.Millisecond
		}
		return outcome.FailedDial, time.Millisecond
	}
	a.tokens = min(capacity*burst, a.tokens+capacity*(at-a.last).Seconds())
	a.last = at
	if a.tokens < 1 {
		return outcome.FailedStatus, 2 * time.Millisecond
	}
	a.tokens--
	// a fixed part and an exponential tail
	took := a.latency(at)
	took = took*8/10 + time.Duration(float64(took)*0.2*rand.ExpFloat64())
	if a.failing != nil && rand.Float64() < a.failing(at) {
		return outcome.FailedStatus, took
	}
	return outcome.Success, took
}

// An instance is one proxy of the fleet.
type instance struct {
	policy *Handler
	rate   float64 // calls a second
	due    time.Duration
	closed []time.Duration // when each endpoint's breaker closed last, for slow starts
	open   []bool
}

// newFleet makes n instances that get rate calls a second each. Endpoint i has
// the priority of tiers[i].
func newFleet(n int, rate float64, apis []*simulatedAPI, tiers []int, cfg breaker.Config, retry RetryRules) (*fleet, error) {
	f := &fleet{apis: apis}
	var err error
	if f.request, err = http.NewRequest(http.MethodGet, "http://api.test/", nil); err != nil {
		return nil, err
	}
	for i := range n {
		p, err := bareHandler(tiers, cfg, retry, f.clock())
		if err != nil {
			return nil, err
		}
		in := &instance{policy: p, rate: rate, closed: make([]time.Duration, len(apis)), open: make([]bool, len(apis))}
		f.instances = append(f.instances, in)
		f.queue.push(simulated{at: exponential(rate), instance: in})
		// control loops do not beat in time
		f.tickAt(in, time.Duration(float64(pool.TickEvery)*float64(i)/float64(n)))
	}
	return f, nil
}

const bareTimeout = time.Second

func exponential(rate float64) time.Duration {
	return time.Duration(rand.ExpFloat64() / rate * float64(time.Second))
}

// run lets the fleet work until a time.
func (f *fleet) run(until time.Duration) {
	for len(f.queue) > 0 && f.queue[0].at <= until {
		e := f.queue.pop()
		f.now = e.at
		switch {
		case e.fact != nil:
			f.tell(e.instance, e.fact)
		case e.attempt != nil:
			f.ended(e.instance, e.attempt, e.outcome)
		case e.tick:
			if e.at == e.instance.due {
				f.tick(e.instance)
			}
		default:
			f.arrived(e.instance)
			f.queue.push(simulated{at: f.now + exponential(e.instance.rate), instance: e.instance})
		}
	}
	f.now = until
}

func (f *fleet) tickAt(in *instance, at time.Duration) {
	in.due = at
	f.queue.push(simulated{at: at, instance: in, tick: true})
}

// tick runs an instance's control loop once.
func (f *fleet) tick(in *instance) {
	now := f.clock()
	if f.checks != nil {
		f.checks.tick(in, f.now, now)
	}
	next := now.Add(pool.TickEvery)
	if due := in.policy.Pool.Tick(now); !due.IsZero() && due.Before(next) {
		next = later(due, now.Add(time.Millisecond))
	}
	if f.slowStart > 0 {
		f.ramp(in)
	}
	f.tickAt(in, next.Sub(fleetEpoch))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// ramp raises the traffic of returned endpoints by time alone.
func (f *fleet) ramp(in *instance) {
	p := in.policy
	cfg, now := p.BreakerConfig(), f.clock()
	available := make([]float64, len(p.Targets))
	for i, t := range p.Targets {
		state := t.State.Stands(now, cfg).State
		if in.open[i] && state == breaker.Closed {
			in.closed[i] = f.now
		}
		in.open[i] = state != breaker.Closed
		available[i] = t.State.For("").Available(now, cfg)
		if in.closed[i] > 0 {
			available[i] *= min(1, max(0.01, float64(f.now-in.closed[i])/float64(f.slowStart)))
		}
	}
	built := pool.NewRoutes(p.Targets, available, nil, p.Overflow)
	built.Trials = p.Table.Load().Trials
	p.Table.Store(built)
}

// sharing is the engine of a fleet: facts reach the others after factDelay. It keeps what a Book
// of each instance would have.
type sharing struct {
	fleet   *fleet
	open    map[string]*opinions
	told    int   // facts
	seconds []int // facts told in each second
}

const factDelay = 2 * time.Millisecond

// opinions are what the breakers of all instances came to, by state.
type opinions struct {
	states map[*instance]string
	counts map[string]int
}

func (o *opinions) say(in *instance, fact *told.Fact) {
	o.counts[o.states[in]]--
	o.states[in] = fact.State
	if fact.Left == 0 {
		o.states[in] = told.Closed
	}
	o.counts[o.states[in]]++
}

// of returns how many but one node's are in a state.
func (o *opinions) of(n *simulatedNode, state string) int {
	if o == nil {
		return 0
	}
	if o.states[n.instance] == state {
		return o.counts[state] - 1
	}
	return o.counts[state]
}

// share makes the instances tell each other what they learn.
func (f *fleet) share() {
	f.sharing = &sharing{fleet: f, open: make(map[string]*opinions)}
	for i, in := range f.instances {
		in.policy.Pool.Fleet = &simulatedNode{f.sharing, in, fmt.Sprint("proxy ", i)}
	}
}

// tell passes a fact to all instances but the one that says it.
func (f *fleet) tell(from *instance, fact *told.Fact) {
	for _, in := range f.instances {
		if in != from {
			in.policy.Pool.Hear(fact, true, f.clock())
			if in.policy.Pool.Loop.Poked.Load() {
				f.tick(in)
			}
		}
	}
}

// simulatedNode is an instance's part in the fleet.
type simulatedNode struct {
	*sharing
	instance *instance
	name     string
}

func (n *simulatedNode) ID(_, base, _ string) string                      { return base }
func (n *simulatedNode) Instance() string                                 { return n.name }
func (n *simulatedNode) NextVersion(string, string, time.Time) uint64     { return 1 }
func (n *simulatedNode) About(string, time.Time) []told.Fact              { return nil }
func (n *simulatedNode) AboutScope(string, string, time.Time) []told.Fact { return nil }
func (n *simulatedNode) OpenScopes(string, time.Time) []string            { return nil }
func (n *simulatedNode) Demands(string, time.Time) []told.Fact            { return nil }
func (n *simulatedNode) Others(time.Time) int                             { return len(n.fleet.instances) - 1 }

// Opinion says that all instances have calls.
func (n *simulatedNode) Opinion(id, _ string, _ time.Time) told.Opinion {
	open, fails := n.open[id].of(n, told.Opened), n.open[id].of(n, told.Failing)
	return told.Opinion{Open: open, Fails: fails, Active: len(n.fleet.instances) - 1, Others: len(n.fleet.instances) - 1, Trying: open}
}

func (n *simulatedNode) Tell(fact told.Fact, _ time.Time) {
	fact.Instance = n.name
	if fact.Kind == told.Breaker {
		if n.open[fact.Endpoint] == nil {
			n.open[fact.Endpoint] = &opinions{states: make(map[*instance]string), counts: make(map[string]int)}
		}
		n.open[fact.Endpoint].say(n.instance, &fact)
	}
	n.told++
	for len(n.seconds) <= int(n.fleet.now/time.Second) {
		n.seconds = append(n.seconds, 0)
	}
	n.seconds[n.fleet.now/time.Second]++
	n.fleet.queue.push(simulated{at: n.fleet.now + factDelay, instance: n.instance, fact: &fact})
}

// arrived begins a call, as Select does.
func (f *fleet) arrived(in *instance) {
	p, now := in.policy, f.clock()
	c := &Call{Handler: p, Request: f.request}
	t := p.Table.Load()
	f.record.call(f.now)
	a := p.choose(c, t, now)
	if a == nil {
		if a = p.lastChance(c, t, now); a == nil {
			f.record.failed(f.now)
			return
		}
	}
	c.Attempts++
	f.dispatch(in, a)
}

// dispatch makes an attempt.
func (f *fleet) dispatch(in *instance, a *Attempt) {
	i := 0
	for in.policy.Targets[i] != a.Target {
		i++
	}
	a.Begin(context.Background(), 0)
	f.record.attempt(f.now, i)
	o, took := f.apis[i].answer(f.now)
	if o != outcome.Success && i < f.record.watch {
		f.record.inVain++
	}
	if took > a.Timeout {
		o, took = outcome.FailedTimeout, a.Timeout
	}
	f.queue.push(simulated{at: f.now + took, instance: in, attempt: a, outcome: o})
}

// ended settles an attempt and goes on with its call, as RoundTrip does.
func (f *fleet) ended(in *instance, a *Attempt, o outcome.Outcome) {
	now, p := f.clock(), in.policy
	if o == outcome.Success || o == outcome.FailedStatus {
		a.Answered(now)
	}
	if o == outcome.Success && a.Watchful {
		a.Target.State.BeganAnswer(a, now, p.BreakerConfig())
	}
	a.Settle(now, o, true)
	if o != outcome.Success {
		if next := a.Call.Plan(now, a, o); next != nil {
			a.Call.Attempts++
			f.dispatch(in, next)
		} else {
			f.record.failed(f.now)
		}
	}
	if p.Pool.Loop.Poked.Load() {
		f.tick(in)
	}
}

// A simulated event: a call arrives, an attempt ends, or a control loop is due.
type simulated struct {
	at       time.Duration
	instance *instance
	attempt  *Attempt
	outcome  outcome.Outcome
	tick     bool
	fact     *told.Fact // of the instance, for all others
}

// eventQueue is a binary heap by time.
type eventQueue []simulated

func (q *eventQueue) push(e simulated) {
	*q = append(*q, e)
	s := *q
	for i := len(s) - 1; i > 0; {
		parent := (i - 1) / 2
		if s[parent].at <= s[i].at {
			break
		}
		s[parent], s[i] = s[i], s[parent]
		i = parent
	}
}

func (q *eventQueue) pop() simulated {
	s := *q
	first, last := s[0], len(s)-1
	s[0], s[last] = s[last], simulated{}
	s = s[:last]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if s[child].at < s[least].at {
				least = child
			}
		}
		if least == i {
			break
		}
		s[i], s[least] = s[least], s[i]
		i = least
	}
	*q = s
	return first
}
