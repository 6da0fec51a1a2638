package report

import (
	"fmt"

	"github.com/apifailover/caddy-failover/bench/internal/chart"
	"github.com/apifailover/caddy-failover/bench/internal/faults"
)

// faults writes what clients saw while endpoints failed.
func (p *page) faults(r faults.Report) error {
	p.line("\n## Faults")
	p.ranOn(r.Machine)
	p.line(`
Real processes, each in front of three endpoints of its own: a primary (a) and two backups. %d requests a second come in at
fixed times whatever becomes of the others, GETs and POSTs of 2 KiB by turns; latency counts from when a request was meant to be sent. A fault
begins after %v and is healed after %v more; all proxies of a fault run at the same time. A call failed if its client did not get the
whole right answer. "In 1st s" are failures in the first second of the fault, "after heal" those after it. p50, p99, max, the attempts that reached the primary and attempts per call are
of the time between. "Refused later" are attempts that the primary turned down after the heal, "back" is the
time from the heal to the first second in which the primary carries 90 %% of the calls.`, r.Rate, r.Course.Before, r.Course.During)
	if len(r.Tables) > 0 {
		var names []string
		for _, result := range r.Tables[0].Results {
			names = append(names, result.Proxy)
		}
		p.about(names, r.About)
	}
	var better []string
	for _, t := range r.Tables {
		p.line("\n### %s", t.Fault)
		p.line("\n%s.", capital(t.About))
		p.faultTable(t)
		if err := p.chart(faultChart(t, r.Course), "fault "+t.Fault); err != nil {
			return err
		}
		better = append(better, betterThanFirst(t)...)
	}
	p.line("\n### Where another proxy is better here\n")
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
	p.table([]string{fmt.Sprintf("of %d calls", t.Results[0].Calls), "failed", "in 1st s", "after heal", "p50", "p99", "max",
		"at primary", "attempts/call", "refused later", "checks", "back"}, rows)
}

func faultChart(t faults.Table, c faults.Course) chart.Chart {
	success := chart.Panel{Label: "successful calls", Top: 1, Format: chart.Percent}
	latency := chart.Panel{Label: "p99 latency", Log: true, Format: chart.Millis}
	primary := chart.Panel{Label: "calls answered by the primary", Top: 1, Format: chart.Percent}
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
