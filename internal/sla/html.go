package sla

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
)

//go:embed report.html
var reportHTML string

// reportTemplates holds the page in each language.
var reportTemplates = func() map[Language]*template.Template {
	all := make(map[Language]*template.Template)
	for _, l := range []Language{English, Chinese} {
		all[l] = template.Must(template.New("report").Funcs(template.FuncMap{
			"achieved":    formatAchieved,
			"budget":      formatBudget,
			"cause":       func(cause string) string { return formatCause(cause, l) },
			"charts":      chartsOf,
			"destination": func(to string) string { return formatDestination(to, l) },
			"duration":    formatDuration,
			"failures":    func(f Failures) string { return formatFailures(f, l) },
			"lang":        func() Language { return l },
			"latency":     formatLatency,
			"met":         formatMet,
			"objective":   func(o Objective) string { return formatObjective(o, l) },
			"percent":     formatPercent,
			"results":     func(rep Report) []Result { return append([]Result{rep.Total}, rep.Endpoints...) },
			"say":         l.say,
			"step":        formatStep,
			"time":        func(t time.Time) string { return l.say(formatTime(t)) },
			"who":         func(endpoint string) string { return formatWho(endpoint, l) },
		}).Parse(reportHTML))
	}
	return all
}()

// WriteHTML writes the report as an HTML page in the report's language. The page needs no other
// file and no script. It suits light and dark screens of any width, and print.
func (rep Report) WriteHTML(w io.Writer) error {
	if err := reportTemplates[cmp.Or(rep.Language, English)].Execute(w, rep); err != nil {
		return fmt.Errorf("writing report: %w", err)
	}
	return nil
}

// A chart is a line in a box of 960 by 120.
type chart struct {
	Title       string
	Note        string // the worst or the last value, in words
	Line, Area  string // SVG paths
	Top, Bottom string // values at the top and the bottom of the box
}

// chartsOf returns the charts of a report that have any points.
func chartsOf(rep Report) (charts []chart) {
	if len(rep.Timeline) == 0 || !rep.To.After(rep.From) {
		return nil
	}
	l := rep.Language
	for _, c := range []*chart{
		rep.availabilityChart(),
		rep.latencyChart(),
		rep.budgetChart(l.say("Error budget left (availability)"), func(p BudgetPoint) float64 { return p.Availability }),
		rep.budgetChart(l.say("Error budget left (latency)"), func(p BudgetPoint) float64 { return p.Latency }),
	} {
		if c != nil {
			charts = append(charts, *c)
		}
	}
	return charts
}

// x returns the position of a time in a chart, 0 to 960.
func (rep Report) x(at time.Time) float64 {
	return 960 * min(1, max(0, at.Sub(rep.From).Seconds()/rep.To.Sub(rep.From).Seconds()))
}

// availabilityChart returns nil if no step has calls.
func (rep Report) availabilityChart() *chart {
	var points []point
	worst := rep.Timeline[0]
	for _, one := range rep.Timeline {
		if one.Calls == 0 {
			continue
		}
		points = append(points, point{rep.x(one.Start), one.Availability()})
		if one.Availability() < worst.Availability() {
			worst = one
		}
	}
	if len(points) == 0 {
		return nil
	}
	floor := 0.0
	for _, f := range []float64{0.99, 0.9, 0.5} {
		if worst.Availability() >= f {
			floor = f
			break
		}
	}
	say := rep.Language.say
	c := &chart{Title: say("Availability"), Top: "100%", Bottom: formatShare(floor)}
	c.Note = say("%s at worst, in the %s from %s", formatPercent(worst.Availability()), formatStep(Duration(rep.ChartStep)), formatTime(worst.Start))
	c.draw(points, floor, 1)
	return c
}

// latencyChart returns nil if no step has a latency.
func (rep Report) latencyChart() *chart {
	var points []point
	slowest := rep.Timeline[0]
	for _, one := range rep.Timeline {
		if one.P95 == 0 {
			continue
		}
		points = append(points, point{rep.x(one.Start), one.P95.Seconds()})
		if one.P95 > slowest.P95 {
			slowest = one
		}
	}
	if len(points) == 0 {
		return nil
	}
	say := rep.Language.say
	c := &chart{Title: say("Latency (p95)"), Top: formatLatency(Duration(slowest.P95)), Bottom: "0"}
	c.Note = say("%s at worst, in the %s from %s", c.Top, formatStep(Duration(rep.ChartStep)), formatTime(slowest.Start))
	c.draw(points, 0, slowest.P95.Seconds())
	return c
}

// budgetChart returns the chart of an error budget, or nil if it has no objective.
func (rep Report) budgetChart(title string, left func(BudgetPoint) float64) *chart {
	var points []point
	floor := 0.0
	for _, p := range rep.Budget {
		if v := left(p); !math.IsNaN(v) {
			points = append(points, point{rep.x(p.At), v})
			floor = min(floor, v)
		}
	}
	if len(points) == 0 {
		return nil
	}
	c := &chart{Title: title, Top: "100%", Bottom: formatShare(math.Floor(floor*100) / 100)}
	end := points[len(points)-1].y
	c.Note = rep.Language.say("%s at the end", strconv.FormatFloat(math.Floor(end*1e3+1e-6)/10, 'f', 1, 64)+"%")
	c.draw(points, floor, 1)
	return c
}

type point struct{ x, y float64 }

// draw sets the paths. bottom and top are the values at the edges of the box.
func (c *chart) draw(points []point, bottom, top float64) {
	if top <= bottom {
		top = bottom + 1
	}
	if len(points) == 1 { // draw a short line for a single step
		points = append(points, point{min(960, points[0].x+10), points[0].y})
	}
	var line strings.Builder
	for i, p := range points {
		letter := "L"
		if i == 0 {
			letter = "M"
		}
		y := 120 * (1 - min(1, max(0, (p.y-bottom)/(top-bottom))))
		fmt.Fprintf(&line, "%s%.1f %.1f", letter, p.x, y)
	}
	c.Line = line.String()
	c.Area = fmt.Sprintf("%sL%.1f 120L%.1f 120Z", c.Line, points[len(points)-1].x, points[0].x)
}
