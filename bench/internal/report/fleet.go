package report

import (
	"errors"
	"fmt"

	"github.com/apifailover/caddy-failover/bench/internal/chart"
	"github.com/apifailover/caddy-failover/bench/internal/fleet"
)

// fleet writes the results of the simulation.
func (p *page) fleet(r fleet.Report) error {
	if len(r.Scenarios) == 0 {
		return errors.New("no scenario")
	}
	p.ranOn(r.Machine)
	p.line(`
A simulation in virtual time: %d proxies with the plugin's real breakers, budgets, scores and tables, each with %.0f requests per second. The capacity of the endpoints is
limited: they refuse further requests at once with a 503. There are no active checks. The same fleet also runs without the retry budget, without progressive recovery (an endpoint that passes its trial
gets its full load at once), and with a slow start over a fixed 10 s instead. "Attempts per request" covers the time of the fault, and "in the worst second" the worst second of the run. "Load on return" is the largest load of the faulty endpoints
in one second, relative to their capacity, in the first second after their return; "later" is the same from then on. "Even after" is the time until they carry 90 %% of their usual load again.
The budget allows 20 %% of the requests plus 3 retries per second and proxy, over 10 s. With few requests per proxy, the 3 dominate, and a first burst may use the retries of 10 s at once. Large fleets of quiet proxies need a lower floor (%[3]sbudget 20%% 0%[3]s).`,
		r.Scenarios[0].Instances, r.Scenarios[0].Rate, "`")
	for _, s := range r.Scenarios {
		p.line("\n## %s", capital(s.Name))
		p.line("\n%s %d endpoints.", s.About, s.Endpoints)
		p.fleetTable(s)
		if err := p.chart(fleetChart(s), "fleet "+s.Name); err != nil {
			return err
		}
	}
	return nil
}

// fleetInShort writes the plugin beside the same fleet without progressive recovery.
func (p *page) fleetInShort(r fleet.Report) error {
	if len(r.Scenarios) == 0 {
		return errors.New("no scenario")
	}
	p.ranOn(r.Machine)
	var rows [][]string
	for _, s := range r.Scenarios {
		for _, v := range s.Results {
			if v.Variant != "failover" && v.Variant != "no progressive recovery" {
				continue
			}
			later := ""
			if v.Overload > 0 {
				later = fmt.Sprintf("%.2f", v.Overload)
			}
			rows = append(rows, []string{capital(s.Name) + ", " + v.Variant, fmt.Sprintf("%.2f %%", 100*float64(v.Failed)/float64(v.Calls)),
				fmt.Sprintf("%.2f", v.Amplification), later, v.EvenAfter.String() + " s"})
		}
	}
	p.table([]string{"", "failed requests", "attempts per request", "highest load after the return, relative to the capacity", "even after"}, rows)
	return nil
}

func (p *page) fleetTable(s fleet.Scenario) {
	var rows [][]string
	for _, v := range s.Results {
		first, later := "", ""
		if v.Overload > 0 {
			first, later = fmt.Sprintf("%.2f", v.OverloadFirst), fmt.Sprintf("%.2f", v.Overload)
		}
		rows = append(rows, []string{v.Variant, fmt.Sprintf("%.2f %%", 100*float64(v.Failed)/float64(v.Calls)), fmt.Sprintf("%.2f", v.Amplification),
			fmt.Sprintf("%.2f", v.AtWorst), first, later, v.EvenAfter.String() + " s"})
	}
	p.table([]string{"", "failed requests", "attempts per request", "in the worst second", "load on return", "later", "even after"}, rows)
}

// fleetChart draws a scenario. The capacity is the same for all variants.
func fleetChart(s fleet.Scenario) chart.Chart {
	load := chart.Panel{Label: "load on the endpoints at fault, by their usual load (dashed: their capacity)", Top: 1.6, Format: chart.Times}
	attempts := chart.Panel{Label: "attempts per request", Top: 3, Format: chart.Times}
	failed := chart.Panel{Label: "failed requests", Top: 1, Format: chart.Percent}
	for _, v := range s.Results {
		series := everySecond(v.Series)
		addLine(&load, v.Variant, series, func(q fleet.Point) (at, value float64) { return q.At, q.Load })
		addLine(&attempts, v.Variant, series, func(q fleet.Point) (at, value float64) { return q.At, q.Attempts })
		addLine(&failed, v.Variant, series, func(q fleet.Point) (at, value float64) { return q.At, q.Failed })
	}
	if len(s.Results) > 0 {
		addLine(&load, "capacity", everySecond(s.Results[0].Series), func(q fleet.Point) (at, value float64) { return q.At, q.Capacity })
		load.Lines[len(load.Lines)-1].Dashed = true
	}
	return chart.Chart{Title: "Fleet: " + s.Name, From: s.From, To: s.To, Panels: []chart.Panel{load, attempts, failed}}
}

// everySecond returns every second point. Half a second is fine enough for a chart.
func everySecond(series []fleet.Point) (some []fleet.Point) {
	for i := 0; i < len(series); i += 2 {
		some = append(some, series[i])
	}
	return some
}
