package main

import (
	"fmt"
	"html"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// A chart is one or more panels over the same seconds, drawn as SVG.
type chart struct {
	title    string
	from, to float64 // seconds of the fault, shaded
	panels   []panel
}

// A panel is a set of lines over one scale.
type panel struct {
	label  string
	log    bool    // logarithmic, from 1
	top    float64 // of a linear scale
	lines  []line
	format func(float64) string
}

// A line is a series of one name; equal names have equal colours in all panels.
type line struct {
	name   string
	dashed bool
	points [][2]float64 // seconds, value
}

const (
	chartWidth  = 860
	panelHeight = 170
	chartLeft   = 64
	chartRight  = 16
	chartHead   = 58
	panelGap    = 34
)

// colours that also differ for eyes that do not tell red from green (Okabe and
// Ito), the project's own first.
var colours = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"}

// write draws the chart into a file.
func (c chart) write(path string) error {
	var b strings.Builder
	height := chartHead + len(c.panels)*(panelHeight+panelGap)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" font-size="12" role="img">`+"\n",
		chartWidth, height)
	fmt.Fprintf(&b, "<title>%s</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n", html.EscapeString(c.title))
	fmt.Fprintf(&b, `<text x="%d" y="20" font-size="15" font-weight="600" fill="#222">%s</text>`+"\n", chartLeft, html.EscapeString(c.title))
	names, last := c.names()
	at := chartLeft
	for i, name := range names {
		fmt.Fprintf(&b, `<rect x="%d" y="32" width="14" height="4" fill="%s"/><text x="%d" y="39" fill="#222">%s</text>`+"\n",
			at, colours[i%len(colours)], at+19, html.EscapeString(name))
		at += 19 + 7*len(name) + 22
	}
	for i, p := range c.panels {
		p.draw(&b, c, chartHead+i*(panelHeight+panelGap), names, last)
	}
	b.WriteString("</svg>\n")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

// names are those of all lines, in order, and the last second of any.
func (c chart) names() (names []string, last float64) {
	seen := make(map[string]bool)
	for _, p := range c.panels {
		for _, l := range p.lines {
			if !seen[l.name] {
				seen[l.name] = true
				names = append(names, l.name)
			}
			if n := len(l.points); n > 0 {
				last = max(last, l.points[n-1][0])
			}
		}
	}
	return names, max(last, 1)
}

func (p panel) draw(b *strings.Builder, c chart, y int, names []string, last float64) {
	width := float64(chartWidth - chartLeft - chartRight)
	x := func(at float64) float64 { return chartLeft + width*at/last }
	top := p.top
	if p.log {
		top = 10
		for _, l := range p.lines {
			for _, point := range l.points {
				for point[1] > top {
					top *= 10
				}
			}
		}
	}
	scale := func(value float64) float64 {
		part := value / top
		if p.log {
			part = math.Log10(max(1, value)) / math.Log10(top)
		}
		return float64(y) + panelHeight*(1-min(1, max(0, part)))
	}
	fmt.Fprintf(b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="#f3e9e2"/>`+"\n", x(c.from), y, x(c.to)-x(c.from), panelHeight)
	grid := func(value float64) {
		fmt.Fprintf(b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end" fill="#555">%s</text>`+"\n",
			chartLeft, chartWidth-chartRight, scale(value), scale(value), chartLeft-6, scale(value)+4, p.format(value))
	}
	if p.log {
		for value := 1.0; value <= top; value *= 10 {
			grid(value)
		}
	} else {
		for i := range 5 {
			grid(top * float64(i) / 4)
		}
	}
	step := math.Ceil(last/15/5) * 5
	if last <= 30 {
		step = 2
	}
	for at := 0.0; at <= last; at += step {
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle" fill="#555">%.0f s</text>`+"\n", x(at), y+panelHeight+15, at)
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" fill="#222" font-weight="600">%s</text>`+"\n", chartLeft+6, y+14, html.EscapeString(p.label))
	// the first name is drawn last, on top
	for i := len(p.lines) - 1; i >= 0; i-- {
		l := p.lines[i]
		var points strings.Builder
		for _, point := range l.points {
			fmt.Fprintf(&points, "%.1f,%.1f ", x(point[0]), scale(point[1]))
		}
		dash := ""
		if l.dashed {
			dash = ` stroke-dasharray="5 4"`
		}
		for n, name := range names {
			if name == l.name {
				fmt.Fprintf(b, `<polyline fill="none" stroke="%s" stroke-width="1.8"%s points="%s"/>`+"\n",
					colours[n%len(colours)], dash, strings.TrimSpace(points.String()))
			}
		}
	}
}

func percent(value float64) string { return fmt.Sprintf("%.0f %%", 100*value) }
func millis(value float64) string {
	if value >= 1000 {
		return fmt.Sprintf("%.0f s", value/1000)
	}
	return fmt.Sprintf("%.0f ms", value)
}
func times(value float64) string { return fmt.Sprintf("%.1f", value) }

// slug is a name fit for a file.
func slug(name string) string {
	return strings.Trim(strings.NewReplacer(" ", "-", "%", "percent", "--", "-").Replace(strings.ToLower(name)), "-")
}
