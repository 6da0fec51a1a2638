package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/apifailover/caddy-failover/bench/internal/chart"
	"github.com/apifailover/caddy-failover/bench/internal/faults"
)

// faults writes what clients saw while endpoints failed.
func (p *page) faults(r faults.Report) error {
	p.ranOn(r.Machine)
	p.line(`
Each proxy is a real process with its own three endpoints: a primary (a) and two backups. %d requests per second arrive at
fixed times, even if earlier ones are still waiting. They alternate between GETs and POSTs of 2 KiB. Latency counts from the planned send time. A fault
starts after %v and lasts %v. All proxies of a fault run at the same time. A request failed if its client did not get the
complete, correct response. A fault is played up to three times if other work on the machine kept clients from sending for more than 300 ms; the quietest play counts. "In 1st s" counts failures in the first second of the fault, and "after heal" those after the fault. p50, p99, max, the attempts at the primary and attempts per request cover
the time of the fault. "Refused" counts those attempts at the primary to which it responded with a failure, and "served" is the part of the requests that it served. "Refused later" counts attempts that the primary refused after the fault. "Back" is the
time from the end of the fault to the first second in which the primary serves 90 %% of the requests.`, r.Rate, r.Course.Before, r.Course.During)
	var names []string
	for _, t := range r.Tables {
		for _, f := range t.Results {
			if !slices.Contains(names, f.Proxy) {
				names = append(names, f.Proxy)
			}
		}
	}
	p.about(names, r.About)
	for _, t := range r.Tables {
		p.line("\n## %s", t.Fault)
		p.line("\n%s.", capital(t.About))
		p.ranAlso(r, t)
		p.faultTable(t)
		if err := p.chart(faultChart(t, r.Course), "fault "+t.Fault); err != nil {
			return err
		}
	}
	return nil
}

// faultsInShort writes a small table for each fault: this plugin beside the best of the others.
func (p *page) faultsInShort(r faults.Report) error {
	p.ranOn(r.Machine)
	var better []string
	for _, t := range r.Tables {
		p.line("\n### %s\n\n%s.", t.Fault, capital(t.About))
		p.ranAlso(r, t)
		head := []string{fmt.Sprintf("%d requests", t.Results[0].Calls), "this plugin"}
		for _, f := range variants(t) {
			head = append(head, strings.TrimPrefix(f.Proxy, t.Results[0].Proxy+" "))
		}
		var rows [][]string
		for _, m := range shown {
			row := []string{m.short, m.show(t, t.Results[0])}
			for _, f := range variants(t) {
				row = append(row, m.show(t, f))
			}
			rows = append(rows, append(row, m.best(t)))
		}
		p.table(append(head, "best of the others"), rows)
		for _, f := range t.Results {
			if f.Cannot != "" {
				p.line("%s takes no part: %s.", f.Proxy, f.Cannot)
			}
		}
		better = append(better, betterThanFirst(t)...)
	}
	p.line("\n### Where another proxy does better\n")
	if len(better) == 0 {
		p.line("Nowhere in this run.")
	}
	for _, b := range better {
		p.line("- %s", b)
	}
	return nil
}

// ranAlso adds when and where a table was measured, if that was another run than the report's.
func (p *page) ranAlso(r faults.Report, t faults.Table) {
	if t.Machine != nil && t.Machine.Date != r.Machine.Date {
		p.ranOn(*t.Machine)
	}
}

var faultColumns = []string{"failed", "in 1st s", "after heal", "p50", "p99", "max", "at primary", "refused", "served", "attempts/request", "refused later", "checks", "back"}

func (p *page) faultTable(t faults.Table) {
	var rows [][]string
	for _, f := range t.Results {
		if f.Cannot != "" {
			rows = append(rows, slices.Concat([]string{f.Proxy}, slices.Repeat([]string{"n/a"}, len(faultColumns))))
			continue
		}
		rows = append(rows, []string{f.Proxy, fmt.Sprint(f.Failed), fmt.Sprint(f.FirstSecond), fmt.Sprint(f.AfterHeal),
			fmt.Sprintf("%.1f ms", f.P50), fmt.Sprintf("%.0f ms", f.P99), fmt.Sprintf("%.0f ms", f.Max), fmt.Sprint(f.AtFaulty),
			fmt.Sprint(f.RefusedDuring), fmt.Sprintf("%.0f %%", 100*f.Served), fmt.Sprintf("%.2f", f.PerCall), fmt.Sprint(f.RefusedAfter), fmt.Sprint(f.Checks), inSeconds(f.Back)})
	}
	p.table(append([]string{fmt.Sprintf("of %d requests", t.Results[0].Calls)}, faultColumns...), rows)
	for _, f := range t.Results {
		if f.Cannot != "" {
			p.line("%s takes no part: %s.\n", f.Proxy, f.Cannot)
		}
	}
}

func faultChart(t faults.Table, c faults.Course) chart.Chart {
	success := chart.Panel{Label: "successful requests", Top: 1, Format: chart.Percent}
	latency := chart.Panel{Label: "p99 latency", Log: true, Format: chart.Millis}
	primary := chart.Panel{Label: "requests served by the primary", Top: 1, Format: chart.Percent}
	for _, f := range t.Results {
		if f.Cannot != "" {
			continue
		}
		addLine(&success, f.Proxy, f.Series, func(q faults.Point) (at, value float64) { return q.At, q.Success })
		addLine(&latency, f.Proxy, f.Series, func(q faults.Point) (at, value float64) { return q.At, q.P99 })
		addLine(&primary, f.Proxy, f.Series, func(q faults.Point) (at, value float64) { return q.At, q.Primary })
	}
	return chart.Chart{
		Title: t.Fault + ": what clients see", From: c.Before.Seconds(), To: (c.Before + c.During).Seconds(),
		Panels: []chart.Panel{success, latency, primary},
	}
}
