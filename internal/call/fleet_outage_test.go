package call

import (
	"flag"
	"strconv"
	"strings"
	"testing"
	"time"
)

// go test -run TestFleetOutage ./internal/call -args -fleet.lengths=15s,5m -fleet.rates=0.1,20 -fleet.instances=1000
// measures outages of other lengths, at other rates.
var (
	outageLengths = flag.String("fleet.lengths", "", "how long an endpoint is down, comma separated (default 15s, 1m and 10m)")
	outageRates   = flag.String("fleet.rates", "1", "calls a second of each proxy, comma separated")
)

// An outageBound is what an outage may cost a fleet.
type outageBound struct {
	rate  float64 // calls a second of each instance
	down  time.Duration
	saves float64 // of the failed attempts without a fleet, at least so many for each one with it
	each  float64 // failed attempts of an instance at most
}

// TestFleetOutage holds instances that tell each other to what they save while an endpoint is down, to the load
// when it returns, and to how much they tell.
func TestFleetOutage(t *testing.T) {
	bounds := []outageBound{
		{rate: 1, down: 15 * time.Second, saves: 3.5, each: 1.6},
		{rate: 20, down: 15 * time.Second, saves: 3.5, each: 1.9},
		{rate: 1, down: 10 * time.Minute, saves: 18, each: 3},
	}
	instances := 60
	if *outageLengths != "" {
		bounds, instances = nil, 100
		for _, length := range strings.Split(*outageLengths, ",") {
			for _, rate := range strings.Split(*outageRates, ",") {
				down, err := time.ParseDuration(length)
				if err != nil {
					t.Fatal(err)
				}
				each, err := strconv.ParseFloat(rate, 64)
				if err != nil {
					t.Fatal(err)
				}
				bounds = append(bounds, outageBound{rate: each, down: down, each: 1e9})
			}
		}
	}
	if *fleetInstances > 0 {
		instances = *fleetInstances
	}
	for _, b := range bounds {
		to := fleetFrom + b.down
		s := fleetScenario{
			tiers: []int{1, 2, 3}, watch: 1, from: fleetFrom, to: to, lasts: to + 30*time.Second, returns: true,
			apis: func(load float64) []*simulatedAPI {
				return primaryAndBackups(load, downBetween(1.25*load, fleetFrom, to))
			},
		}
		var in [2]fleetResult
		for i, v := range fleetVariants()[:2] {
			in[i] = s.run(t, v, instances, b.rate)
		}
		alone, together := &in[0], &in[1]
		saves, each := float64(alone.InVain)/float64(together.InVain), float64(together.InVain)/float64(instances)
		t.Logf("%v at %v calls/s of each of %d instances: %d failed attempts alone, %d in a fleet, 1/%.1f; of each %.2f and %.2f; load on return %.2f of capacity; %d facts, %d in a second",
			b.down, b.rate, instances, alone.InVain, together.InVain, saves, float64(alone.InVain)/float64(instances), each,
			max(together.OverloadFirst, together.Overload), together.Facts, together.FactsAtMost)
		if saves < b.saves || each > b.each {
			t.Errorf("the fleet saves 1/%.1f, want 1/%.1f; an instance fails %.2f times, want at most %.2f", saves, b.saves, each, b.each)
		}
		if load := max(together.OverloadFirst, together.Overload); b.rate >= 1 && load > 1.1 {
			t.Errorf("the load on the returning endpoint is %.2f of its capacity, want at most 1.1", load)
		}
		if most := 3*instances + 200; together.FactsAtMost > most {
			t.Errorf("%d facts in a second, want at most %d", together.FactsAtMost, most)
		}
	}
}

// TestFleetColdReturn: an endpoint that returns with a tenth of its capacity gets no more than it can take, also
// of busy proxies.
func TestFleetColdReturn(t *testing.T) {
	cold := fleetScenarios[1]
	for _, rate := range []float64{20, 50} {
		result := cold.run(t, fleetVariants()[1], 30, rate)
		t.Logf("%v calls/s of each: load on return %.2f, then %.2f of capacity; even after %.1f s", rate, result.OverloadFirst, result.Overload, result.EvenAfter)
		if load := max(result.OverloadFirst, result.Overload); load > 1.1 {
			t.Errorf("%v calls/s of each: the load was %.2f of the capacity, want at most 1.1", rate, load)
		}
		if result.EvenAfter < 0 || result.EvenAfter > 30 {
			t.Errorf("%v calls/s of each: even after %.1f s", rate, result.EvenAfter)
		}
	}
}
