package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/apifailover/caddy-failover/bench/internal/actor"
	"github.com/apifailover/caddy-failover/bench/internal/peers"
	"github.com/apifailover/caddy-failover/bench/internal/relay"
	"github.com/apifailover/caddy-failover/bench/internal/run"
)

// A trial tests one build of Caddy.
type trial struct {
	*Result
	rate     int // requests per second, over all instances
	launcher peers.Launcher

	endpoints  []*actor.Actor // of the mixed pool
	alone      *actor.Actor   // of the lonely pool
	engine     *miniredis.Miniredis
	engineLine *relay.Relay // between the instances and the engine
	instances  []*instance
	traffic    *traffic

	mu sync.Mutex // guards the result while the trial runs, and what changes an instance's now
}

// endpointNames are the names of the endpoints of the mixed pool. The last one never fails, so that
// every call can succeed.
var endpointNames = []string{"a", "b", "c"}

func newTrial(build string, rate int) *trial {
	return &trial{Result: &Result{Build: build, Faults: make(map[string]int), Calls: Calls{Kinds: make(map[string]int)}}, rate: rate}
}

// problem records a problem, up to 50 of them.
func (t *trial) problem(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.Problems) < 50 {
		t.Problems = append(t.Problems, fmt.Sprintf(format, args...))
	}
}

// enter begins a request at one of the instances, at random. It returns nil if none takes any.
// The caller calls Done of the life's calls.
func (t *trial) enter() *life {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range rand.Perm(len(t.instances)) {
		if l := t.instances[n].now.Load(); l != nil {
			l.calls.Add(1)
			return l
		}
	}
	return nil
}

// run starts everything, lets it run for the given time, and judges the results. It returns
// an error if it could not do so.
func (t *trial) run(ctx context.Context, lasting time.Duration) error {
	defer t.end()
	if err := t.start(ctx, lasting); err != nil {
		return err
	}
	t.traffic = newTraffic(t)
	t.traffic.sendEachKind() // before any measurement
	first := t.instances[0].now.Load()
	var err error
	if t.Growth.GoroutinesBefore, t.Growth.HeapBefore, err = first.admin.size(); err != nil {
		return err
	}

	quit := make(chan struct{})
	var wg, killing sync.WaitGroup
	wg.Go(func() { t.traffic.run(quit) })
	wg.Go(func() { t.traffic.stalls.watch(quit) })
	wg.Go(func() { t.playFaults(quit) })
	wg.Go(func() { t.playLonelyFaults(quit) })
	wg.Go(func() { t.loseEngine(quit) })
	wg.Go(func() { t.drain(quit) })
	for _, i := range t.instances {
		wg.Go(func() { i.reload(quit) })
	}
	killing.Go(func() { t.kill(ctx, quit) })
	run.Sleep(ctx, lasting)
	close(quit)
	killing.Wait()
	wg.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, a := range slices.Concat(t.endpoints, []*actor.Actor{t.alone}) {
		if err := a.Heal(); err != nil {
			t.problem("%v", err)
		}
	}
	t.awaitRecovery()
	t.awaitFleet()
	t.judge()
	return nil
}

// start starts endpoints, the engine and the instances.
func (t *trial) start(ctx context.Context, lasting time.Duration) (err error) {
	for _, name := range endpointNames {
		a, err := actor.New(name)
		if err != nil {
			return err
		}
		t.endpoints = append(t.endpoints, a)
	}
	if t.alone, err = actor.New("d"); err != nil {
		return err
	}
	if t.engine, err = miniredis.Run(); err != nil {
		return err
	}
	if t.engineLine, err = relay.New(t.engine.Addr()); err != nil {
		return err
	}
	for _, name := range instanceNames {
		i, err := t.newInstance(ctx, name)
		if err != nil {
			return err
		}
		t.instances = append(t.instances, i)
		if err := i.begin(lasting); err != nil {
			return err
		}
	}
	return nil
}

// end ends everything that was started.
func (t *trial) end() {
	for _, i := range t.instances {
		i.proxy.Stop()
	}
	if t.engineLine != nil {
		t.engineLine.Close()
	}
	if t.engine != nil {
		t.engine.Close()
	}
	for _, a := range append(t.endpoints, t.alone) {
		if a != nil {
			a.Crash()
		}
	}
}

// recovers is how long breakers may take to close after the last fault, for each model and each
// instance. Then the traffic is small for each.
const recovers = time.Minute

// awaitRecovery sends small requests until every breaker of every instance is closed. A breaker
// that does not close in time is a problem.
func (t *trial) awaitRecovery() {
	deadline := time.Now().Add(recovers)
	for {
		t.traffic.burst(100)
		stuck := ""
		for _, i := range t.instances {
			for _, name := range pools {
				pool, err := i.now.Load().admin.pool(name)
				if err != nil {
					i.problem("reading the pool: %v", err)
					return
				}
				for _, e := range pool.Endpoints {
					if unwell := e.unwell(); unwell != "" {
						stuck += " " + i.name + ":" + unwell
					}
				}
			}
		}
		if stuck == "" {
			return
		}
		if time.Now().After(deadline) {
			t.problem("%v after the last fault:%s", recovers, stuck)
			return
		}
	}
}

// awaitFleet waits until every instance is connected and knows all others, each once.
func (t *trial) awaitFleet() {
	deadline := time.Now().Add(recovers)
	for _, i := range t.instances {
		for {
			view, err := i.now.Load().admin.fleet()
			var names []string
			for _, other := range view.Instances {
				names = append(names, other.Name)
			}
			slices.Sort(names)
			if err == nil && view.Connected && slices.Equal(names, slices.Sorted(slices.Values(instanceNames))) {
				break
			}
			if time.Now().After(deadline) {
				i.problem("%v after the last kill: connected is %t, it knows the instances %v, %v", recovers, view.Connected, names, err)
				break
			}
			time.Sleep(viewEvery)
		}
	}
}
