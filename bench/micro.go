package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// micro runs the Go benchmarks of the plugin and those of other breakers in
// turns, and lets benchstat set them side by side.
func micro(b *bench, args []string) error {
	rounds := b.flags.Int("rounds", 0, "rounds (default 10, short 6)")
	if err := b.parse(args); err != nil {
		return err
	}
	if *rounds == 0 {
		*rounds = 10
		if b.short {
			*rounds = 6
		}
	}
	lasting := "100ms"
	if b.short {
		lasting = "20ms"
	}
	var binaries []string
	for _, dir := range []string{"..", "micro"} {
		binary, err := b.buildTest(dir, fmt.Sprintf("bench%d.test", len(binaries)))
		if err != nil {
			return err
		}
		binaries = append(binaries, binary)
	}
	raw := filepath.Join(b.out, "micro.txt")
	all, err := os.Create(raw)
	if err != nil {
		return err
	}
	defer all.Close()
	for round := range *rounds {
		say("round %d of %d", round+1, *rounds)
		for _, binary := range binaries {
			text, err := exec.CommandContext(b.ctx, binary, "-test.run=^$", "-test.bench=^BenchmarkCompare", "-test.cpu=1,2",
				"-test.benchtime="+lasting).Output()
			if err != nil {
				return fmt.Errorf("running the benchmarks: %w", err)
			}
			for line := range strings.Lines(string(text)) {
				if strings.HasPrefix(line, "Benchmark") {
					fmt.Fprint(all, strings.Replace(line, "BenchmarkCompare", "Benchmark", 1))
				}
			}
		}
	}
	report := microReport{Machine: b.machine(), Rounds: *rounds}
	for _, by := range []struct{ subject, column string }{{"Select", "/policy"}, {"Breaker", "/breaker"}} {
		cmd := b.command("tool", "benchstat", "-filter", ".name:"+by.subject+" .unit:ns/op",
			"-row", ".fullname", "-col", by.column, raw)
		cmd.Env = append(cmd.Env, "LC_ALL=C.UTF-8")
		text, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("benchstat of %s: %w", by.subject, err)
		}
		fmt.Printf("\n%s\n%s", by.subject, text)
		report.Subjects = append(report.Subjects, microSubject{by.subject, string(text)})
	}
	report.Rows = microRows(raw)
	return b.save("micro", report)
}

type microReport struct {
	Machine  machine        `json:"machine"`
	Rounds   int            `json:"rounds"`
	Subjects []microSubject `json:"subjects"`
	Rows     []microRow     `json:"rows"`
}

type microSubject struct {
	Name      string `json:"name"`
	Benchstat string `json:"benchstat"`
}

// A microRow is a benchmark's median.
type microRow struct {
	Name   string  `json:"name"`
	Cores  int     `json:"cores"`
	Nanos  float64 `json:"ns_per_op"`
	Allocs float64 `json:"allocs_per_op"`
}

// microRows reads go test's lines: name-cores, count, then values and units.
func microRows(path string) (rows []microRow) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	nanos, allocs := make(map[string][]float64), make(map[string][]float64)
	var names []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		for i := 2; i+1 < len(fields); i += 2 {
			value, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				continue
			}
			switch fields[i+1] {
			case "ns/op":
				if nanos[fields[0]] == nil {
					names = append(names, fields[0])
				}
				nanos[fields[0]] = append(nanos[fields[0]], value)
			case "allocs/op":
				allocs[fields[0]] = append(allocs[fields[0]], value)
			}
		}
	}
	for _, full := range names {
		name, cores := strings.TrimPrefix(full, "Benchmark"), 1
		if base, ok := strings.CutSuffix(name, "-2"); ok {
			name, cores = base, 2
		}
		rows = append(rows, microRow{name, cores, median(nanos[full]), median(allocs[full])})
	}
	return rows
}
