package chart

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// Sizes in pixels.
const (
	chartWidth  = 860
	panelHeight = 170
	chartLeft   = 64
	chartRight  = 16
	chartHead   = 58
	panelGap    = 34
)

// colours can also be told apart with red-green blindness (Okabe and Ito). The first name
// gets the first colour.
var colours = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"}

// A drawing is the state while a chart is drawn.
type drawing struct {
	strings.Builder
	chart Chart
	names []string
	last  float64 // last second of the chart
}

func (c Chart) draw() string {
	d := &drawing{chart: c, names: c.names(), last: c.last()}
	d.put(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" font-size="12" role="img">`,
		chartWidth, chartHead+len(c.Panels)*(panelHeight+panelGap))
	d.put("<title>%s</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>", html.EscapeString(c.Title))
	d.put(`<text x="%d" y="20" font-size="15" font-weight="600" fill="#222">%s</text>`, chartLeft, html.EscapeString(c.Title))
	d.legend()
	for i, p := range c.Panels {
		d.panel(p, chartHead+i*(panelHeight+panelGap))
	}
	d.put("</svg>")
	return d.String()
}

// put adds a line of SVG.
func (d *drawing) put(format string, args ...any) { fmt.Fprintf(d, format+"\n", args...) }

func (d *drawing) legend() {
	at := chartLeft
	for i, name := range d.names {
		d.put(`<rect x="%d" y="32" width="14" height="4" fill="%s"/><text x="%d" y="39" fill="#222">%s</text>`,
			at, colours[i%len(colours)], at+19, html.EscapeString(name))
		at += 19 + 7*len(name) + 22
	}
}

// x returns the horizontal position of a time in seconds.
func (d *drawing) x(at float64) float64 {
	return chartLeft + (chartWidth-chartLeft-chartRight)*at/d.last
}

// panel draws a panel whose upper edge is at y.
func (d *drawing) panel(p Panel, y int) {
	top := p.top()
	scale := func(value float64) float64 {
		part := value / top
		if p.Log {
			part = math.Log10(max(1, value)) / math.Log10(top)
		}
		return float64(y) + panelHeight*(1-min(1, max(0, part)))
	}
	from, to := d.x(d.chart.From), d.x(d.chart.To)
	d.put(`<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="#f3e9e2"/>`, from, y, to-from, panelHeight)
	for _, value := range p.grid(top) {
		d.put(`<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end" fill="#555">%s</text>`,
			chartLeft, chartWidth-chartRight, scale(value), scale(value), chartLeft-6, scale(value)+4, p.Format(value))
	}
	step := math.Ceil(d.last/15/5) * 5
	if d.last <= 30 {
		step = 2
	}
	for at := 0.0; at <= d.last; at += step {
		d.put(`<text x="%.1f" y="%d" text-anchor="middle" fill="#555">%.0f s</text>`, d.x(at), y+panelHeight+15, at)
	}
	d.put(`<text x="%d" y="%d" fill="#222" font-weight="600">%s</text>`, chartLeft+6, y+14, html.EscapeString(p.Label))
	for _, l := range slices.Backward(p.Lines) { // draw the first line on top
		d.line(l, scale)
	}
}

func (d *drawing) line(l Line, scale func(float64) float64) {
	points := make([]string, len(l.Points))
	for i, p := range l.Points {
		points[i] = fmt.Sprintf("%.1f,%.1f", d.x(p.At), scale(p.Value))
	}
	dash := ""
	if l.Dashed {
		dash = ` stroke-dasharray="5 4"`
	}
	d.put(`<polyline fill="none" stroke="%s" stroke-width="1.8"%s points="%s"/>`,
		colours[slices.Index(d.names, l.Name)%len(colours)], dash, strings.Join(points, " "))
}

// top returns the upper end of the scale.
func (p Panel) top() float64 {
	if !p.Log {
		return p.Top
	}
	top := 10.0
	for _, l := range p.Lines {
		for _, point := range l.Points {
			for point.Value > top {
				top *= 10
			}
		}
	}
	return top
}

// grid returns the values of the panel's grid lines.
func (p Panel) grid(top float64) (values []float64) {
	if p.Log {
		for value := 1.0; value <= top; value *= 10 {
			values = append(values, value)
		}
		return values
	}
	for i := range 5 {
		values = append(values, top*float64(i)/4)
	}
	return values
}
