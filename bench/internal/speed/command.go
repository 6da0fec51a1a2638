// Package speed measures the cost and the latency of proxies with healthy endpoints.
package speed

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/load"
	"github.com/apifailover/caddy-failover/bench/internal/npm"
	"github.com/apifailover/caddy-failover/bench/internal/peers"
	"github.com/apifailover/caddy-failover/bench/internal/run"
)

// A Report is the saved result of the command.
type Report struct {
	Machine run.Machine       `json:"machine"`
	About   map[string]string `json:"about"` // descriptions of the peers
	Tables  []Table           `json:"tables"`
}

// A plan says how to measure each scenario.
type plan struct {
	launcher peers.Launcher
	peers    []peers.Peer
	rounds   int
	lives    int           // how often the peers are restarted, over all rounds
	length   time.Duration // approximate length of a turn of the first peer alone
	workers  int           // requests in flight
	together bool          // each peer has its turn at the same time as the first
}

// Command measures peers with healthy endpoints. In each round, each peer in turn gets the
// same number of requests. The order is random, so that other work of the machine affects
// all peers alike. On two cores the whole run takes a quarter of an hour.
func Command(ctx context.Context, r *run.Run, args []string) error {
	var p plan
	r.Flags.IntVar(&p.rounds, "rounds", 0, "rounds of each scenario (default 30, short 6)")
	r.Flags.IntVar(&p.lives, "lives", 0, "how often to restart the proxies in each scenario, because the cost of a process depends a little on its layout in memory (default 10, short 2)")
	r.Flags.DurationVar(&p.length, "turn", 0, "approximate length of a turn of the first proxy alone (default 100ms, short 50ms)")
	only := r.Flags.String("peers", "", "comma-separated names of the proxies to compare (default all)")
	words := r.Flags.String("scenarios", "", scenarioUsage)
	r.Flags.BoolVar(&p.together, "together", false, "run each proxy's turn at the same time as the first proxy's; CPU ratios are then steadier on a machine with other work")
	r.Flags.IntVar(&p.workers, "workers", 32, "requests in flight")
	if err := r.Parse(args); err != nil {
		return err
	}
	run.Default(r, &p.rounds, 30, 6)
	run.Default(r, &p.lives, 10, 2)
	run.Default(r, &p.length, 100*time.Millisecond, 50*time.Millisecond)
	p.lives = min(p.lives, p.rounds)
	scenarios, err := parseScenarios(*words)
	if err != nil {
		return err
	}
	if p.peers, err = peers.Choose(peers.ForSpeed(), *only, run.Say); err != nil {
		return err
	}
	caddy, err := r.BuildCaddy(ctx)
	if err != nil {
		return err
	}
	p.launcher = peers.Launcher{Dir: r.Dir, Caddy: caddy}
	if err := p.install(ctx, r.Dir); err != nil {
		return err
	}
	report := Report{Machine: r.Machine(), About: peers.About(p.peers)}
	for _, s := range scenarios {
		table, err := p.measure(ctx, s)
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
		report.Tables = append(report.Tables, table)
		table.print()
	}
	return r.Save(report)
}

// install installs npm packages if a peer needs them. If that fails, as without a network, it
// leaves these peers out.
func (p *plan) install(ctx context.Context, dir string) (err error) {
	needs := func(one peers.Peer) bool { return one.NeedsNPM() }
	if !slices.ContainsFunc(p.peers, needs) {
		return nil
	}
	run.Say("installing npm packages")
	if p.launcher.NPM, err = npm.Install(ctx, dir); err == nil {
		return nil
	}
	if p.peers = slices.DeleteFunc(p.peers, needs); len(p.peers) == 0 {
		return err
	}
	run.Say("notice: peers of npm packages are skipped: %v", err)
	return nil
}

// measure runs the rounds of one scenario.
func (p plan) measure(ctx context.Context, s Scenario) (Table, error) {
	table := Table{Scenario: s, Rounds: p.rounds, Lives: p.lives, Together: p.together}
	var endpoints []string
	for range s.Endpoints {
		sink, err := load.NewSink()
		if err != nil {
			return table, err
		}
		defer sink.Close()
		endpoints = append(endpoints, sink.Address())
	}
	var able []peers.Peer
	for _, peer := range p.peers {
		if peer.Serves(s.Protocol, s.Endpoints) {
			able = append(able, peer)
		}
	}
	found := make([]record, len(able))
	for life := range p.lives {
		field, err := p.start(ctx, s, able, endpoints, life)
		if err != nil {
			return table, err
		}
		rounds := (life+1)*p.rounds/p.lives - life*p.rounds/p.lives
		err = field.run(ctx, rounds, &table, p.length)
		field.stop()
		if err != nil {
			return table, err
		}
		for i, c := range field {
			found[i].add(c)
		}
	}
	for i, peer := range able {
		table.Results = append(table.Results, found[i].result(peer.Name, found[0].turns))
	}
	return table, nil
}
