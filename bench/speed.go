package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
	life     int
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
	Lives    int           `json:"lives"` // how often the proxies were started anew
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
// machine does meets all alike. On two cores the whole run takes a quarter of an hour.
func speed(b *bench, args []string) error {
	rounds := b.flags.Int("rounds", 0, "rounds of each scenario (default 30, short 6)")
	lives := b.flags.Int("lives", 0, "how often to start the proxies anew in each scenario, as what a process costs depends a little on how it has come to lie in memory (default 10, short 2)")
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
	if *lives == 0 {
		*lives = 10
		if b.short {
			*lives = 2
		}
	}
	*lives = min(*lives, *rounds)
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
		table, err := b.measure(s, peers, caddy, *rounds, *lives, *workers, *turn, *together)
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
	base   []slice // of the first proxy at the same times
	life   int
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
		life:   c.life,
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

// measure runs the rounds of one scenario, in several lives of the proxies.
func (b *bench) measure(s scenario, peers []peer, caddy string, rounds, lives, workers int, turn time.Duration, together bool) (speedTable, error) {
	table := speedTable{Scenario: s, Rounds: rounds, Lives: lives, Together: together}
	var upstreams []string
	for range s.Endpoints {
		sink, err := newSink()
		if err != nil {
			return table, err
		}
		defer sink.close()
		upstreams = append(upstreams, sink.address())
	}
	found := make([]record, len(peers))
	for life := range lives {
		from, to := life*rounds/lives, (life+1)*rounds/lives
		if err := b.live(life, to-from, s, peers, caddy, upstreams, workers, turn, &table, found); err != nil {
			return table, err
		}
	}
	for i, p := range peers {
		table.Results = append(table.Results, found[i].result(p.name, found[0].slices))
	}
	return table, nil
}

// A record is what was found out about a proxy in all its lives.
type record struct {
	slices []slice
	base   []slice // of the first proxy at the same times; nil: its own, in order
	memory int64   // bytes, at most
}

// live starts the proxies, runs rounds, and ends them. In the first life it finds how
// many requests make a turn.
func (b *bench) live(life, rounds int, s scenario, peers []peer, caddy string, upstreams []string, workers int, turn time.Duration, table *speedTable, found []record) error {
	all := make([]*contestant, len(peers))
	for _, i := range rand.Perm(len(peers)) {
		r, err := b.start(peers[i], s.Protocol, caddy, upstreams)
		if err != nil {
			return err
		}
		defer r.stop()
		loop, err := newClosedLoop(r.address, s.Protocol, r.roots, s.Size, workers)
		if err != nil {
			return err
		}
		defer loop.close()
		all[i] = &contestant{running: r, loop: loop, life: life}
	}
	requests := 200
	if s.Size > 64<<10 {
		requests = leastTurn
	}
	for _, c := range all {
		for range 3 {
			n := max(requests, table.Requests/2)
			_, elapsed, err := c.loop.send(b.ctx, n)
			if err != nil {
				return fmt.Errorf("%s: %w\n%s", c.peer.name, err, c.tail())
			}
			if life == 0 && c == all[0] {
				requests = max(leastTurn, int(float64(n)*turn.Seconds()/elapsed.Seconds()))
			}
		}
	}
	if life == 0 {
		table.Requests = requests
	}
	for _, c := range all {
		c.pids = c.members() // by now all its workers are there
	}
	for range rounds {
		for _, i := range rand.Perm(len(all)) {
			var err error
			if !table.Together {
				err = all[i].turn(b.ctx, table.Requests)
			} else if i > 0 {
				err = all[0].turnBeside(b.ctx, all[i], table.Requests)
			}
			if err != nil {
				return err
			}
		}
	}
	for i, c := range all {
		_, peak := memory(c.pids)
		found[i].slices = append(found[i].slices, c.slices...)
		found[i].base = append(found[i].base, c.base...)
		found[i].memory = max(found[i].memory, peak)
	}
	return nil
}

// result is what a proxy came to; first are the turns of the one that it is compared
// with.
func (r record) result(name string, first []slice) speedResult {
	base := first
	if r.base != nil {
		base = r.base
	}
	cpu := func(s slice) float64 { return s.CPU }
	result := speedResult{
		Proxy:     name,
		CPU:       median(column(r.slices, cpu)),
		CPUQuiet:  quietest(column(r.slices, cpu)) / quietest(column(base, cpu)),
		PerSecond: median(column(r.slices, func(s slice) float64 { return s.PerSec })),
		P50:       median(column(r.slices, func(s slice) float64 { return s.P50 })),
		P99:       median(column(r.slices, func(s slice) float64 { return s.P99 })),
		Memory:    float64(r.memory) / (1 << 20),
	}
	result.CPURatio, result.CPUBetween = ratios(r.slices, base, cpu)
	result.RateRatio, _ = ratios(r.slices, base, func(s slice) float64 { return s.PerSec })
	return result
}

func (t speedTable) print() {
	fmt.Printf("\n%s; %d rounds of %d requests in %d lives\n", t.Scenario, t.Rounds, t.Requests, t.Lives)
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
// same round, and the interval that holds it in 95 % of 1,000 resamples. What is
// drawn again is lives: the rounds of one resemble each other.
func ratios(of, to []slice, value func(slice) float64) (ratio float64, between [2]float64) {
	each := make([]float64, len(of))
	lives := make(map[int][]float64)
	for i := range of {
		each[i] = value(of[i]) / value(to[i])
		lives[of[i].life] = append(lives[of[i].life], each[i])
	}
	numbers := slices.Collect(maps.Keys(lives))
	resampled := make([]float64, 1000)
	var again []float64
	for i := range resampled {
		again = again[:0]
		for range numbers {
			again = append(again, lives[numbers[rand.IntN(len(numbers))]]...)
		}
		resampled[i] = median(again)
	}
	slices.Sort(resampled)
	return median(each), [2]float64{resampled[25], resampled[974]}
}
