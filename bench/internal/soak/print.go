package soak

import (
	"fmt"
	"maps"
	"slices"
)

// print writes the result to standard output.
func (r *Result) print() {
	c, n, g := r.Calls, r.Counts, r.Growth
	fmt.Printf("\n%s build: %d calls: %d correct, %d WebSockets cut off and %d others failed as allowed, %d while the machine stood still, %d unexplained, %d cancelled by their clients, %d sent again; %d reloads (the slowest took %.1f s), %d kills (%d more calls of processes whose counts are lost, %d of them cut off), faults %v\n",
		r.Build, c.Sent, c.OK, c.SocketsCut, c.Explained, c.Starved, c.Unexplained, c.Cancelled, c.Resent, r.Reloads, r.Slowest, r.Kills, r.Lost.Calls, r.Lost.Cut, r.Faults)
	for _, kind := range slices.Sorted(maps.Keys(c.Kinds)) {
		fmt.Printf("%8d %s\n", c.Kinds[kind], kind)
	}
	fmt.Printf("counts: %d attempts = %d successes + %d failures + %d cancelled; %d failovers by events (%d rescued), %d by metrics; %d attempts and %d calls by metrics; the SLA has %d calls, %d failed, %d cancelled; %d waits, in which %d clients left\n",
		n.Attempts, n.Successes, n.Failures, n.Cancelled, n.FailoverEvents, n.Rescued, n.FailoverMetrics, n.MetricAttempts, n.MetricCalls, n.SLACalls, n.SLAFailed, n.SLACancelled, n.Waits, n.LeftWaiting)
	fmt.Printf("goroutines %d before, %.0f, %.0f, %d after; heap %.1f MiB before, %.1f, %.1f, %.1f after\n",
		g.GoroutinesBefore, g.GoroutinesEarly, g.GoroutinesLate, g.GoroutinesAfter, g.HeapBefore, g.HeapEarly, g.HeapLate, g.HeapAfter)
	if r.CaddyRaces > 0 {
		fmt.Printf("%d reports of a known data race in Caddy\n", r.CaddyRaces)
	}
	if len(r.Problems) == 0 {
		fmt.Println("no problem found")
	}
	for _, p := range r.Problems {
		fmt.Println("PROBLEM:", p)
	}
}
