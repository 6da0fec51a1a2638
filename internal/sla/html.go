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
	for _, language := range []Language{English, Chinese} {
		say := language.say
		all[language] = template.Must(template.New("report").Funcs(template.FuncMap{
			"achieved":    formatAchieved,
			"budget":      formatBudget,
			"cause":       func(text string) string { return formatCauseIn(text, language) },
			"charts":      chartsOf,
			"destination": func(to string) string { return cmp.Or(to, say("other endpoints")) },
			"duration":    formatDuration,
			"failures":    func(f Failures) string { return formatFailuresIn(f, language) },
			"lang":        func() Language { return language },
			"latency":     formatLatency,
			"met":         formatMet,
			"objective":   func(o Objective) string { return formatObjectiveIn(o, language) },
			"percent":     formatPercent,
			"results":     func(rep Report) []Result { return append([]Result{rep.Total}, rep.Endpoints...) },
			"say":         say,
			"step":        formatStep,
			"time":        func(t time.Time) string { return say(formatTime(t)) },
			"who":         func(endpoint string) string { return cmp.Or(endpoint, say("whole pool")) },
		}).Parse(reportHTML))
	}
	return all
}()

// WriteHTML writes the report as a self-contained HTML page in the report's language,
// without scripts, for light and dark screens of any width and for print.
func (rep Report) WriteHTML(w io.Writer) error {
	if err := reportTemplates[cmp.Or(rep.Language, English)].Execute(w, rep); err != nil {
		return fmt.Errorf("writing report: %w", err)
	}
	return nil
}

func formatFailuresIn(f Failures, language Language) string {
	var parts []string
	for i, n := range f {
		if n > 0 {
			parts = append(parts, language.say((Dial+Kind(i)).String())+" "+strconv.FormatUint(n, 10))
		}
	}
	return cmp.Or(strings.Join(parts, language.say(", ")), unknown)
}

func formatObjectiveIn(o Objective, language Language) string {
	var parts []string
	if o.Availability > 0 {
		parts = append(parts, language.say("%s of requests succeed", formatShare(o.Availability)))
	}
	if o.LatencyTarget > 0 {
		parts = append(parts, language.say("%s of successes within %s", formatShare(o.LatencyQuantile), o.LatencyTarget.String()))
	}
	return cmp.Or(strings.Join(parts, language.say(", ")), language.say("none"))
}

// A chart is a line in a box of 960 by 120, whose top and bottom stand for two values.
type chart struct {
	Title       string
	Note        string // what the line comes to, in words
	Line, Area  string // SVG paths
	Top, Bottom string
}

// chartsOf returns the charts of a report. It has none without calls.
func chartsOf(rep Report) []chart {
	say := rep.Language.say
	span := rep.To.Sub(rep.From).Seconds()
	if len(rep.Timeline) == 0 || span <= 0 {
		return nil
	}
	x := func(at time.Time) float64 { return 960 * min(1, max(0, at.Sub(rep.From).Seconds()/span)) }
	var availability, latency []point
	worst, slowest := rep.Timeline[0], rep.Timeline[0]
	for _, one := range rep.Timeline {
		if one.Calls > 0 {
			availability = append(availability, point{x(one.Start), one.Availability()})
			if one.Availability() < worst.Availability() {
				worst = one
			}
		}
		if one.P95 > 0 {
			latency = append(latency, point{x(one.Start), one.P95.Seconds()})
			if one.P95 > slowest.P95 {
				slowest = one
			}
		}
	}
	var charts []chart
	if len(availability) > 0 {
		floor := 0.0
		for _, f := range []float64{0.99, 0.9, 0.5} {
			if worst.Availability() >= f {
				floor = f
				break
			}
		}
		c := chart{Title: say("Availability"), Top: "100%", Bottom: formatShare(floor)}
		c.Note = say("%s at worst, at %s", formatPercent(worst.Availability()), formatTime(worst.Start))
		c.draw(availability, floor, 1)
		charts = append(charts, c)
	}
	if len(latency) > 0 {
		c := chart{Title: say("Latency (p95)"), Top: formatLatency(Duration(slowest.P95)), Bottom: "0"}
		c.Note = say("%s at worst, at %s", c.Top, formatTime(slowest.Start))
		c.draw(latency, 0, slowest.P95.Seconds())
		charts = append(charts, c)
	}
	for _, b := range []struct {
		title string
		of    func(BudgetPoint) float64
	}{
		{"Error budget left (availability)", func(p BudgetPoint) float64 { return p.Availability }},
		{"Error budget left (latency)", func(p BudgetPoint) float64 { return p.Latency }},
	} {
		var left []point
		floor := 0.0
		for _, p := range rep.Budget {
			if v := b.of(p); !math.IsNaN(v) {
				left = append(left, point{x(p.At), v})
				floor = min(floor, v)
			}
		}
		if len(left) == 0 {
			continue
		}
		c := chart{Title: say(b.title), Top: "100%", Bottom: formatShare(math.Floor(floor*100) / 100)}
		c.Note = say("%s at the end", strconv.FormatFloat(math.Floor(left[len(left)-1].y*1e3+1e-6)/10, 'f', 1, 64)+"%")
		c.draw(left, floor, 1)
		charts = append(charts, c)
	}
	return charts
}

type point struct{ x, y float64 }

// draw makes the paths. The box is [bottom, top] high.
func (c *chart) draw(points []point, bottom, top float64) {
	if top <= bottom {
		top = bottom + 1
	}
	if len(points) == 1 { // a step has a width
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
