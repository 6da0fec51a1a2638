package report

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/apifailover/caddy-failover/bench/internal/chart"
	"github.com/apifailover/caddy-failover/bench/internal/run"
)

// A page is the report while it is written.
type page struct {
	strings.Builder
	docs string // directory of docs/benchmarks.md
}

// line adds a line.
func (p *page) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

// table adds a Markdown table. The first column is text; the others are right-aligned
// numbers.
func (p *page) table(head []string, rows [][]string) {
	p.line("\n| %s |\n|---%s|", strings.Join(head, " | "), strings.Repeat("|---:", len(head)-1))
	for _, row := range rows {
		p.line("| %s |", strings.Join(row, " | "))
	}
	p.line("")
}

// chart adds a chart. name is the base of its file name.
func (p *page) chart(c chart.Chart, name string) error {
	path := filepath.Join("charts", slug(name)+".svg")
	p.line("![%s](../%s)\n", c.Title, path)
	return c.Write(filepath.Join(p.docs, path))
}

// ranOn adds when and where a part was measured.
func (p *page) ranOn(m run.Machine) {
	var versions []string
	for _, name := range run.Versioned() {
		if v := m.Versions[name]; v != "" {
			versions = append(versions, name+" "+strings.TrimPrefix(v, "go"))
		}
	}
	short := ""
	if m.Short {
		short = " A short run."
	}
	p.line("\nMeasured %s on %d cores of %s, Linux %s: %s.%s", m.Date, m.Cores, m.CPU, m.Kernel, strings.Join(versions, ", "), short)
}

// about adds the description of each proxy.
func (p *page) about(proxies []string, about map[string]string) {
	p.line("")
	for _, name := range proxies {
		p.line("- **%s**: %s", name, about[name])
	}
}

// slug converts a name to a part of a file name.
func slug(name string) string {
	return strings.Trim(strings.NewReplacer(" ", "-", "/", "-", "%", "percent", "--", "-").Replace(strings.ToLower(name)), "-")
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// addLine adds a series to a panel as a line.
func addLine[P any](to *chart.Panel, name string, series []P, of func(P) (at, value float64)) {
	l := chart.Line{Name: name}
	for _, p := range series {
		at, value := of(p)
		l.Points = append(l.Points, chart.Point{At: at, Value: value})
	}
	to.Lines = append(to.Lines, l)
}
