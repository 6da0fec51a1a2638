package faults

import (
	"context"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/client"
	"github.com/apifailover/caddy-failover/bench/internal/load"
	"github.com/apifailover/caddy-failover/bench/internal/peers"
	"github.com/apifailover/caddy-failover/bench/internal/run"
)

// play plays the script against one peer, with clients that send rate requests per second.
func (s script) play(ctx context.Context, l peers.Launcher, p peers.Peer, rate int, c Course) (Result, error) {
	result := Result{Proxy: p.Name}
	e, err := newEndpoints()
	if err != nil {
		return result, err
	}
	defer e.crash(len(e))
	var addresses []string
	for _, a := range e {
		addresses = append(addresses, a.Address)
	}
	proxy, err := l.Start(ctx, p, client.H1, addresses)
	if err != nil {
		return result, err
	}
	defer proxy.Stop()
	loop := load.NewOpenLoop(proxy.Address, rate, s.clients)
	loop.WarmUp(20) // open connections
	began := time.Now()
	done := make(chan []load.Sample)
	go func() { done <- loop.Run(ctx, began, c.whole()) }()

	run.Sleep(ctx, time.Until(began.Add(c.Before)))
	before := e.attempts()
	s.begin(e)
	run.Sleep(ctx, time.Until(began.Add(c.heal())))
	after, refused := e.attempts(), e[0].Refused.Load()
	if err := s.heal(e); err != nil {
		run.Say("%v", err)
	}
	result.measure(<-done, c)
	result.AtFaulty = after.primary - before.primary
	result.PerCall = float64(after.all-before.all) / (float64(rate) * c.During.Seconds())
	result.RefusedAfter = e[0].Refused.Load() - refused
	for _, a := range e {
		result.Checks += a.Checks.Load()
	}
	return result, nil
}

// counts holds the attempts at the primary and at all endpoints.
type counts struct{ primary, all int64 }

func (e endpoints) attempts() (n counts) {
	n.primary = e[0].Attempts.Load()
	for _, a := range e {
		n.all += a.Attempts.Load()
	}
	return n
}
