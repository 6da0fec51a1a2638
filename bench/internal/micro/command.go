// Package micro compares Go benchmarks of the plugin and of other circuit breakers.
package micro

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/apifailover/caddy-failover/bench/internal/run"
)

// A Report is the saved result of the command.
type Report struct {
	Machine  run.Machine `json:"machine"`
	Rounds   int         `json:"rounds"`
	Subjects []Subject   `json:"subjects"`
	Rows     []Row       `json:"rows"`
}

// A Subject is benchstat's output for one kind of benchmark.
type Subject struct {
	Name      string `json:"name"`
	Benchstat string `json:"benchstat"`
}

// breakersDir is the directory with the benchmarks of other circuit breakers, relative to
// the bench directory.
const breakersDir = "internal/breakers"

// comparePrefix is the prefix of benchmarks to compare. The results omit it.
const comparePrefix = "BenchmarkCompare"

// Command runs the benchmarks of both packages in turn, round after round.
func Command(ctx context.Context, r *run.Run, args []string) error {
	rounds := r.Flags.Int("rounds", 0, "rounds (default 10, short 6)")
	if err := r.Parse(args); err != nil {
		return err
	}
	run.Default(r, rounds, 10, 6)
	var lasting string // duration of each benchmark
	run.Default(r, &lasting, "100ms", "20ms")
	var binaries []string
	for i, dir := range []string{run.CallDir, breakersDir} {
		binary, err := r.BuildTest(ctx, dir, fmt.Sprintf("bench%d.test", i))
		if err != nil {
			return err
		}
		binaries = append(binaries, binary)
	}
	var lines bytes.Buffer
	for round := range *rounds {
		run.Say("round %d of %d", round+1, *rounds)
		for _, binary := range binaries {
			if err := benchmark(ctx, binary, lasting, &lines); err != nil {
				return fmt.Errorf("running the benchmarks: %w", err)
			}
		}
	}
	raw := filepath.Join(r.Out, "micro.txt")
	if err := os.WriteFile(raw, lines.Bytes(), 0o644); err != nil {
		return err
	}
	report := Report{Machine: r.Machine(), Rounds: *rounds, Rows: medians(lines.String())}
	for _, by := range []struct{ subject, column string }{{"Select", "/policy"}, {"Breaker", "/breaker"}} {
		text, err := benchstat(ctx, r, by.subject, by.column, raw)
		if err != nil {
			return fmt.Errorf("benchstat of %s: %w", by.subject, err)
		}
		fmt.Printf("\n%s\n%s", by.subject, text)
		report.Subjects = append(report.Subjects, Subject{by.subject, text})
	}
	return r.Save(report)
}

// benchmark runs the benchmarks of a test binary on one core and on two, and appends their
// output to lines.
func benchmark(ctx context.Context, binary, lasting string, lines *bytes.Buffer) error {
	text, err := exec.CommandContext(ctx, binary, "-test.run=^$", "-test.bench=^"+comparePrefix, "-test.cpu=1,2",
		"-test.benchtime="+lasting).Output()
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, benchmarkPrefix) {
			lines.WriteString(strings.Replace(line, comparePrefix, benchmarkPrefix, 1))
		}
	}
	return nil
}

// benchstat compares the benchmarks of a subject in a file, with one column for each value
// of a part of their names.
func benchstat(ctx context.Context, r *run.Run, subject, column, file string) (string, error) {
	cmd := r.Go(ctx, "tool", "benchstat", "-filter", ".name:"+subject+" .unit:ns/op", "-row", ".fullname", "-col", column, file)
	cmd.Env = append(cmd.Env, "LC_ALL=C.UTF-8")
	text, err := cmd.Output()
	return string(text), err
}
