package report

import (
	"errors"
	"fmt"

	"github.com/apifailover/caddy-failover/bench/internal/chart"
	"github.com/apifailover/caddy-failover/bench/internal/fleet"
)

// fleet writes what the simulation came to.
func (p *page) fleet(r fleet.Report) error {
	if len(r.Scenarios) == 0 {
		return errors.New("no scenario")
	}
	p.line("\n## Fleet")
	p.ranOn(r.Machine)
	p.line(`
A simulation under virtual time: %d proxies with the plugin's real breakers, budgets, scores and tables, %.0f calls a second each, in front of endpoints whose capacity is
finite: what is above it is refused at once with a 503. No active checks. The same fleet without the retry budget, without progressive recovery (an endpoint that passes its trial
gets everything at once), and with a slow start over a fixed 10 s instead. "Attempts per call" are of the time of the fault and of the worst second; "load on return" is the most that the endpoints at
fault got in a second, as a part of the capacity they had in it: in the first second after their return, and from then on. "Even" is when they carry 90 %% of their usual load again.
The budget allows 20 %% of the calls plus 3 a second per proxy, over 10 s: with few calls per proxy the 3 weigh most, and a first burst may use 10 s' worth at once. Large fleets of quiet proxies want a lower floor (%[3]sbudget 20%% 0%[3]s).`,
		r.Scenarios[0].Instances, r.Scenarios[0].Rate, "`")
	for _, s := range r.Scenarios {
		p.line("\n### %s", capital(s.Name))
		p.line("\n%s %d endpoints.", s.About, s.Endpoints)
		p.fleetTable(s)
		if err := p.chart(fleetChart(s), "fleet "+s.Name); err != nil {
			return err
		}
	}
	p.line("Better here: without progressive recovery an endpoint that is well at once has its load sooner, and a fixed slow start is sooner in some scenarios. Ours lets shares grow by what has been learnt: with 20 calls a second a proxy takes some 12 s for a full return, one with 200 takes 3 s. A cold endpoint stays within the bound that this project sets itself, at most 1.2 of its capacity from a second after the return, where proxies have up to 20 calls a second. With 50 or more they grow faster and go past it in the cold return, up to 1.4 for a second, since the endpoint takes a quarter of a second's capacity in a burst before it refuses anything. No client notices: refused calls go elsewhere.")
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
	p.table([]string{"", "failed calls", "attempts per call", "in the worst second", "load on return", "later", "even after"}, rows)
}

// fleetChart draws a scenario. The capacity is the same for all variants.
func fleetChart(s fleet.Scenario) chart.Chart {
	load := chart.Panel{Label: "load on the endpoints at fault, by their usual load (dashed: their capacity)", Top: 1.6, Format: chart.Times}
	attempts := chart.Panel{Label: "attempts per call", Top: 3, Format: chart.Times}
	failed := chart.Panel{Label: "failed calls", Top: 1, Format: chart.Percent}
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

// everySecond returns every second point: half a second is fine enough to look at.
func everySecond(series []fleet.Point) (some []fleet.Point) {
	for i := 0; i < len(series); i += 2 {
		some = append(some, series[i])
	}
	return some
}
