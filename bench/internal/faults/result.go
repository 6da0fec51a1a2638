package faults

import (
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/load"
	"github.com/apifailover/caddy-failover/bench/internal/run"
	"github.com/apifailover/caddy-failover/bench/internal/stats"
)

// A Table holds the results of one script.
type Table struct {
	Fault   string   `json:"fault"`
	Calls   int      `json:"calls_during_fault"`
	About   string   `json:"about"`
	Results []Result `json:"results"` // results of the peers, in order

	Machine *run.Machine `json:"machine,omitempty"` // of its run; nil: the report's
}

// late returns the longest delay, in milliseconds, with which a client started.
func (t Table) late() (longest float64) {
	for _, r := range t.Results {
		longest = max(longest, r.Late)
	}
	return longest
}

// A Result holds what the clients of one peer saw during one fault.
type Result struct {
	Proxy         string         `json:"proxy"`
	Cannot        string         `json:"cannot,omitempty"`  // why it took no part
	Variant       bool           `json:"variant,omitempty"` // of the first peer
	Late          float64        `json:"latest_start_ms"`   // longest delay of a client's start
	Calls         int            `json:"calls"`
	Failed        int            `json:"failed"`
	FirstSecond   int            `json:"failed_in_first_second"`
	AfterHeal     int            `json:"failed_after_heal"`
	What          map[string]int `json:"failures,omitempty"`
	P50           float64        `json:"p50_ms"` // latency between fault and heal, as the next two
	P99           float64        `json:"p99_ms"`
	Max           float64        `json:"max_ms"`
	AtFaulty      int64          `json:"attempts_at_primary_during_fault"`
	RefusedDuring int64          `json:"refused_by_primary_during_fault"`
	Served        float64        `json:"served_by_primary_during_fault"` // part of the calls
	PerCall       float64        `json:"attempts_per_call_during_fault"`
	RefusedAfter  int64          `json:"refused_by_primary_after_heal"`
	Checks        int64          `json:"checks"`
	Back          stats.Delay    `json:"primary_back_after_s"` // time after the heal
	Series        []Point        `json:"series"`
}

// A Point is a quarter of a second of a run.
type Point struct {
	At      float64 `json:"at_s"`
	Success float64 `json:"success"` // part of the calls that succeeded
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	Primary float64 `json:"primary"` // part of the calls that the primary served
}

const pointEvery = 250 * time.Millisecond

// measure computes the result from the samples, which must be in order of time.
func (r *Result) measure(samples []load.Sample, c Course) {
	r.Calls, r.What = len(samples), make(map[string]int)
	var took []time.Duration
	served := 0
	for _, s := range samples {
		r.Late = max(r.Late, stats.Milliseconds(s.Late))
		if s.At >= c.Before && s.At < c.heal() {
			took = append(took, s.Took)
			if byPrimary(s) {
				served++
			}
		}
		if s.OK {
			continue
		}
		r.Failed++
		r.What[s.What]++
		if s.At >= c.Before && s.At < c.Before+time.Second {
			r.FirstSecond++
		}
		if s.At >= c.heal() {
			r.AfterHeal++
		}
	}
	r.P50, r.P99, r.Max = latency(took, 0.5), latency(took, 0.99), latency(took, 1)
	if len(took) > 0 {
		r.Served = float64(served) / float64(len(took))
	}
	r.Back = primaryBack(samples, c.heal())
	for from := 0; from < len(samples); {
		at := samples[from].At / pointEvery * pointEvery
		to := from
		for to < len(samples) && samples[to].At < at+pointEvery {
			to++
		}
		r.Series = append(r.Series, summarize(at, samples[from:to]))
		from = to
	}
}

func summarize(at time.Duration, samples []load.Sample) Point {
	p := Point{At: at.Seconds()}
	var took []time.Duration
	for _, s := range samples {
		took = append(took, s.Took)
		if s.OK {
			p.Success++
		}
		if byPrimary(s) {
			p.Primary++
		}
	}
	p.Success /= float64(len(samples))
	p.Primary /= float64(len(samples))
	p.P50, p.P99 = latency(took, 0.5), latency(took, 0.99)
	return p
}

// primaryBack returns the time from the heal to the first second in which the primary
// served 90 % of the calls. That second may end a tenth of a second after the run.
func primaryBack(samples []load.Sample, heal time.Duration) stats.Delay {
	for i, first := range samples {
		if first.At < heal {
			continue
		}
		if samples[len(samples)-1].At < first.At+900*time.Millisecond {
			break
		}
		n, primary := 0, 0
		for _, s := range samples[i:] {
			if s.At >= first.At+time.Second {
				break
			}
			n++
			if byPrimary(s) {
				primary++
			}
		}
		if float64(primary) >= 0.9*float64(n) {
			return stats.Delay((first.At - heal).Seconds())
		}
	}
	return stats.Never
}

func byPrimary(s load.Sample) bool { return s.OK && s.Endpoint == primaryName }

// latency returns a quantile in milliseconds.
func latency(took []time.Duration, q float64) float64 {
	return stats.Milliseconds(stats.Quantile(took, q))
}
