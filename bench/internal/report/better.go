package report

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/apifailover/caddy-failover/bench/internal/faults"
	"github.com/apifailover/caddy-failover/bench/internal/stats"
)

// A measure is a value by which proxies are compared; lower is better.
type measure struct {
	name   string
	of     func(faults.Result) float64
	margin func(ours float64) float64 // largest difference that can be noise
	show   func(faults.Table, faults.Result) string
	fails  bool   // counts failures
	short  string // its row in the summary; "" if it has none
}

// shown are the measures of the summary.
var shown = slices.DeleteFunc(slices.Clone(measures), func(m measure) bool { return m.short == "" })

// best returns the best value of the proxies other than the first one, and who has it. Only
// failures count for proxies that fail more requests than the first one.
func (m measure) best(t faults.Table) string {
	best, value := math.Inf(1), ""
	var who []string
	for _, f := range others(t) {
		if f.Failed > t.Results[0].Failed && !m.fails {
			continue
		}
		switch of := m.of(f); {
		case value == "" || of < best && m.show(t, f) != value:
			best, value, who = of, m.show(t, f), []string{f.Proxy}
		case m.show(t, f) == value:
			who = append(who, f.Proxy)
		}
	}
	if len(who) == 0 {
		return "all others fail more requests"
	}
	return fmt.Sprintf("%s (%s)", value, strings.Join(who, ", "))
}

// others returns the results of the proxies that are not this plugin.
func others(t faults.Table) (list []faults.Result) {
	for _, f := range t.Results[1:] {
		if f.Cannot == "" && !f.Variant {
			list = append(list, f)
		}
	}
	return list
}

// variants returns the results of this plugin with other options.
func variants(t faults.Table) (list []faults.Result) {
	for _, f := range t.Results[1:] {
		if f.Variant {
			list = append(list, f)
		}
	}
	return list
}

// exactly is the margin of a value without noise.
func exactly(float64) float64 { return 0 }

// quarter returns a margin of a quarter of the value, but at least least.
func quarter(least float64) func(float64) float64 {
	return func(ours float64) float64 { return max(least, ours/4) }
}

// showing formats the value itself.
func showing(format string, of func(faults.Result) float64) func(faults.Table, faults.Result) string {
	return func(_ faults.Table, f faults.Result) string { return fmt.Sprintf(format, of(f)) }
}

// counting returns a measure that counts failures or attempts.
func counting(name, short string, fails bool, margin func(float64) float64, of func(faults.Result) float64) measure {
	return measure{name, of, margin, showing("%.0f", of), fails, short}
}

// timing returns a measure of latency.
func timing(name, short, format string, margin func(float64) float64, of func(faults.Result) float64) measure {
	return measure{name, of, margin, showing(format, of), false, short}
}

var measures = []measure{
	counting("fewer failures", "failed requests", true, exactly, func(f faults.Result) float64 { return float64(f.Failed) }),
	counting("fewer failures in the first second", "", true, exactly, func(f faults.Result) float64 { return float64(f.FirstSecond) }),
	counting("fewer failures after the heal", "", true, exactly, func(f faults.Result) float64 { return float64(f.AfterHeal) }),
	timing("a lower p50", "", "%.1f ms", quarter(2), func(f faults.Result) float64 { return f.P50 }),
	timing("a lower p99", "p99 during the fault", "%.0f ms", quarter(20), func(f faults.Result) float64 { return f.P99 }),
	timing("a lower maximum", "", "%.0f ms", quarter(50), func(f faults.Result) float64 { return f.Max }),
	counting("fewer attempts at the primary", "attempts at the failing primary", false, quarter(5), func(f faults.Result) float64 { return float64(f.AtFaulty) }),
	counting("fewer attempts refused by the failing primary", "of these refused", false, quarter(5), func(f faults.Result) float64 { return float64(f.RefusedDuring) }),
	{"", func(f faults.Result) float64 { return -f.Served }, never, showServed, false, "requests that the failing primary served"},
	counting("fewer attempts refused by the returning primary", "attempts that the returning primary refused", false, quarter(2), func(f faults.Result) float64 { return float64(f.RefusedAfter) }),
	{"a primary that is back sooner", backAfter, func(float64) float64 { return 0.5 }, showBack, false, "the primary serves 90 % again after"},
}

// never is the margin of a value in which no proxy is better than another.
func never(float64) float64 { return math.Inf(1) }

func showServed(_ faults.Table, f faults.Result) string { return fmt.Sprintf("%.0f %%", 100*f.Served) }

func backAfter(f faults.Result) float64 {
	if !f.Back.Happened() {
		return math.Inf(1)
	}
	return float64(f.Back)
}

// showBack describes when the primary was back. A proxy never left it if the primary served
// at least half of the requests during the fault.
func showBack(t faults.Table, f faults.Result) string {
	if t.Calls > 0 && f.AtFaulty > int64(t.Calls/2) {
		return "never left it"
	}
	return inSeconds(f.Back)
}

// inSeconds describes a delay.
func inSeconds(d stats.Delay) string {
	if !d.Happened() {
		return "not by the end"
	}
	return d.String() + " s"
}

// betterThanFirst lists the measures in which a proxy is clearly better than the first one.
func betterThanFirst(t faults.Table) (list []string) {
	ours := t.Results[0]
	for _, m := range measures {
		mine := m.of(ours)
		var who []string
		for _, f := range others(t) {
			if f.Failed > ours.Failed && !m.fails {
				continue // a failing proxy responds quickly and stays with the primary
			}
			if m.of(f) < mine-m.margin(mine) {
				who = append(who, fmt.Sprintf("%s (%s)", f.Proxy, m.show(t, f)))
			}
		}
		if len(who) > 0 {
			list = append(list, fmt.Sprintf("%s: %s: %s; this plugin: %s", t.Fault, m.name, strings.Join(who, ", "), m.show(t, ours)))
		}
	}
	return list
}
