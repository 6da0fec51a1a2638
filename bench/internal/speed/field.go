package speed

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/load"
	"github.com/apifailover/caddy-failover/bench/internal/peers"
	"github.com/apifailover/caddy-failover/bench/internal/process"
	"github.com/apifailover/caddy-failover/bench/internal/stats"
)

// A field is the peers of one life under load, in order.
type field []*contestant

// A contestant is a running peer under load.
type contestant struct {
	*peers.Running
	loop  *load.ClosedLoop
	pids  []int
	life  int
	turns []turn
	base  []turn // the first peer's turns at the same times; nil if turns were separate
	peak  int64  // peak resident set in bytes
}

// start starts peers in front of endpoints. stop ends them.
func (p plan) start(ctx context.Context, s Scenario, list []peers.Peer, endpoints []string, life int) (field, error) {
	f := make(field, len(list))
	for _, i := range rand.Perm(len(list)) {
		r, err := p.launcher.Start(ctx, list[i], s.Protocol, endpoints)
		if err != nil {
			f.stop()
			return nil, err
		}
		f[i] = &contestant{Running: r, life: life}
		if f[i].loop, err = load.NewClosedLoop(r.Address, s.Protocol, r.Roots, r.Ask, s.Size, p.workers); err != nil {
			f.stop()
			return nil, fmt.Errorf("%s: %w", r.Name, err)
		}
	}
	return f, nil
}

// stop ends the started peers.
func (f field) stop() {
	for _, c := range f {
		if c == nil {
			continue
		}
		if c.loop != nil {
			c.loop.Close()
		}
		c.Stop()
	}
}

// run warms up, runs rounds, and measures the memory of each peer. In the first life it
// determines the number of requests in a turn and stores it in the table.
func (f field) run(ctx context.Context, rounds int, table *Table, length time.Duration) error {
	if err := f.warmUp(ctx, table, length); err != nil {
		return err
	}
	for range rounds {
		for _, i := range rand.Perm(len(f)) {
			var err error
			if !table.Together {
				err = f[i].takeTurn(ctx, table.Requests)
			} else if i > 0 {
				err = f[0].takeTurnBeside(ctx, f[i], table.Requests)
			}
			if err != nil {
				return err
			}
		}
	}
	for _, c := range f {
		_, c.peak = process.Memory(c.pids)
	}
	return nil
}

// leastTurn is the smallest number of requests in a turn.
const leastTurn = 50

// warmUp sends requests to all peers. If the table has no number of requests in a turn,
// warmUp sets it so that a turn of the first peer takes the given length.
func (f field) warmUp(ctx context.Context, table *Table, length time.Duration) error {
	n := 200
	if table.Scenario.Size > 64<<10 {
		n = leastTurn
	}
	n = max(n, table.Requests/2)
	for i, c := range f {
		for range 3 {
			_, elapsed, err := c.loop.Send(ctx, n)
			if err != nil {
				return fmt.Errorf("%s: %w\n%s", c.Name, err, c.Tail())
			}
			if i == 0 && table.Requests == 0 {
				n = max(leastTurn, int(float64(n)*length.Seconds()/elapsed.Seconds()))
			}
		}
		c.pids = c.Members() // all its workers are running by now
	}
	if table.Requests == 0 {
		table.Requests = n
	}
	return nil
}

// warmPart divides the number of requests in a turn. Before a turn, that many requests are
// sent without being counted, to warm the peer's caches. The caches cool down during the
// turns of others.
const warmPart = 3

// takeTurn sends requests and records their cost.
func (c *contestant) takeTurn(ctx context.Context, requests int) error {
	if _, _, err := c.loop.Send(ctx, requests/warmPart); err != nil {
		return fmt.Errorf("%s: %w", c.Name, err)
	}
	before := process.CPU(c.pids)
	took, elapsed, err := c.loop.Send(ctx, requests)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Name, err)
	}
	used := process.CPU(c.pids) - before
	c.turns = append(c.turns, turn{
		cpu:    float64(used.Nanoseconds()) / 1e3 / float64(requests),
		perSec: float64(requests) / elapsed.Seconds(),
		p50:    stats.Milliseconds(stats.Quantile(took, 0.5)),
		p99:    stats.Milliseconds(stats.Quantile(took, 0.99)),
		life:   c.life,
	})
	return nil
}

// takeTurnBeside runs the turns of two peers at the same time. c is the reference for
// other.
func (c *contestant) takeTurnBeside(ctx context.Context, other *contestant, requests int) error {
	done := make(chan error)
	go func() { done <- c.takeTurn(ctx, requests) }()
	if err := errors.Join(other.takeTurn(ctx, requests), <-done); err != nil {
		return err
	}
	other.base = append(other.base, c.turns[len(c.turns)-1])
	return nil
}
