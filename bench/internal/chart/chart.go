// Package chart draws time series as SVG.
package chart

import (
	"fmt"
	"os"
	"path/filepath"
)

// A Chart is one or more panels over the same time.
type Chart struct {
	Title    string
	From, To float64 // start and end of the fault in seconds; shaded
	Panels   []Panel
}

// A Panel is a set of lines with one scale.
type Panel struct {
	Label  string
	Log    bool    // use a logarithmic scale from 1 to the power of ten above all lines
	Top    float64 // upper end of a linear scale, which starts at 0
	Lines  []Line
	Format func(float64) string // formats the numbers of the scale
}

// A Line is a named series. Lines of the same name have the same colour in all panels.
type Line struct {
	Name   string
	Dashed bool
	Points []Point
}

// A Point is a value at a time.
type Point struct{ At, Value float64 } // At is in seconds

// Write writes the chart to a file and creates the file's directory.
func (c Chart) Write(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(c.draw()), 0o644)
}

// names returns the names of all lines in order of appearance.
func (c Chart) names() (names []string) {
	seen := make(map[string]bool)
	for _, p := range c.Panels {
		for _, l := range p.Lines {
			if !seen[l.Name] {
				seen[l.Name] = true
				names = append(names, l.Name)
			}
		}
	}
	return names
}

// last returns the last second of all lines, at least 1.
func (c Chart) last() float64 {
	last := 1.0
	for _, p := range c.Panels {
		for _, l := range p.Lines {
			if n := len(l.Points); n > 0 {
				last = max(last, l.Points[n-1].At)
			}
		}
	}
	return last
}

// Percent formats a ratio, 0 to 1, in percent.
func Percent(value float64) string { return fmt.Sprintf("%.0f %%", 100*value) }

// Millis formats milliseconds, from 1,000 on as seconds.
func Millis(value float64) string {
	if value >= 1000 {
		return fmt.Sprintf("%.0f s", value/1000)
	}
	return fmt.Sprintf("%.0f ms", value)
}

// Times formats a ratio.
func Times(value float64) string { return fmt.Sprintf("%.1f", value) }
