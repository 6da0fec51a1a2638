// Package fleet simulates many proxies in virtual time.
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

// A Report is the saved result of the command.
type Report struct {
	Machine   run.Machine `json:"machine"`
	Scenarios []Scenario  `json:"scenarios"`
}

// A Scenario is a fault of a fleet's endpoints, with its results. The simulation writes it.
type Scenario struct {
	Name      string   `json:"name"`
	About     string   `json:"about"`
	Instances int      `json:"instances"` // number of proxies
	Endpoints int      `json:"endpoints"`
	Rate      float64  `json:"rate"`   // calls per second at each proxy
	From      float64  `json:"from_s"` // start of the fault
	To        float64  `json:"to_s"`   // end of the fault
	Results   []Result `json:"results"`
}

// A Result is the result of a scenario with one variant of the plugin.
type Result struct {
	Variant       string      `json:"variant"`
	Calls         int         `json:"calls"`
	Failed        int         `json:"failed"`
	Amplification float64     `json:"amplification"`            // attempts per call during the fault
	AtWorst       float64     `json:"amplification_at_worst"`   // attempts per call in the worst second of the run
	Overload      float64     `json:"overload_after_two_steps"` // largest load of the faulty endpoints in one second, relative to their capacity, from one second after their return on
	OverloadFirst float64     `json:"overload_in_first_second"` // the same in the first second after the return
	EvenAfter     stats.Delay `json:"even_after_s"`             // time from the end of the fault to 90 % of their usual load
	Series        []Point     `json:"series"`
}

// A Point is a quarter of a second of a scenario.
type Point struct {
	At       float64 `json:"at_s"`
	Load     float64 `json:"load"`     // load of the faulty endpoints, relative to their usual load
	Capacity float64 `json:"capacity"` // capacity of these endpoints, relative to their usual load
	Attempts float64 `json:"attempts"` // attempts per call
	Failed   float64 `json:"failed"`   // part of the calls that failed
}

// Command runs the simulation. It is a test of the plugin, because it uses the plugin's own
// breakers, budgets and tables.
func Command(ctx context.Context, r *run.Run, args []string) error {
	instances := r.Flags.Int("instances", 0, "number of proxies (default 1000, short 200)")
	rate := r.Flags.Float64("rate", 20, "calls per second at each proxy")
	if err := r.Parse(args); err != nil {
		return err
	}
	run.Default(r, instances, 1000, 200)
	out := filepath.Join(r.Dir, "fleet.json")
	binary, err := r.BuildTest(ctx, run.CallDir, "fleet.test")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, binary, "-test.v", "-test.timeout=60m", "-test.run=^TestFleet$",
		"-fleet.out="+out, "-fleet.instances="+strconv.Itoa(*instances), "-fleet.rate="+strconv.FormatFloat(*rate, 'g', -1, 64))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	failed := cmd.Run() // it writes results even if they exceed a limit
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
