package soak

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/actor"
	"github.com/apifailover/caddy-failover/bench/internal/client"
	"github.com/apifailover/caddy-failover/bench/internal/peers"
	"github.com/apifailover/caddy-failover/bench/internal/process"
	"github.com/apifailover/caddy-failover/bench/internal/run"
)

// A trial tests one build of Caddy.
type trial struct {
	*Result
	rate     int // requests per second
	launcher peers.Launcher

	endpoints []*actor.Actor
	ports     ports
	proxy     *peers.Running
	admin     *adminView
	reloads   reloads
	traffic   *traffic

	mu sync.Mutex // guards Problems
}

// endpointNames are the names of the endpoints. The last one never fails, so that every
// call can succeed.
var endpointNames = []string{"a", "b", "c"}

func newTrial(build string, rate int) *trial {
	return &trial{Result: &Result{Build: build, Faults: make(map[string]int)}, rate: rate}
}

// problem records a problem, up to 50 of them.
func (t *trial) problem(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.Problems) < 50 {
		t.Problems = append(t.Problems, fmt.Sprintf(format, args...))
	}
}

// run starts everything, lets it run for the given time, and judges the results. It returns
// an error if it could not do so.
func (t *trial) run(ctx context.Context, lasting time.Duration) error {
	for _, name := range endpointNames {
		a, err := actor.New(name)
		if err != nil {
			return err
		}
		defer a.Crash()
		t.endpoints = append(t.endpoints, a)
	}
	if err := t.start(ctx); err != nil {
		return err
	}
	defer t.proxy.Stop()
	t.traffic = newTraffic(t)
	t.traffic.sendEachKind() // before any measurement
	var err error
	if t.Growth.GoroutinesBefore, t.Growth.HeapBefore, err = t.admin.size(); err != nil {
		return err
	}

	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { t.traffic.run(quit) })
	wg.Go(func() { t.playFaults(quit) })
	wg.Go(func() { t.reload(quit) })
	var sizes []size
	wg.Go(func() { sizes = t.watch(quit, lasting) })
	run.Sleep(ctx, lasting)
	close(quit)
	wg.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, a := range t.endpoints {
		if err := a.Heal(); err != nil {
			t.problem("%v", err)
		}
	}
	t.awaitRecovery()
	t.judge(sizes)
	return nil
}

// start starts Caddy.
func (t *trial) start(ctx context.Context) error {
	for _, port := range []*int{&t.ports.admin, &t.ports.https} {
		var err error
		if *port, err = process.FreePort(); err != nil {
			return err
		}
	}
	p := peers.Peer{Name: "soak " + t.Build, Program: peers.Caddy, Config: func(at peers.Listen, _ []string) string {
		t.ports.http = at.Port
		return t.config(0)
	}}
	var err error
	t.proxy, err = t.launcher.Start(ctx, p, client.H1, nil)
	t.admin = newAdminView(fmt.Sprintf("127.0.0.1:%d", t.ports.admin))
	return err
}

// awaitRecovery sends small requests until every breaker is closed. A breaker that is not
// closed after 30 s is a problem.
func (t *trial) awaitRecovery() {
	deadline := time.Now().Add(30 * time.Second)
	for {
		t.traffic.burst(100)
		pool, err := t.admin.pool()
		if err != nil {
			t.problem("reading the pool: %v", err)
			return
		}
		stuck := ""
		for _, e := range pool.Endpoints {
			if e.State != "closed" || e.Share < 1 {
				stuck += fmt.Sprintf(" %s is %s with share %.2f", e.Name, e.State, e.Share)
			}
		}
		if stuck == "" {
			return
		}
		if time.Now().After(deadline) {
			t.problem("30 s after the last fault:%s", stuck)
			return
		}
	}
}
