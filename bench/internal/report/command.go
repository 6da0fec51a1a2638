// Package report writes docs/benchmarks.md and its charts.
package report

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/apifailover/caddy-failover/bench/internal/run"
)

// Command writes the page and its charts from the results of the other commands. It leaves
// out commands that have no results.
func Command(_ context.Context, r *run.Run, args []string) error {
	docs := r.Flags.String("docs", "../docs", "where benchmarks.md goes")
	if err := r.Parse(args); err != nil {
		return err
	}
	p := &page{docs: *docs}
	p.line(`# Benchmarks

%[1]sgo run . report%[1]s in %[1]sbench/%[1]s writes this page from the results of the other commands. You can run them yourself.
Each ends by itself and uses only loopback:

    cd bench
    go run . faults    # failures that clients see while endpoints fail, compared with other proxies
    go run . speed     # CPU, latency, throughput and memory with healthy endpoints
    go run . micro     # Go benchmarks of Select and of circuit breakers
    go run . soak      # mixed traffic, random faults and reloads: 30 minutes
    go run . fleet     # 1,000 proxies in virtual time
    go run . report    # this page

Each accepts %[1]s-short%[1]s (about two minutes) and %[1]s-h%[1]s. Linux only. HAProxy and nginx are skipped if they are not installed.
Where another proxy is better than this plugin, the page says so: search for "better here".`, "`")
	for _, err := range []error{
		part(r, "faults", p.faults),
		part(r, "speed", p.speed),
		part(r, "micro", p.micro),
		part(r, "soak", p.soak),
		part(r, "fleet", p.fleet),
	} {
		if err != nil {
			return err
		}
	}
	path := filepath.Join(*docs, "benchmarks.md")
	run.Say("written: %s", path)
	return os.WriteFile(path, []byte(strings.TrimRight(p.String(), "\n")+"\n"), 0o644)
}

// part writes the part of a command if there are results.
func part[R any](r *run.Run, command string, write func(R) error) error {
	var results R
	err := r.Load(command, &results)
	if errors.Is(err, fs.ErrNotExist) {
		run.Say("notice: %s has no results; the page leaves it out", command)
		return nil
	}
	if err == nil {
		err = write(results)
	}
	if err != nil {
		return fmt.Errorf("reporting %s: %w", command, err)
	}
	return nil
}
