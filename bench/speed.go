package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A slice is one proxy's turn in a round: a fixed number of requests.
type slice struct {
	CPU      float64 `json:"cpu_us"` // per request, whole process, microseconds
	PerSec   float64 `json:"per_second"`
	P50, P99 float64 `json:"-"` // milliseconds
}

// speedResult is what a proxy came to in a scenario, with ratios to the first
// proxy of the same rounds.
type speedResult struct {
	Proxy      string     `json:"proxy"`
	CPU        float64    `json:"cpu_us_per_request"`
	CPURatio   float64    `json:"cpu_ratio"`
	CPUBetween [2]float64 `json:"cpu_ratio_95"`                  // bootstrapped interval of the ratio
	CPUQuiet   float64    `json:"cpu_ratio_of_quietest_quarter"` // of both proxies' rounds: noise only ever adds
	PerSecond  float64    `json:"requests_per_second"`
	RateRatio  float64    `json:"requests_per_second_ratio"`
	P50        float64    `json:"p50_ms"`
	P99        float64    `json:"p99_ms"`
	Memory     float64    `json:"memory_peak_mib"`
}

type speedTable struct {
	Scenario scenario      `json:"scenario"`
	Rounds   int           `json:"rounds"`
	Requests int           `json:"requests_per_round"`
	Together bool          `json:"together"` // in turns at the same time as the first proxy
	Results  []speedResult `json:"results"`
}

type speedReport struct {
	Machine machine           `json:"machine"`
	About   map[string]string `json:"about"`
	Tables  []speedTable      `json:"tables"`
}

// speed measures healthy proxies. In each round each proxy in turn gets the
// same number of requests, in an order drawn anew, so that whatever else the
// machine does meets all alike. On two cores the whole run takes ten minutes.
func speed(b *bench, args []string) error {
	rounds := b.flags.Int("rounds", 0, "rounds of each scenario (default 30, short 6)")
	turn := b.flags.Duration("turn", 0, "about how long a turn in a round takes the first proxy alone (default 100ms, short 50ms)")
	only := b.flags.String("peers", "", "proxies to compare, by name, comma separated (default all)")
	words := b.flags.String("scenarios", "", scenarioUsage)
	together := b.flags.Bool("together", false, "let each proxy have its turn at the same time as the first one, which gives steadier ratios of CPU on a machine that has other work")
	workers := b.flags.Int("workers", 32, "requests in flight")
	if err := b.parse(args); err != nil {
		return err
	}
	if *rounds == 0 {
		*rounds = 30
		if b.short {
			*rounds = 6
		}
	}
	if *turn == 0 {
		*turn = 100 * time.Millisecond
		if b.short {
			*turn = 50 * time.Millisecond
		}
	}
	scenarios, err := parseScenarios(*words)
	if err != nil {
		return err
	}
	var peers []peer
	for _, p := range speedPeers {
		if (*only == "" || slices.Contains(strings.Split(*only, ","), p.name)) && p.available() {
			peers = append(peers, p)
		}
	}
	if len(peers) == 0 {
		return fmt.Errorf("no proxy of %q is known or installed", *only)
	}
	caddy, err := b.buildCaddy()
	if err != nil {
		return err
	}
	report := speedReport{Machine: b.machine(), About: make(map[string]string)}
	for _, p := range peers {
		report.About[p.name] = p.about
	}
	for _, s := range scenarios {
		table, err := b.measure(s, peers, caddy, *rounds, *workers, *turn, *together)
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
		report.Tables = append(report.Tables, table)
		table.print()
	}
	return b.save("speed", report)
}

// A contestant is a proxy under load.
type contestant struct {
	*running
	loop   *closedLoop
	slices []slice
	base   []slice // of the first proxy at the same times; nil: its own, in order
}

// warmUp is the part of a turn, one in so many, that comes before it and is not
// counted: while the others had theirs the proxy's caches have cooled down, those
// of the first one have not where all have their turns beside it.
const warmUp = 3

// turn sends requests and measures what they cost.
func (c *contestant) turn(ctx context.Context, requests int) error {
	if _, _, err := c.loop.send(ctx, requests/warmUp); err != nil {
		return fmt.Errorf("%s: %w", c.peer.name, err)
	}
	before := cpuClock(c.pids)
	took, elapsed, err := c.loop.send(ctx, requests)
	if err != nil {
		return fmt.Errorf("%s: %w", c.peer.name, err)
	}
	used := cpuClock(c.pids) - before
	c.slices = append(c.slices, slice{
		CPU:    float64(used.Nanoseconds()) / 1e3 / float64(requests),
		PerSec: float64(requests) / elapsed.Seconds(),
		P50:    milliseconds(quantile(took, 0.5)),
		P99:    milliseconds(quantile(took, 0.99)),
	})
	return nil
}

// turnBeside gives two proxies their turns at the same time.
func (c *contestant) turnBeside(ctx context.Context, other *contestant, requests int) error {
	done := make(chan error)
	go func() { done <- c.turn(ctx, requests) }()
	if err := errors.Join(other.turn(ctx, requests), <-done); err != nil {
		return err
	}
	other.base = append(other.base, c.slices[len(c.slices)-1])
	return nil
}

// leastTurn is how many requests a turn has at least.
const leastTurn = 50

// measure runs the rounds of one scenario.
func (b *bench) measure(s scenario, peers []peer, caddy string, rounds, workers int, turn time.Duration, together bool) (speedTable, error) {
	table := speedTable{Scenario: s, Rounds: rounds, Together: together}
	var upstreams []string
	for range s.Endpoints {
		sink, err := newSink()
		if err != nil {
			return table, err
		}
		defer sink.close()
		upstreams = append(upstreams, sink.address())
	}
	var all []*contestant
	for _, p := range peers {
		r, err := b.start(p, s.Protocol, caddy, upstreams)
		if err != nil {
			return table, err
		}
		defer r.stop()
		loop, err := newClosedLoop(r.address, s.Protocol, r.roots, s.Size, workers)
		if err != nil {
			return table, err
		}
		defer loop.close()
		all = append(all, &contestant{running: r, loop: loop})
	}
	// Warm up, and find how many requests make a turn of the first proxy.
	requests := 200
	if s.Size > 64<<10 {
		requests = leastTurn
	}
	for _, c := range all {
		for range 3 {
			_, elapsed, err := c.loop.send(b.ctx, requests)
			if err != nil {
				return table, fmt.Errorf("%s: %w\n%s", c.peer.name, err, c.tail())
			}
			if c == all[0] {
				requests = max(leastTurn, int(float64(requests)*turn.Seconds()/elapsed.Seconds()))
			}
		}
	}
	table.Requests = requests
	for _, c := range all {
		c.pids = c.members() // by now all its workers are there
	}
	for range rounds {
		for _, i := range rand.Perm(len(all)) {
			var err error
			if !together {
				err = all[i].turn(b.ctx, requests)
			} else if i > 0 {
				err = all[0].turnBeside(b.ctx, all[i], requests)
			}
			if err != nil {
				return table, err
			}
		}
	}
	for _, c := range all {
		_, peak := memory(c.pids)
		base := all[0].slices
		if c.base != nil {
			base = c.base
		}
		result := speedResult{
			Proxy:     c.peer.name,
			CPU:       median(column(c.slices, func(s slice) float64 { return s.CPU })),
			PerSecond: median(column(c.slices, func(s slice) float64 { return s.PerSec })),
			P50:       median(column(c.slices, func(s slice) float64 { return s.P50 })),
			P99:       median(column(c.slices, func(s slice) float64 { return s.P99 })),
			Memory:    float64(peak) / (1 << 20),
		}
		cpu := func(s slice) float64 { return s.CPU }
		result.CPURatio, result.CPUBetween = ratios(c.slices, base, cpu)
		result.CPUQuiet = quietest(column(c.slices, cpu)) / quietest(column(base, cpu))
		result.RateRatio, _ = ratios(c.slices, base, func(s slice) float64 { return s.PerSec })
		table.Results = append(table.Results, result)
	}
	return table, nil
}

func (t speedTable) print() {
	fmt.Printf("\n%s; %d rounds of %d requests\n", t.Scenario, t.Rounds, t.Requests)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "proxy\tCPU µs/request\tratio\t95 %\tquietest\trequests/s\tratio\tp50 ms\tp99 ms\tpeak MiB\t")
	for _, r := range t.Results {
		fmt.Fprintf(w, "%s\t%.1f\t%.3f\t%.3f-%.3f\t%.3f\t%.0f\t%.2f\t%.2f\t%.2f\t%.0f\t\n", r.Proxy, r.CPU, r.CPURatio,
			r.CPUBetween[0], r.CPUBetween[1], r.CPUQuiet, r.PerSecond, r.RateRatio, r.P50, r.P99, r.Memory)
	}
	w.Flush()
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func column[T any](rows []T, of func(T) float64) []float64 {
	values := make([]float64, len(rows))
	for i, r := range rows {
		values[i] = of(r)
	}
	return values
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// quietest is the mean of the lowest quarter of values.
func quietest(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := max(1, len(sorted)/4)
	sum := 0.0
	for _, v := range sorted[:n] {
		sum += v
	}
	return sum / float64(n)
}

// ratios is the median over the rounds of one proxy's value to another's in the
// same round, and the interval that holds it in 95 % of 1,000 resamples.
func ratios(of, to []slice, value func(slice) float64) (ratio float64, between [2]float64) {
	each := make([]float64, len(of))
	for i := range of {
		each[i] = value(of[i]) / value(to[i])
	}
	resampled := make([]float64, 1000)
	again := make([]float64, len(each))
	for i := range resampled {
		for j := range again {
			again[j] = each[rand.IntN(len(each))]
		}
		resampled[i] = median(again)
	}
	slices.Sort(resampled)
	return median(each), [2]float64{resampled[25], resampled[974]}
}
