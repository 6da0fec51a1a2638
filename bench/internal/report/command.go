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

// Command writes the page and its charts from the results of the other commands.
// It leaves out what was not run.
func Command(_ context.Context, r *run.Run, args []string) error {
	docs := r.Flags.String("docs", "../docs", "where benchmarks.md goes")
	if err := r.Parse(args); err != nil {
		return err
	}
	p := &page{docs: *docs}
	p.line(`# Benchmarks

Written by %[1]sgo run . report%[1]s in %[1]sbench/%[1]s from what its other commands measured; run them yourself, each
stops by itself and uses loopback only:

    cd bench
    go run . faults    # failures that clients see while endpoints fail, beside other proxies
    go run . speed     # CPU, latency, throughput and memory while all is well
    go run . micro     # Go benchmarks of Select and of circuit breakers
    go run . soak      # mixed traffic, random faults and reloads: 30 minutes
    go run . fleet     # 1,000 proxies under virtual time
    go run . report    # this page

Each takes %[1]s-short%[1]s (about two minutes) and %[1]s-h%[1]s. Linux only. HAProxy and nginx are left out where they are not installed.
Where another proxy is better than this plugin, the page says so in its own words: look for "better here".`, "`")
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

// part writes the part of a command, if it has been run.
func part[R any](r *run.Run, command string, write func(R) error) error {
	var results R
	err := r.Load(command, &results)
	if errors.Is(err, fs.ErrNotExist) {
		run.Say("notice: %s has not been run; the page is without it", command)
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
