package failover

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// A figure is a number with its unit, such as "20 %"; a ratio has the unit "times".
type figure struct{ number, unit string }

var (
	figurePattern = regexp.MustCompile(`(\d[\d,]*(?:\.\d+)?) ?(%|ms|µs|ns|times|倍)(?:[^\w]|$)`)
	// measured matches a sentence about the result of a measurement.
	measured = regexp.MustCompile(`(?i)\bCPU\b|\bp(50|95|99)\b|\b(faster|slower|cheaper|overhead|measured|tests?)\b|µs|\bns\b|times the|倍`)
)

// exempt are figures that a document computes from others, or that a test checks, with the reason.
var exempt = map[string]map[figure]string{
	"SECURITY.md": {
		{"1.2", "times"}: "TestUploadsTakeMemoryForReceivedBytes",
	},
	"docs/configuration.md": {
		{"98", "%"}: "a limit less the fiftieth that may go out at once",
		{"70", "%"}: "example of overflow", {"30", "%"}: "example of overflow",
		{"14", "%"}: "example of overflow", {"86", "%"}: "example of overflow",
	},
	"docs/sla.md": {
		{"0.1", "%"}: "example of an objective",
	},
}

// figures returns the figures in a text. A ratio needs a decimal point, because "4 times" is a count.
func figures(text string) (list []figure) {
	for _, m := range figurePattern.FindAllStringSubmatch(text, -1) {
		unit := m[2]
		if unit == "倍" {
			unit = "times"
		}
		if unit == "times" && !strings.Contains(m[1], ".") {
			continue
		}
		list = append(list, figure{strings.ReplaceAll(m[1], ",", ""), unit})
	}
	return list
}

// TestFiguresHaveASource checks that every figure in the documents is in the source code (a default, a
// bound) or in a table of the benchmarks. Measured figures in the READMEs, the changelog and pages about
// cost must be in a table.
func TestFiguresHaveASource(t *testing.T) {
	tables := benchmarkFigures(t)
	constants := sourceFigures(t)
	for _, file := range documents(t) {
		if strings.HasPrefix(file, "docs/benchmarks") || file == referenceFile {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		claims := !strings.HasPrefix(file, "docs/") || file == "docs/comparison.md" || file == "docs/sla.md"
		prose := regexp.MustCompile("`[^`\n]*`").ReplaceAllString(withoutFences(string(text)), "")
		prose = regexp.MustCompile(`\n([^\n|#-])`).ReplaceAllString(prose, " $1") // paragraphs become lines
		for sentence := range strings.FieldsFuncSeq(strings.ReplaceAll(prose, ". ", "\n"), func(c rune) bool { return strings.ContainsRune("\n|;；。", c) }) {
			for _, f := range figures(sentence) {
				switch {
				case tables[f], exempt[file][f] != "":
				case claims && measured.MatchString(sentence):
					t.Errorf("%s: docs/benchmarks.md has no row for %s %s: %q", file, f.number, f.unit, strings.TrimSpace(sentence))
				case !constants[f]:
					t.Errorf("%s: neither the source nor a table of docs/benchmarks has %s %s: %q", file, f.number, f.unit, strings.TrimSpace(sentence))
				}
			}
		}
	}
}

// benchmarkFigures returns the figures in the tables of docs/benchmarks.md and docs/benchmarks. It
// checks that every page, and every section of docs/benchmarks.md with a table, names the commit at
// which it was measured.
func benchmarkFigures(t *testing.T) map[figure]bool {
	t.Helper()
	pages, err := filepath.Glob("docs/benchmarks/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal("docs/benchmarks has no pages", err)
	}
	commit := regexp.MustCompile(`Measured [^|]*?: plugin [0-9a-f]{7}`)
	set := make(map[figure]bool)
	for _, page := range append(pages, "docs/benchmarks.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		sections := []string{string(text)}
		if page == "docs/benchmarks.md" {
			sections = regexp.MustCompile(`(?m)^## `).Split(string(text), -1)
		}
		for _, section := range sections {
			rows := regexp.MustCompile(`(?m)^\|.*$`).FindAllString(section, -1)
			if len(rows) > 0 && !commit.MatchString(section) {
				title, _, _ := strings.Cut(section, "\n")
				t.Errorf("%s: %s does not say at which commit it was measured", page, title)
			}
			for _, row := range rows {
				for _, f := range figures(row) {
					set[f] = true
				}
				for cell := range strings.SplitSeq(row, "|") {
					if cell = strings.TrimSpace(cell); regexp.MustCompile(`^\d+\.\d+$`).MatchString(cell) {
						set[figure{cell, "times"}] = true
						if short := regexp.MustCompile(`^\d+\.\d\d`).FindString(cell); short != "" {
							set[figure{short, "times"}] = true
						}
					}
				}
			}
		}
	}
	return set
}

// sourceFigures returns the figures in the source: in comments and texts, as durations, and as ratios.
func sourceFigures(t *testing.T) map[figure]bool {
	t.Helper()
	set := make(map[figure]bool)
	for _, file := range sources(t) {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := string(source)
		for _, f := range figures(text) {
			set[f] = true
		}
		for _, m := range regexp.MustCompile(`(\d+) ?\* ?time\.Millisecond`).FindAllStringSubmatch(text, -1) {
			set[figure{m[1], "ms"}] = true
		}
		for _, m := range regexp.MustCompile(`\b(0\.\d+)\b`).FindAllStringSubmatch(text, -1) {
			if ratio, err := strconv.ParseFloat(m[1], 64); err == nil {
				set[figure{strconv.FormatFloat(100*ratio, 'g', 4, 64), "%"}] = true
			}
		}
	}
	return set
}
