package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// The results of the simulation, as its test writes them.
type fleetScenario struct {
	Name      string        `json:"name"`
	About     string        `json:"about"`
	Instances int           `json:"instances"`
	Endpoints int           `json:"endpoints"`
	Rate      float64       `json:"rate"`
	From      float64       `json:"from_s"`
	To        float64       `json:"to_s"`
	Results   []fleetResult `json:"results"`
}

type fleetResult struct {
	Variant       string  `json:"variant"`
	Calls         int     `json:"calls"`
	Failed        int     `json:"failed"`
	Amplification float64 `json:"amplification"`
	AtWorst       float64 `json:"amplification_at_worst"`
	Overload      float64 `json:"overload_after_two_steps"`
	OverloadFirst float64 `json:"overload_in_first_second"`
	EvenAfter     float64 `json:"even_after_s"`
	Series        []struct {
		At       float64 `json:"at_s"`
		Load     float64 `json:"load"`
		Capacity float64 `json:"capacity"`
		Attempts float64 `json:"attempts"`
		Failed   float64 `json:"failed"`
	} `json:"series"`
}

type fleetReport struct {
	Machine   machine         `json:"machine"`
	Scenarios []fleetScenario `json:"scenarios"`
}

// fleet runs the simulation, which is a test of the plugin since it works on
// the plugin's own breakers, budgets and tables.
func fleet(b *bench, args []string) error {
	instances := b.flags.Int("instances", 0, "proxies in the fleet (default 1000, short 200)")
	rate := b.flags.Float64("rate", 20, "calls a second of each proxy")
	if err := b.parse(args); err != nil {
		return err
	}
	if *instances == 0 {
		*instances = 1000
		if b.short {
			*instances = 200
		}
	}
	out := filepath.Join(b.dir, "fleet.json")
	binary, err := b.buildTest("..", "fleet.test")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(b.ctx, binary, "-test.v", "-test.timeout=60m", "-test.run=^TestFleet$",
		"-fleet.out="+out, "-fleet.instances="+strconv.Itoa(*instances), "-fleet.rate="+strconv.FormatFloat(*rate, 'g', -1, 64))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	failed := cmd.Run()
	if b.ctx.Err() != nil {
		return b.ctx.Err()
	}
	report := fleetReport{Machine: b.machine()}
	text, err := os.ReadFile(out)
	if err != nil {
		return fmt.Errorf("running the simulation: %w", failed)
	}
	if err := json.Unmarshal(text, &report.Scenarios); err != nil {
		return fmt.Errorf("reading the simulation's results: %w", err)
	}
	if err := b.save("fleet", report); err != nil {
		return err
	}
	return failed
}
