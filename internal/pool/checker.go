package pool

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/probe"
	"github.com/apifailover/caddy-failover/internal/target"
)

// A checker is the goroutine that starts the checks of a pool's endpoints. It runs from
// the first configuration with checks on, and sleeps until a check is due. It spreads
// checks: no two of a pool begin within half of their average distance. With more than 25
// checks a second, waking for each would cost more than the checks: then those that are due
// within a checkSlot begin together, at most twice as many as a slot has on average. An
// endpoint has at most one check under way. Each check has a goroutine, which ends with its
// configuration.
//
// A wake looks at the endpoints whose checks are due or have ended, and at those that are
// not well, but at no others.
type checker struct {
	running atomic.Bool
	stale   atomic.Bool  // the plan must be rebuilt
	moved   atomic.Bool  // any check may be due earlier than planned
	sleeps  atomic.Int64 // until when it sleeps, Unix nanoseconds; 0: until it is woken
	wake    chan struct{}
	ctx     context.Context
	cancel  context.CancelFunc
	done    chan struct{}
	probes  sync.WaitGroup

	over struct { // endpoints whose checks have ended since the latest look
		sync.Mutex
		states []*endpoint.State
	}

	// The goroutine's own.
	plan   map[*endpoint.State]*checked
	agenda agenda
	unwell []*checked    // whose next check may move forward without notice
	gap    time.Duration // shortest time between the beginnings of two checks
	after  time.Time     // no check begins before; with slots, the end of the slot
	begun  int           // checks that began in the slot
}

// checkSlot is how often a pool with many checks wakes to start some.
const checkSlot = 40 * time.Millisecond

// slotted reports whether checks begin in slots. Their average distance is twice the gap.
func (c *checker) slotted() bool { return 2*c.gap < checkSlot }

// mustWait reports whether no check may begin before c.after. A clock that jumps back
// lengthens no wait.
func (c *checker) mustWait(now time.Time) bool {
	wait := c.after.Sub(now)
	if c.slotted() {
		return wait > 0 && wait <= checkSlot && c.begun >= int(checkSlot/max(1, c.gap))
	}
	return wait > 0 && wait <= c.gap
}

func (c *checker) begins(now time.Time) {
	switch wait := c.after.Sub(now); {
	case !c.slotted():
		c.after = now.Add(c.gap)
	case wait <= 0 || wait > checkSlot:
		c.after, c.begun = now.Add(checkSlot), 1
	default:
		c.begun++
	}
}

// checked is an endpoint with checks.
type checked struct {
	state  *endpoint.State
	target *target.Target
	cfg    *endpoint.CheckConfig
	trip   http.RoundTripper
	ctx    context.Context // of the configuration
	probe  *probe.Probe    // for the goroutine of the check under way

	// The checker's own.
	due    time.Time // of the next check
	place  int       // in the agenda, from 1; 0: not there, since a check is under way
	unwell bool      // it is in checker.unwell
}

// Check starts the checks of a handler, if it has any, through the proxy's transport.
func (p *Pool) Check(h *Handler, trip http.RoundTripper) {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	h.probes = trip
	if h.HasChecks {
		p.checker.startLocked(p)
	}
	p.checker.replan()
}

// startLocked starts the goroutine. It needs Pool.Mu.
func (c *checker) startLocked(p *Pool) {
	if c.running.Load() {
		return
	}
	c.wake, c.done = make(chan struct{}, 1), make(chan struct{})
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.running.Store(true)
	go c.run(p)
}

// stop ends the goroutine and all checks.
func (c *checker) stop() {
	if !c.running.Load() {
		return
	}
	c.cancel()
	<-c.done
	c.probes.Wait()
}

// nudge wakes the goroutine.
func (c *checker) nudge() {
	if !c.running.Load() {
		return
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// ended notes that a check has ended. It wakes the goroutine if the endpoint's next check is
// due before it would wake.
func (c *checker) ended(s *endpoint.State, next time.Time) {
	c.over.Lock()
	c.over.states = append(c.over.states, s)
	c.over.Unlock()
	if until := c.sleeps.Load(); until == 0 || next.UnixNano() < until {
		c.nudge()
	}
}

// hasten wakes the goroutine to look at all endpoints: the next check of any of them may be
// due earlier than planned.
func (c *checker) hasten() {
	c.moved.Store(true)
	c.nudge()
}

// replan wakes the goroutine to read the configuration again.
func (c *checker) replan() {
	c.stale.Store(true)
	c.nudge()
}

func (c *checker) run(p *Pool) {
	defer close(c.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	c.stale.Store(true)
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.wake:
		case <-timer.C:
		}
		now := time.Now()
		c.sleeps.Store(0) // a check that ends meanwhile wakes it
		if c.stale.Swap(false) {
			c.planAnew(p, now)
		}
		c.look(now)
		if next := c.startDue(p, now); next.IsZero() {
			timer.Stop()
		} else {
			if slot := now.Add(checkSlot); c.slotted() && next.Before(slot) {
				next = slot
			}
			c.sleeps.Store(next.UnixNano())
			timer.Reset(max(0, next.Sub(now)))
		}
	}
}

// planAnew reads the endpoints to check from the configuration.
func (c *checker) planAnew(p *Pool, now time.Time) {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	list := p.toCheckLocked()
	c.plan = make(map[*endpoint.State]*checked, len(list))
	shortest := time.Duration(0)
	for i := range list {
		check := &list[i]
		c.plan[check.state] = check
		if fast := check.cfg.FastInterval; shortest == 0 || fast < shortest {
			shortest = fast
		}
		first := (float64(i) + rand.Float64()) / float64(len(list))
		check.state.AskChecks(check.cfg, now, time.Duration(first*float64(check.cfg.FastInterval)))
	}
	c.gap = shortest / time.Duration(2*max(1, len(list)))
	for _, m := range p.Members {
		if s := m.State; c.plan[s] == nil {
			s.AskChecks(nil, now, 0)
		}
	}
	c.agenda, c.unwell = nil, nil
	c.moved.Store(true)
	p.Poke()
}

// look updates the agenda: all of it if any check may have moved, else the checks that have
// ended and those of endpoints that are not well.
func (c *checker) look(now time.Time) {
	c.over.Lock()
	over := c.over.states
	c.over.states = nil
	c.over.Unlock()
	if c.moved.Swap(false) {
		for _, check := range c.plan {
			c.lookAt(check, now)
		}
		return
	}
	for _, s := range over {
		if check := c.plan[s]; check != nil {
			c.lookAt(check, now)
		}
	}
	ill := c.unwell
	c.unwell = nil
	for _, check := range ill {
		check.unwell = false
		c.lookAt(check, now)
	}
}

// lookAt updates an endpoint's place in the agenda.
func (c *checker) lookAt(check *checked, now time.Time) {
	due, underway, unwell := check.state.CheckDue(now)
	if unwell && !check.unwell {
		check.unwell = true
		c.unwell = append(c.unwell, check)
	}
	if underway {
		c.agenda.remove(check)
	} else {
		c.agenda.put(check, due)
	}
}

// toCheckLocked returns the endpoints that the running configuration checks, each as its
// first handler sees it. An endpoint's own settings replace the pool's, whichever handler
// has them.
func (p *Pool) toCheckLocked() (plan []checked) {
	g := p.generation.Load()
	if g == nil || !p.liveLocked() {
		return nil
	}
	var checks func(*endpoint.CheckOverride) *endpoint.CheckConfig
	said := false
	for _, h := range g.handlers {
		if checks == nil || h.SaysCheck && !said {
			checks, said = h.Checks, h.SaysCheck
		}
	}
	at := make(map[*endpoint.State]int)
	var own []*endpoint.CheckOverride
	for _, h := range g.handlers {
		if h.probes == nil {
			continue // not ready yet
		}
		for _, t := range h.allTargets() {
			i, ok := at[t.State]
			if !ok {
				i = len(plan)
				at[t.State] = i
				plan = append(plan, checked{state: t.State, target: t, trip: h.probes, ctx: g.ctx})
				own = append(own, nil)
			}
			if own[i] == nil {
				own[i] = t.Health
			}
		}
	}
	kept := plan[:0]
	for i, check := range plan {
		if check.cfg = checks(own[i]); check.cfg != nil {
			check.probe = probe.New(check.ctx, check.cfg, check.trip, check.target)
			kept = append(kept, check)
		}
	}
	return kept
}

// startDue starts the checks that are due, the oldest first, as far as their spread allows.
// It returns when to look again; zero: after an event.
func (c *checker) startDue(p *Pool, now time.Time) (next time.Time) {
	for {
		one, next := c.take(now)
		if one == nil {
			return next
		}
		c.probes.Go(func() { one.check(p) })
	}
}

// take takes the next check to begin now from the agenda; nil: none. Then it returns when to
// look again; zero: after an event.
func (c *checker) take(now time.Time) (one *checked, next time.Time) {
	for len(c.agenda) > 0 {
		one = c.agenda[0]
		switch {
		case now.Before(one.due):
			return nil, one.due
		case c.mustWait(now):
			return nil, c.after
		case one.state.BeginCheck(now, one.cfg.Interval):
			c.begins(now)
			c.agenda.remove(one)
			return one, time.Time{}
		}
		c.lookAt(one, now)
	}
	return nil, time.Time{}
}

// check makes one check and reports its result, which counts unless the configuration or the
// endpoint is gone by then.
func (c *checked) check(p *Pool) {
	result := c.probe.Run(c.state.ChecksGet())
	now := time.Now()
	s := c.state
	p.Mu.Lock()
	g := p.generation.Load()
	var by *breaker.Config
	alone := false
	if c.ctx.Err() == nil && g != nil && p.memberLocked(s) != nil {
		by = g.Breaker.Load()
		alone = !result.Passed && !p.canDoWithout(g, s, "", now)
	}
	next, changed, news := s.EndCheck(now, c.cfg, by, result, alone)
	p.Mu.Unlock()
	p.emitAll(news)
	if changed {
		p.Poke()
	}
	p.checker.ended(s, next)
}
