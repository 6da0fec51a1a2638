// Package fleet runs the simulation of many proxies under virtual time.
package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/apifailover/caddy-failover/bench/internal/run"
	"github.com/apifailover/caddy-failover/bench/internal/stats"
)

// A Report is what the command saves.
type Report struct {
	Machine   run.Machine `json:"machine"`
	Scenarios []Scenario  `json:"scenarios"`
}

// A Scenario is what happens to the endpoints of a fleet, and what it came to. The
// simulation writes it.
type Scenario struct {
	Name      string   `json:"name"`
	About     string   `json:"about"`
	Instances int      `json:"instances"` // proxies in the fleet
	Endpoints int      `json:"endpoints"`
	Rate      float64  `json:"rate"`   // calls a second of each proxy
	From      float64  `json:"from_s"` // when the fault begins
	To        float64  `json:"to_s"`   // and ends
	Results   []Result `json:"results"`
}

// A Result is what a scenario came to in a variant of the plugin.
type Result struct {
	Variant       string      `json:"variant"`
	Calls         int         `json:"calls"`
	Failed        int         `json:"failed"`
	Amplification float64     `json:"amplification"`            // attempts per call during the fault
	AtWorst       float64     `json:"amplification_at_worst"`   // in the worst second of the run
	Overload      float64     `json:"overload_after_two_steps"` // most load in a second on the endpoints at fault, part of their capacity, from a second after their return
	OverloadFirst float64     `json:"overload_in_first_second"` // in the first second after it
	EvenAfter     stats.Delay `json:"even_after_s"`             // from the end of the fault to 90 % of their usual load
	Series        []Point     `json:"series"`
}

// A Point is a quarter of a second of a scenario.
type Point struct {
	At       float64 `json:"at_s"`
	Load     float64 `json:"load"`     // on the endpoints at fault, part of their usual load
	Capacity float64 `json:"capacity"` // of these endpoints, part of their usual load
	Attempts float64 `json:"attempts"` // per call
	Failed   float64 `json:"failed"`   // part of the calls
}

// Command runs the simulation. It is a test of the plugin, since it drives the
// plugin's own breakers, budgets and tables.
func Command(ctx context.Context, r *run.Run, args []string) error {
	instances := r.Flags.Int("instances", 0, "proxies in the fleet (default 1000, short 200)")
	rate := r.Flags.Float64("rate", 20, "calls a second of each proxy")
	if err := r.Parse(args); err != nil {
		return err
	}
	run.Default(r, instances, 1000, 200)
	out := filepath.Join(r.Dir, "fleet.json")
	binary, err := r.BuildTest(ctx, run.PluginDir, "fleet.test")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, binary, "-test.v", "-test.timeout=60m", "-test.run=^TestFleet$",
		"-fleet.out="+out, "-fleet.instances="+strconv.Itoa(*instances), "-fleet.rate="+strconv.FormatFloat(*rate, 'g', -1, 64))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	failed := cmd.Run() // it writes results even if they break a bound
	if ctx.Err() != nil {
		return ctx.Err()
	}
	report := Report{Machine: r.Machine()}
	text, err := os.ReadFile(out)
	if err != nil {
		return fmt.Errorf("running the simulation: %w", failed)
	}
	if err := json.Unmarshal(text, &report.Scenarios); err != nil {
		return fmt.Errorf("reading the simulation's results: %w", err)
	}
	if err := r.Save(report); err != nil {
		return err
	}
	return failed
}
