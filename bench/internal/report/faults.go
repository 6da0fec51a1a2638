package report

import (
	"fmt"

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
complete, correct response. "In 1st s" counts failures in the first second of the fault, and "after heal" those after the fault. p50, p99, max, the attempts at the primary and attempts per request cover
the time of the fault. "Refused later" counts attempts that the primary refused after the fault. "Back" is the
time from the end of the fault to the first second in which the primary serves 90 %% of the requests.`, r.Rate, r.Course.Before, r.Course.During)
	if len(r.Tables) > 0 {
		var names []string
		for _, result := range r.Tables[0].Results {
			names = append(names, result.Proxy)
		}
		p.about(names, r.About)
	}
	for _, t := range r.Tables {
		p.line("\n## %s", t.Fault)
		p.line("\n%s.", capital(t.About))
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
		var rows [][]string
		for _, m := range shown {
			rows = append(rows, []string{m.short, m.show(t, t.Results[0]), m.best(t)})
		}
		p.table([]string{fmt.Sprintf("%d requests", t.Results[0].Calls), "this plugin", "best of the others"}, rows)
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

func (p *page) faultTable(t faults.Table) {
	var rows [][]string
	for _, f := range t.Results {
		rows = append(rows, []string{f.Proxy, fmt.Sprint(f.Failed), fmt.Sprint(f.FirstSecond), fmt.Sprint(f.AfterHeal),
			fmt.Sprintf("%.1f ms", f.P50), fmt.Sprintf("%.0f ms", f.P99), fmt.Sprintf("%.0f ms", f.Max), fmt.Sprint(f.AtFaulty),
			fmt.Sprintf("%.2f", f.PerCall), fmt.Sprint(f.RefusedAfter), fmt.Sprint(f.Checks), f.Back.String() + " s"})
	}
	p.table([]string{fmt.Sprintf("of %d requests", t.Results[0].Calls), "failed", "in 1st s", "after heal", "p50", "p99", "max",
		"at primary", "attempts/request", "refused later", "checks", "back"}, rows)
}

func faultChart(t faults.Table, c faults.Course) chart.Chart {
	success := chart.Panel{Label: "successful requests", Top: 1, Format: chart.Percent}
	latency := chart.Panel{Label: "p99 latency", Log: true, Format: chart.Millis}
	primary := chart.Panel{Label: "requests served by the primary", Top: 1, Format: chart.Percent}
	for _, f := range t.Results {
		addLine(&success, f.Proxy, f.Series, func(q faults.Point) (at, value float64) { return q.At, q.Success })
		addLine(&latency, f.Proxy, f.Series, func(q faults.Point) (at, value float64) { return q.At, q.P99 })
		addLine(&primary, f.Proxy, f.Series, func(q faults.Point) (at, value float64) { return q.At, q.Primary })
	}
	return chart.Chart{
		Title: t.Fault + ": what clients see", From: c.Before.Seconds(), To: (c.Before + c.During).Seconds(),
		Panels: []chart.Panel{success, latency, primary},
	}
}
