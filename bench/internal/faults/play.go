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
	result := Result{Proxy: p.Name, Cannot: p.Cannot, Variant: p.Variant}
	if p.Cannot != "" {
		return result, nil
	}
	around, err := newScene(s.set)
	if err != nil {
		return result, err
	}
	defer around.close()
	l.Engine = around.engineAddress()
	proxy, err := l.Start(ctx, p, client.H1, around.addresses())
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
	before := around.attempts()
	s.begin(around)
	run.Sleep(ctx, time.Until(began.Add(c.heal())))
	after := around.attempts()
	if err := s.heal(around); err != nil {
		run.Say("%v", err)
	}
	result.measure(<-done, c)
	result.AtFaulty = after.primary - before.primary
	result.RefusedDuring = after.refused - before.refused
	result.PerCall = float64(after.all-before.all) / (float64(rate) * c.During.Seconds())
	result.RefusedAfter = around.attempts().refused - after.refused
	result.Checks = around.checks()
	return result, nil
}
