// Package llm plays the sixteen faults of the Failover Bench catalogue against gateways for LLM APIs, and
// measures what they cost.
package llm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/apifailover/caddy-failover/bench/internal/npm"
	"github.com/apifailover/caddy-failover/bench/internal/run"
)

// A Report is the saved result of the command.
type Report struct {
	Machine run.Machine `json:"machine"`
	Pace    Pace        `json:"pace"`
	Systems []System    `json:"systems"`
}

// A System holds the results of a system.
type System struct {
	Name    string   `json:"name"`
	About   string   `json:"about"`
	Plain   []Result `json:"plain"` // without streaming
	Stream  []Result `json:"stream"`
	Clients []Whole  `json:"clients,omitempty"`
	Cost    *Cost    `json:"cost,omitempty"`
}

// Count returns how many results have a verdict.
func Count(list []Result, verdict string) (n int) {
	for _, r := range list {
		if r.Verdict == verdict {
			n++
		}
	}
	return n
}

// Command plays all faults against all systems at the same time, each with a provider of its own, streaming and
// not. Then it measures the cost of each system alone.
func Command(ctx context.Context, r *run.Run, args []string) error {
	only := r.Flags.String("systems", "", "comma-separated names of the systems to compare (default all)")
	withClients := r.Flags.Bool("clients", true, "also ask with the official npm clients")
	requests := r.Flags.Int("requests", 0, "requests to each system whose cost is measured (default 6000, short 1500)")
	if err := r.Parse(args); err != nil {
		return err
	}
	run.Default(r, requests, 6000, 1500)
	report := Report{Machine: r.Machine(), Pace: full}
	if r.Short {
		report.Pace = fast
	}
	caddy, err := r.BuildCaddy(ctx)
	if err != nil {
		return err
	}
	l := launcher{dir: r.Dir, caddy: caddy}
	run.Say("installing npm packages")
	if l.npm, err = npm.Install(ctx, r.Dir); err != nil {
		return err
	}
	var chosen []kind
	for _, k := range kinds() {
		if *only == "" || slices.Contains(strings.Split(*only, ","), k.Name) {
			chosen = append(chosen, k)
		}
	}
	report.Systems = make([]System, len(chosen))
	errs := make([]error, 3*len(chosen))
	var wg sync.WaitGroup
	for i, k := range chosen {
		s := &report.Systems[i]
		s.Name, s.About = k.Name, k.About
		for j, stream := range []bool{false, true} {
			wg.Go(func() {
				errs[3*i+j] = k.with(ctx, l, report.Pace, func(running *system) error {
					results := running.play(ctx, running.provider, stream)
					if stream {
						s.Stream = results
					} else {
						s.Plain = results
					}
					return nil
				})
			})
		}
		if *withClients {
			wg.Go(func() {
				errs[3*i+2] = k.with(ctx, l, fast, func(running *system) (err error) {
					s.Clients, err = running.clients(ctx, l)
					return err
				})
			})
		}
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for i, k := range chosen {
		err := k.with(ctx, l, fast, func(running *system) (err error) {
			report.Systems[i].Cost, err = running.cost(ctx, *requests)
			return err
		})
		if err != nil {
			return err
		}
	}
	report.print()
	return r.Save(report)
}

// with starts a system with a provider of its own, lets do use it, and stops both.
func (k kind) with(ctx context.Context, l launcher, pace Pace, do func(*system) error) error {
	p, err := newProvider(pace)
	if err != nil {
		return err
	}
	defer p.close()
	s, err := k.start(ctx, l, p)
	if err != nil {
		return err
	}
	defer s.Stop()
	s.kind = k
	if err := do(s); err != nil {
		return fmt.Errorf("%s: %w", k.Name, err)
	}
	return ctx.Err()
}

// print writes the verdicts to standard output.
func (r Report) print() {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, stream := range []bool{true, false} {
		fmt.Fprintf(w, "\nstreaming %t", stream)
		for _, s := range r.Systems {
			fmt.Fprintf(w, "\t%s", s.Name)
		}
		fmt.Fprintln(w)
		for i, f := range faults {
			fmt.Fprintf(w, "%s %s", f.ID, f.Title)
			for _, s := range r.Systems {
				one := s.of(stream)[i]
				fmt.Fprintf(w, "\t%s %dp/%df %.1fs %s", one.Verdict, one.Primary, one.Fallback, one.Took, one.Why)
			}
			fmt.Fprintln(w)
		}
	}
	for _, s := range r.Systems {
		for _, c := range s.Clients {
			fmt.Fprintf(w, "%s, client %s, streaming %t\t%d of %d right\t%s\n", s.Name, c.Client, c.Stream, c.Right, c.Of, strings.Join(c.Wrong, " "))
		}
		if c := s.Cost; c != nil {
			fmt.Fprintf(w, "%s\t%.0f µs CPU/request\t%.0f requests/s\tp50 %.2f ms\tp99 %.2f ms\t%.0f MiB\n", s.Name, c.CPU, c.PerSecond, c.P50, c.P99, c.Memory)
		}
	}
	w.Flush()
}

func (s System) of(stream bool) []Result {
	if stream {
		return s.Stream
	}
	return s.Plain
}
