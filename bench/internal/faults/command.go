// Package faults counts the failures that clients of proxies see while endpoints fail.
package faults

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/peers"
	"github.com/apifailover/caddy-failover/bench/internal/run"
)

// A Report is the saved result of the command.
type Report struct {
	Machine run.Machine       `json:"machine"`
	About   map[string]string `json:"about"` // descriptions of the peers
	Rate    int               `json:"rate"`  // requests per second at each peer
	Course  Course            `json:"course"`
	Tables  []Table           `json:"tables"`
}

// A Course holds the durations of a script's parts.
type Course struct {
	Before time.Duration `json:"before_ns"` // time before the fault
	During time.Duration `json:"during_ns"`
	After  time.Duration `json:"after_ns"`
}

func (c Course) whole() time.Duration { return c.Before + c.During + c.After }

// heal returns the time at which the fault ends.
func (c Course) heal() time.Duration { return c.Before + c.During }

// Command plays every script against every peer. The peers of a script run at the same
// time, each with its own endpoints and clients, so they share the same machine conditions.
func Command(ctx context.Context, r *run.Run, args []string) error {
	rate := r.Flags.Int("rate", 200, "requests per second at each proxy")
	only := r.Flags.String("only", "", "comma-separated names of the faults to play (default all); earlier results of the others are kept")
	who := r.Flags.String("peers", "", "comma-separated names of the proxies to compare (default all)")
	if err := r.Parse(args); err != nil {
		return err
	}
	report := Report{
		Machine: r.Machine(), About: make(map[string]string), Rate: *rate,
		Course: Course{3 * time.Second, 8 * time.Second, 15 * time.Second},
	}
	if r.Short {
		report.Course = Course{1500 * time.Millisecond, 3 * time.Second, 6 * time.Second}
	}
	caddy, err := r.BuildCaddy(ctx)
	if err != nil {
		return err
	}
	launcher := peers.Launcher{Dir: r.Dir, Caddy: caddy}
	if *only != "" {
		if err := report.keep(r); err != nil {
			return err
		}
	}
	say := once(run.Say)
	for _, s := range scripts {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), s.name) {
			continue
		}
		chosen, err := peers.Choose(s.peers(), *who, say)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		maps.Copy(report.About, peers.About(chosen))
		table, err := s.compare(ctx, launcher, chosen, *rate, report.Course)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		machine := report.Machine
		table.Machine = &machine
		report.put(table)
		table.print()
	}
	return r.Save(report)
}

// keep adds the tables of an earlier run, if there is one.
func (r *Report) keep(from *run.Run) error {
	var earlier Report
	err := from.Load(from.Flags.Name(), &earlier)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	r.Tables = append(r.Tables, earlier.Tables...)
	maps.Copy(r.About, earlier.About)
	return err
}

// put adds a table in the order of the scripts. It replaces an earlier one of the same fault.
func (r *Report) put(t Table) {
	place := func(t Table) int {
		return slices.IndexFunc(scripts, func(s script) bool { return s.name == t.Fault })
	}
	r.Tables = slices.DeleteFunc(r.Tables, func(old Table) bool { return old.Fault == t.Fault })
	r.Tables = append(r.Tables, t)
	slices.SortStableFunc(r.Tables, func(x, y Table) int { return place(x) - place(y) })
}

// once returns a function that passes each message on only once.
func once(say func(format string, args ...any)) func(format string, args ...any) {
	said := make(map[string]bool)
	return func(format string, args ...any) {
		if text := fmt.Sprintf(format, args...); !said[text] {
			said[text] = true
			say("%s", text)
		}
	}
}

// tolerable is the longest delay, in milliseconds, with which clients may start. If they start later,
// other work has kept the machine from running proxies and endpoints in time too.
const tolerable = 300

// plays is how often a script is played at most until the machine is quiet enough.
const plays = 3

// compare plays the script against all peers at the same time. It plays it again if the machine
// kept clients waiting; of several such plays it returns the one in which they waited least.
func (s script) compare(ctx context.Context, l peers.Launcher, all []peers.Peer, rate int, c Course) (best Table, err error) {
	for play := range plays {
		table, err := s.compareOnce(ctx, l, all, rate, c)
		if err != nil {
			return table, err
		}
		if play == 0 || table.late() < best.late() {
			best = table
		}
		if best.late() <= tolerable {
			break
		}
		run.Say("notice: other work on the machine kept clients waiting for %.0f ms during %s", table.late(), s.name)
	}
	return best, nil
}

func (s script) compareOnce(ctx context.Context, l peers.Launcher, all []peers.Peer, rate int, c Course) (Table, error) {
	table := Table{Fault: s.name, About: s.about, Calls: int(float64(rate) * c.During.Seconds()), Results: make([]Result, len(all))}
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, p := range all {
		wg.Go(func() { table.Results[i], errs[i] = s.play(ctx, l, p, rate, c) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return table, err
		}
	}
	return table, ctx.Err()
}
