package speed

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/apifailover/caddy-failover/bench/internal/stats"
)

// A Table holds the results of one scenario.
type Table struct {
	Scenario Scenario `json:"scenario"`
	Rounds   int      `json:"rounds"`
	Lives    int      `json:"lives"`              // how often the peers were restarted
	Requests int      `json:"requests_per_round"` // requests to each peer in a round
	Together bool     `json:"together"`           // turns were at the same time as the first peer's
	Results  []Result `json:"results"`            // results of the peers, in order
}

// A Result is the result of a peer in a scenario. Ratios are to the first peer in the same
// rounds.
type Result struct {
	Proxy      string     `json:"proxy"`
	CPU        float64    `json:"cpu_us_per_request"`
	CPURatio   float64    `json:"cpu_ratio"`
	CPUBetween [2]float64 `json:"cpu_ratio_95"`                  // bootstrapped interval of the ratio
	CPUQuiet   float64    `json:"cpu_ratio_of_quietest_quarter"` // ratio over the quietest quarter of both peers' rounds; noise only adds
	PerSecond  float64    `json:"requests_per_second"`
	RateRatio  float64    `json:"requests_per_second_ratio"`
	P50        float64    `json:"p50_ms"`
	P99        float64    `json:"p99_ms"`
	Memory     float64    `json:"memory_peak_mib"`
}

// A turn is the cost of one peer's requests in one round.
type turn struct {
	cpu      float64 // CPU of the whole peer, microseconds per request
	perSec   float64 // requests per second
	p50, p99 float64 // milliseconds
	life     int
}

func (t turn) cost() float64 { return t.cpu }
func (t turn) rate() float64 { return t.perSec }

// A record holds the measurements of a peer in all its lives.
type record struct {
	turns []turn
	base  []turn // of the first peer, at the same times; nil: they had theirs alone
	peak  int64  // resident set, in bytes
}

// add adds a life.
func (r *record) add(c *contestant) {
	r.turns = append(r.turns, c.turns...)
	r.base = append(r.base, c.base...)
	r.peak = max(r.peak, c.peak)
}

// result summarizes the record. first are the turns of the first peer.
func (r record) result(name string, first []turn) Result {
	base := first
	if r.base != nil {
		base = r.base
	}
	result := Result{
		Proxy:     name,
		CPU:       stats.Median(stats.Column(r.turns, turn.cost)),
		CPUQuiet:  stats.LowestQuarter(stats.Column(r.turns, turn.cost)) / stats.LowestQuarter(stats.Column(base, turn.cost)),
		PerSecond: stats.Median(stats.Column(r.turns, turn.rate)),
		P50:       stats.Median(stats.Column(r.turns, func(t turn) float64 { return t.p50 })),
		P99:       stats.Median(stats.Column(r.turns, func(t turn) float64 { return t.p99 })),
		Memory:    float64(r.peak) / (1 << 20),
	}
	result.CPURatio, result.CPUBetween = ratios(r.turns, base, turn.cost)
	result.RateRatio, _ = ratios(r.turns, base, turn.rate)
	return result
}

// ratios returns the median over the rounds of one peer's value relative to another's, and
// the interval that holds this median in 95 % of 1,000 resamples. A resample draws whole
// lives, because the rounds of a life are similar.
func ratios(of, to []turn, value func(turn) float64) (ratio float64, between [2]float64) {
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
		resampled[i] = stats.Median(again)
	}
	slices.Sort(resampled)
	return stats.Median(each), [2]float64{resampled[25], resampled[974]}
}

// print writes the table to standard output.
func (t Table) print() {
	fmt.Printf("\n%s; %d rounds of %d requests in %d lives\n", t.Scenario, t.Rounds, t.Requests, t.Lives)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "proxy\tCPU µs/request\tratio\t95 %\tquietest\trequests/s\tratio\tp50 ms\tp99 ms\tpeak MiB\t")
	for _, r := range t.Results {
		fmt.Fprintf(w, "%s\t%.1f\t%.3f\t%.3f-%.3f\t%.3f\t%.0f\t%.2f\t%.2f\t%.2f\t%.0f\t\n", r.Proxy, r.CPU, r.CPURatio,
			r.CPUBetween[0], r.CPUBetween[1], r.CPUQuiet, r.PerSecond, r.RateRatio, r.P50, r.P99, r.Memory)
	}
	w.Flush()
}
