// Package soak runs mixed traffic, random faults and reloads for a long time, and then
// checks that all counts agree.
package soak

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/peers"
	"github.com/apifailover/caddy-failover/bench/internal/run"
)

// A Report is the saved result of the command.
type Report struct {
	Machine run.Machine `json:"machine"`
	Minutes float64     `json:"minutes"`
	Runs    []*Result   `json:"runs"` // results of the builds
}

// A Result is the result of one build of Caddy. Problems is empty if everything is correct.
type Result struct {
	Build      string         `json:"build"` // plain or race
	Calls      Calls          `json:"calls"` // of all processes whose counts could be read
	Lost       Lost           `json:"lost"`
	Kills      int            `json:"kills"`
	Faults     map[string]int `json:"faults"` // how often each fault was played
	Reloads    int            `json:"reloads"`
	Slowest    float64        `json:"slowest_reload_s"`
	Counts     Counts         `json:"counts"`
	Growth     Growth         `json:"growth"`
	Problems   []string       `json:"problems"`
	CaddyRaces int            `json:"races_of_caddys_own"` // reports of known data races in Caddy itself
}

// Lost holds the calls of processes that were killed while clients waited. Their counts are lost.
type Lost struct {
	Calls int `json:"calls"`
	Cut   int `json:"cut_off"` // those that the kill cut off
}

// Builds of Caddy.
const (
	plainBuild = "plain"
	raceBuild  = "race" // with the race detector
)

// Command runs all builds at the same time, each with a fleet of three instances and its own
// traffic, endpoints, engine and clients. It fails if it finds a problem.
func Command(ctx context.Context, r *run.Run, args []string) error {
	lasting := r.Flags.Duration("duration", 0, "how long (default 30m, short 100s)")
	builds := r.Flags.String("builds", plainBuild+","+raceBuild, "builds of Caddy to run at the same time")
	rate := r.Flags.Int("rate", 100, "requests per second at each fleet; half of that at the race build")
	if err := r.Parse(args); err != nil {
		return err
	}
	run.Default(r, lasting, 30*time.Minute, 100*time.Second)
	report := Report{Machine: r.Machine(), Minutes: lasting.Minutes()}
	var trials []*trial
	for build := range strings.SplitSeq(*builds, ",") {
		perSecond := *rate
		var flags []string
		switch build {
		case plainBuild:
		case raceBuild:
			perSecond /= 2
			flags = []string{"-race"}
		default:
			return fmt.Errorf("unknown build %q: want %s or %s", build, plainBuild, raceBuild)
		}
		caddy, err := r.BuildCaddy(ctx, flags...)
		if err != nil {
			return err
		}
		t := newTrial(build, perSecond)
		t.launcher = peers.Launcher{Dir: r.Dir, Caddy: caddy}
		trials = append(trials, t)
		report.Runs = append(report.Runs, t.Result)
	}
	run.Say("%v of traffic, faults and reloads", *lasting)
	errs := make([]error, len(trials))
	var wg sync.WaitGroup
	for i, t := range trials {
		wg.Go(func() { errs[i] = t.run(ctx, *lasting) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	problems := 0
	for _, result := range report.Runs {
		result.print()
		problems += len(result.Problems)
	}
	if err := r.Save(report); err != nil {
		return err
	}
	if problems > 0 {
		return fmt.Errorf("%d problems", problems)
	}
	return nil
}
