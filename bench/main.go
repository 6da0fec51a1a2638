// Command bench compares the failover plugin with other proxies and with variants of
// itself. It uses real processes on loopback and a simulation.
//
//	go run . faults    failures that clients see while endpoints fail
//	go run . speed     CPU, latency, throughput and memory with healthy endpoints
//	go run . llm       the sixteen faults of LLM APIs, and what gateways cost
//	go run . micro     Go benchmarks of Select and of circuit breakers
//	go run . soak      mixed traffic, random faults and reloads; all counts must agree
//	go run . fleet     1,000 proxies in virtual time
//	go run . report    docs/benchmarks.md and its charts from all results
//
// Results go to out/. Each command ends by itself; with -short it takes about two minutes.
// Linux only: it reads /proc.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/apifailover/caddy-failover/bench/internal/faults"
	"github.com/apifailover/caddy-failover/bench/internal/fleet"
	"github.com/apifailover/caddy-failover/bench/internal/llm"
	"github.com/apifailover/caddy-failover/bench/internal/micro"
	"github.com/apifailover/caddy-failover/bench/internal/report"
	"github.com/apifailover/caddy-failover/bench/internal/run"
	"github.com/apifailover/caddy-failover/bench/internal/soak"
	"github.com/apifailover/caddy-failover/bench/internal/speed"
)

var commands = map[string]func(context.Context, *run.Run, []string) error{
	"faults": faults.Command,
	"fleet":  fleet.Command,
	"llm":    llm.Command,
	"micro":  micro.Command,
	"report": report.Command,
	"soak":   soak.Command,
	"speed":  speed.Command,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: go run . faults|speed|llm|micro|soak|fleet|report [-short] [flags]")
		os.Exit(2)
	}
	if err := dispatch(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// dispatch runs a command until it ends or is interrupted.
func dispatch(command string, args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := run.New(command)
	if err != nil {
		return err
	}
	defer r.Close()
	err = commands[command](ctx, r, args)
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	return err
}
