package chart

import (
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWrite checks that the SVG is well-formed whatever the names contain, and that lines
// of one name have one colour.
func TestWrite(t *testing.T) {
	ours := Line{Name: "a <b> & c", Points: []Point{{0, 0.5}, {10, 1}}}
	other := Line{Name: "other", Dashed: true, Points: []Point{{0, 1200}, {10, 1}}}
	c := Chart{Title: "30 % & more", From: 2, To: 4, Panels: []Panel{
		{Label: "part", Top: 1, Format: Percent, Lines: []Line{ours, other}},
		{Label: "latency", Log: true, Format: Millis, Lines: []Line{other, ours}},
		{Label: "empty", Top: 3, Format: Times},
	}}
	path := filepath.Join(t.TempDir(), "charts", "a.svg")
	if err := c.Write(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := make(map[string]int) // number of lines by colour
	for d := xml.NewDecoder(strings.NewReader(string(text))); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "polyline" {
			for _, a := range e.Attr {
				if a.Name.Local == "stroke" {
					lines[a.Value]++
				}
			}
		}
	}
	if len(lines) != 2 || lines[colours[0]] != 2 || lines[colours[1]] != 2 {
		t.Errorf("lines by colour: %v, want two of each of the first two", lines)
	}
	if top := c.Panels[1].top(); top != 10000 {
		t.Errorf("the logarithmic scale ends at %v, want 10000", top)
	}
}
