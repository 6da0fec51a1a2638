package call

import (
	"cmp"
	"encoding/json"
	"flag"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/budget"
)

// go test -run TestFleet ./internal/call -args -fleet.out=fleet.json -fleet.instances=1000
// simulates a large fleet in all variants and writes the results.
var (
	fleetOut       = flag.String("fleet.out", "", "file for the results of all variants of the fleet")
	fleetInstances = flag.Int("fleet.instances", 0, "proxies in the fleet (default 30, or as many as a scenario needs)")
	fleetOnly      = flag.String("fleet.only", "", "words of the names of the scenarios to play, comma separated (default all)")
	fleetRate      = flag.Float64("fleet.rate", 20, "calls a second of each proxy")
)

// A variant is the fleet without a part of the plugin.
type fleetVariant struct {
	name      string
	breaker   breaker.Config
	retry     RetryRules
	slowStart time.Duration
	shares    bool // instances tell each other
}

func fleetVariants() []fleetVariant {
	plain := breaker.Defaults(bareTimeout)
	atOnce := plain
	atOnce.Start = 1
	unlimited := bareRetry()
	unlimited.Budget = budget.Rules{Ratio: 1, Floor: math.MaxFloat32}
	return []fleetVariant{
		{name: "failover", breaker: plain, retry: bareRetry()},
		{name: "a fleet", breaker: plain, retry: bareRetry(), shares: true},
		{name: "no budget", breaker: plain, retry: unlimited},
		{name: "no progressive recovery", breaker: atOnce, retry: bareRetry()},
		{name: "slow start of 10 s", breaker: atOnce, retry: bareRetry(), slowStart: 10 * time.Second},
	}
}

// A fleetScenario is what happens to the APIs. Times are from its start.
type fleetScenario struct {
	name, about string
	tiers       []int                              // priority of each endpoint
	apis        func(load float64) []*simulatedAPI // for a load in calls a second
	from, to    time.Duration                      // of the fault
	lasts       time.Duration
	returns     bool // the watched endpoints come back at `to`
	watch       int  // how many endpoints are watched, from the first; those at fault
	instances   int  // number of proxies, if results of 30 would depend on chance; 0: 30
	checks      *simulatedChecks
}

const apiLatency = 20 * time.Millisecond

func constant[T any](v T) func(time.Duration) T { return func(time.Duration) T { return v } }

// downBetween is a capacity that is gone for a while.
func downBetween(capacity float64, from, to time.Duration) func(time.Duration) float64 {
	return func(at time.Duration) float64 {
		if at >= from && at < to {
			return 0
		}
		return capacity
	}
}

// primaryAndBackups is a tier of one, whose capacity may change, and two more
// that could each carry everything.
func primaryAndBackups(load float64, capacity func(time.Duration) float64) []*simulatedAPI {
	return []*simulatedAPI{
		{capacity: capacity, latency: constant(apiLatency)},
		{capacity: constant(1.25 * load), latency: constant(apiLatency)},
		{capacity: constant(1.25 * load), latency: constant(apiLatency)},
	}
}

func equalTier(n int) []int {
	tiers := make([]int, n)
	for i := range tiers {
		tiers[i] = 1
	}
	return tiers
}

const (
	fleetFrom = 10 * time.Second
	fleetTo   = 25 * time.Second
	coldTo    = fleetFrom + 4*time.Second
)

var fleetScenarios = []fleetScenario{{
	name:  "outage and return",
	about: "The primary is down for 15 s and returns with all its capacity, 1.25 times the load.",
	tiers: []int{1, 2, 3}, watch: 1, from: fleetFrom, to: fleetTo, lasts: 60 * time.Second, returns: true,
	apis: func(load float64) []*simulatedAPI {
		return primaryAndBackups(load, downBetween(1.25*load, fleetFrom, fleetTo))
	},
}, {
	name:  "cold return",
	about: "The primary is down for 4 s and returns with a tenth of its capacity, which grows to all of it in 20 s.",
	tiers: []int{1, 2, 3}, watch: 1, from: fleetFrom, to: coldTo, lasts: 50 * time.Second, returns: true, instances: 200,
	apis: func(load float64) []*simulatedAPI {
		return primaryAndBackups(load, func(at time.Duration) float64 {
			full := downBetween(1.25*load, fleetFrom, coldTo)(at)
			if at < coldTo {
				return full
			}
			return full * min(1, 0.1+0.9*(at-coldTo).Seconds()/20)
		})
	},
}, {
	name:  "shared outage",
	about: "All 50 equal endpoints are down for 15 s.",
	tiers: equalTier(50), watch: 50, from: fleetFrom, to: fleetTo, lasts: 45 * time.Second, returns: true,
	apis: func(load float64) []*simulatedAPI {
		apis := make([]*simulatedAPI, 50)
		for i := range apis {
			apis[i] = &simulatedAPI{capacity: downBetween(1.25*load/50, fleetFrom, fleetTo), latency: constant(apiLatency)}
		}
		return apis
	},
}, {
	name:  "overload",
	about: "All 50 equal endpoints lose half their capacity for 15 s, to 0.6 of the load.",
	tiers: equalTier(50), watch: 50, from: fleetFrom, to: fleetTo, lasts: 45 * time.Second,
	apis: func(load float64) []*simulatedAPI {
		apis := make([]*simulatedAPI, 50)
		for i := range apis {
			apis[i] = &simulatedAPI{latency: constant(apiLatency), capacity: func(at time.Duration) float64 {
				if at >= fleetFrom && at < fleetTo {
					return 0.6 * load / 50
				}
				return 1.25 * load / 50
			}}
		}
		return apis
	},
}, {
	name:  "brown-out",
	about: "For 15 s the primary gets slower, up to 20 times, and fails more, up to 40 % of the requests.",
	tiers: []int{1, 2, 3}, watch: 1, from: fleetFrom, to: fleetTo, lasts: 60 * time.Second,
	apis: func(load float64) []*simulatedAPI {
		apis := primaryAndBackups(load, constant(1.25*load))
		depth := func(at time.Duration) float64 {
			if at < fleetFrom || at >= fleetTo {
				return 0
			}
			return (at - fleetFrom).Seconds() / (fleetTo - fleetFrom).Seconds()
		}
		apis[0].latency = func(at time.Duration) time.Duration {
			return time.Duration(float64(apiLatency) * (1 + 19*depth(at)))
		}
		apis[0].failing = func(at time.Duration) float64 { return 0.4 * depth(at) }
		return apis
	},
}, {
	name:  "flapping",
	about: "For 15 s the primary is down for 1.5 s, up for 1.5 s, and so on.",
	tiers: []int{1, 2, 3}, watch: 1, from: fleetFrom, to: fleetTo, lasts: 60 * time.Second,
	apis: func(load float64) []*simulatedAPI {
		return primaryAndBackups(load, func(at time.Duration) float64 {
			if at >= fleetFrom && at < fleetTo && (at-fleetFrom)/(1500*time.Millisecond)%2 == 0 {
				return 0
			}
			return 1.25 * load
		})
	},
}}

// fleetRecord counts what happens by slots of a quarter of a second.
type fleetRecord struct {
	slots  []fleetSlot
	watch  int
	inVain int
}

const fleetSlotSpan = 250 * time.Millisecond

type fleetSlot struct {
	calls, failures, attempts, watched int // watched: attempts at the endpoints at fault
}

func (r *fleetRecord) slot(at time.Duration) *fleetSlot {
	for i := int(at / fleetSlotSpan); ; {
		if i < len(r.slots) {
			return &r.slots[i]
		}
		r.slots = append(r.slots, fleetSlot{})
	}
}

func (r *fleetRecord) call(at time.Duration)   { r.slot(at).calls++ }
func (r *fleetRecord) failed(at time.Duration) { r.slot(at).failures++ }
func (r *fleetRecord) attempt(at time.Duration, endpoint int) {
	s := r.slot(at)
	s.attempts++
	if endpoint < r.watch {
		s.watched++
	}
}

// fleetResult is the result of a scenario in a variant. Times are in seconds.
type fleetResult struct {
	Variant       string       `json:"variant"`
	Calls         int          `json:"calls"`
	Failed        int          `json:"failed"`
	Amplification float64      `json:"amplification"`            // attempts per call during the fault
	AtWorst       float64      `json:"amplification_at_worst"`   // in the worst second of the run
	Overload      float64      `json:"overload_after_two_steps"` // most load on the endpoints at fault by their capacity in a second, from a second after their return
	OverloadFirst float64      `json:"overload_in_first_second"` // the same in the first second
	InVain        int          `json:"in_vain"`                  // attempts at the endpoints at fault that failed
	Facts         int          `json:"facts,omitempty"`          // that instances told each other
	FactsAtMost   int          `json:"facts_at_most,omitempty"`  // in a second
	EvenAfter     float64      `json:"even_after_s"`             // from the end of the fault to the first second with 90 % of their usual load; -1: never
	Series        []fleetPoint `json:"series"`
}

type fleetPoint struct {
	At       float64 `json:"at_s"`
	Load     float64 `json:"load"`     // on the endpoints at fault, by their usual load
	Capacity float64 `json:"capacity"` // of these, by their usual load
	Attempts float64 `json:"attempts"` // per call, by all
	Failed   float64 `json:"failed"`   // part of the calls
}

func (s *fleetScenario) run(t *testing.T, v fleetVariant, instances int, rate float64) fleetResult {
	t.Helper()
	apis := s.apis(float64(instances) * rate)
	f, err := newFleet(instances, rate, apis, s.tiers, v.breaker, v.retry)
	if err != nil {
		t.Fatal(err)
	}
	f.record, f.slowStart = &fleetRecord{watch: s.watch}, v.slowStart
	if f.checks = s.checks; f.checks != nil {
		f.checks.begin(f)
	}
	if v.shares {
		f.share()
	}
	f.run(s.lasts)
	result := s.judge(v.name, f.record.slots, apis[0])
	result.InVain = f.record.inVain
	if v.shares {
		result.Facts, result.FactsAtMost = f.sharing.told, slices.Max(append(f.sharing.seconds, 0))
	}
	return result
}

// judge computes the result. A second has four slots.
func (s *fleetScenario) judge(variant string, slots []fleetSlot, watched *simulatedAPI) fleetResult {
	result := fleetResult{Variant: variant, EvenAfter: -1}
	at := func(i int) time.Duration { return time.Duration(i) * fleetSlotSpan }
	usual, quiet := 0.0, 0
	for i, slot := range slots {
		result.Calls += slot.calls
		result.Failed += slot.failures
		if at(i) >= s.from/2 && at(i) < s.from {
			usual += float64(slot.watched)
			quiet++
		}
	}
	usual /= float64(quiet)
	var calls, attempts int
	for i := range slots {
		slot := slots[i]
		if at(i) >= s.from && at(i) < s.to {
			calls += slot.calls
			attempts += slot.attempts
		}
		capacity := float64(s.watch) * watched.capacity(at(i)) * fleetSlotSpan.Seconds()
		result.Series = append(result.Series, fleetPoint{
			At: at(i).Seconds(), Load: float64(slot.watched) / usual, Capacity: capacity / usual,
			Attempts: float64(slot.attempts) / float64(slot.calls), Failed: float64(slot.failures) / float64(slot.calls),
		})
		if i+4 > len(slots) {
			continue
		}
		var second fleetSlot
		room := 0.0
		for j, next := range slots[i : i+4] {
			second.calls += next.calls
			second.attempts += next.attempts
			second.watched += next.watched
			room += float64(s.watch) * watched.capacity(at(i+j)) * fleetSlotSpan.Seconds()
		}
		result.AtWorst = max(result.AtWorst, float64(second.attempts)/float64(second.calls))
		if at(i) >= s.to && result.EvenAfter < 0 && float64(second.watched) >= 0.9*4*usual {
			result.EvenAfter = (at(i) - s.to).Seconds()
		}
		if !s.returns || at(i) < s.to {
			continue
		}
		if at(i) < s.to+time.Second {
			result.OverloadFirst = max(result.OverloadFirst, float64(second.watched)/room)
		} else {
			result.Overload = max(result.Overload, float64(second.watched)/room)
		}
	}
	result.Amplification = float64(attempts) / float64(calls)
	return result
}

// TestFleet holds the fleet to its bounds: no storm of retries when everything
// is down, and no overload of what comes back.
func TestFleet(t *testing.T) {
	type report struct {
		Name      string        `json:"name"`
		About     string        `json:"about"`
		Instances int           `json:"instances"`
		Endpoints int           `json:"endpoints"`
		Rate      float64       `json:"rate"`
		From      float64       `json:"from_s"`
		To        float64       `json:"to_s"`
		Results   []fleetResult `json:"results"`
	}
	var reports []report
	for _, s := range fleetScenarios {
		if *fleetOnly != "" && !slices.ContainsFunc(strings.Split(*fleetOnly, ","), func(word string) bool { return strings.Contains(s.name, word) }) {
			continue
		}
		variants := fleetVariants()
		if *fleetOut == "" {
			variants = variants[:1]
		}
		instances := cmp.Or(*fleetInstances, s.instances, 30)
		r := report{s.name, s.about, instances, len(s.tiers), *fleetRate, s.from.Seconds(), s.to.Seconds(), nil}
		for _, v := range variants {
			result := s.run(t, v, instances, *fleetRate)
			r.Results = append(r.Results, result)
			t.Logf("%s, %s: %d calls, %d failed, %d attempts in vain; attempts per call %.3f, at worst %.3f; load on return %.2f, then %.2f of capacity; even after %.2f s; %d facts, %d in a second",
				s.name, v.name, result.Calls, result.Failed, result.InVain, result.Amplification, result.AtWorst,
				result.OverloadFirst, result.Overload, result.EvenAfter, result.Facts, result.FactsAtMost)
		}
		reports = append(reports, r)
		ours := r.Results[0]
		if s.name == "shared outage" && ours.Amplification > 1.25 {
			t.Errorf("%s: %.2f attempts per call, want at most 1.25", s.name, ours.Amplification)
		}
		if s.returns && ours.Overload > 1.2 {
			t.Errorf("%s: the load on the returning endpoint was %.2f of its capacity, want at most 1.2", s.name, ours.Overload)
		}
		if ours.EvenAfter < 0 {
			t.Errorf("%s: the traffic of the endpoint did not come back", s.name)
		}
	}
	if *fleetOut != "" {
		text, err := json.Marshal(reports)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(*fleetOut, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
