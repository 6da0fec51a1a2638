package pool

import (
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/fleettest"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// trials makes a trial at an edge whose endpoints are all out each time that one is due, and returns how many.
func (e *edge) trials(o outcome.Outcome) (n int) {
	now := time.Now()
	if e.one().For("").Available(now, e.breakerConfig()) > 0 || !e.TrialDue(e.h.currentTable(), now) {
		return 0
	}
	for _, t := range e.h.currentTable().Targets {
		if t.Weight == 0 {
			continue
		}
		f := &fakeAttempt{began: now, latency: time.Millisecond, patience: time.Minute}
		e.Watch(time.Minute)
		if t.State.Acquire(f, now, e.breakerConfig(), nil, endpoint.AdmitAllDown) {
			n++
			t.State.Settle(f, now, e.breakerConfig(), o, true, endpoint.NoDoubt)
		}
	}
	return min(n, 1)
}

// goesDown opens the breakers of all endpoints.
func (e *edge) goesDown() {
	for _, target := range e.h.Targets {
		for now := time.Now(); !isOpen(target.State, now); {
			e.Watch(time.Minute)
			settle(target.State, begin(e.t, target.State, now, time.Minute), now, outcome.FailedDial)
		}
	}
}

func (e *edge) wantsTrial() bool {
	wants, _ := e.one().For("").WantsTrial(time.Now(), e.breakerConfig())
	return wants
}

// TestSmallFleetReturnsQuickly: one that hears of another's success tries nearly as soon as if it tried four times a second itself.
func TestSmallFleetReturnsQuickly(t *testing.T) {
	fleetOf(t, 3, func(_ *fleettest.Hub, edges []*edge) {
		for _, e := range edges {
			e.goesDown()
		}
		time.Sleep(2 * time.Second)
		for edges[0].trials(outcome.Success) == 0 {
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(650 * time.Millisecond) // two ticks besides
		for i, e := range edges[1:] {
			if !e.wantsTrial() {
				t.Errorf("edge %d wants no trial yet", i+1)
			}
		}
	})
}

// TestInstancesShareTheTrialsOfADeadPool: together they make about four a second, and each makes one in longestBetween. One
// that is alone in its outage, or loses the others, makes four a second itself.
func TestInstancesShareTheTrialsOfADeadPool(t *testing.T) {
	fleetOf(t, 24, func(hub *fleettest.Hub, edges []*edge) {
		run := func(lasting time.Duration, edges []*edge, o outcome.Outcome) (each []int, sum int) {
			each = make([]int, len(edges))
			for range int(lasting / (50 * time.Millisecond)) {
				time.Sleep(50 * time.Millisecond)
				for i, e := range edges {
					each[i] += e.trials(o)
				}
			}
			for _, n := range each {
				sum += n
			}
			return each, sum
		}
		edges[0].goesDown()
		time.Sleep(time.Second)
		if _, n := run(10*time.Second, edges[:1], outcome.FailedDial); n < 38 || n > 42 {
			t.Errorf("one whose outage is its own makes %d trials in 10 s", n)
		}
		for _, e := range edges[1:] {
			e.goesDown()
		}
		run(10*time.Second, edges, outcome.FailedDial)
		each, sum := run(30*time.Second, edges, outcome.FailedDial)
		if sum < 30*4 || sum > 30*8 {
			t.Errorf("together they make %d trials in 30 s", sum)
		}
		for i, n := range each {
			if n < 5 {
				t.Errorf("edge %d makes %d trials in 30 s", i, n)
			}
		}
		hub.Down()
		run(10*time.Second, edges, outcome.FailedDial)
		if _, n := run(10*time.Second, edges, outcome.FailedDial); n < 38*len(edges) {
			t.Errorf("without their engine they make %d trials in 10 s", n)
		}
		hub.Up()
		run(10*time.Second, edges, outcome.FailedDial)
		for edges[3].trials(outcome.Success) == 0 {
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(1500 * time.Millisecond)
		for i, e := range edges {
			if i != 3 && !e.wantsTrial() {
				t.Errorf("1.5 s after a trial of another has succeeded, edge %d wants none", i)
			}
		}
	})
}

// TestEndpointsOutOfServiceMultiplyNoTrials: an endpoint that nobody may try has no trials that instances could share, so it does not
// make them try the others more often.
func TestEndpointsOutOfServiceMultiplyNoTrials(t *testing.T) {
	for name, away := range map[string]func(edges []*edge) error{
		"drained": func(edges []*edge) error {
			_, err := edges[0].Operate("two", api.Order{Action: api.Drain}, time.Now())
			return err
		},
		"weight 0": func(edges []*edge) error {
			_, err := edges[0].Operate("two", api.Order{Action: api.Set, Weight: api.Change[float64]{Made: true, Value: new(float64)}}, time.Now())
			return err
		},
		"in cooldown": func(edges []*edge) error {
			two := edges[0].h.Targets[1].State
			f := begin(edges[0].t, two, time.Now(), time.Minute)
			f.RetryAfter = time.Minute
			edges[0].Watch(time.Minute)
			two.Settle(f, time.Now(), edges[0].breakerConfig(), outcome.RateLimited, true, endpoint.NoDoubt)
			return nil
		},
	} {
		fleetOf(t, 12, func(_ *fleettest.Hub, edges []*edge) {
			if err := away(edges); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			for _, e := range edges {
				for now := time.Now(); !isOpen(e.one(), now); {
					e.Watch(time.Minute)
					settle(e.one(), begin(t, e.one(), now, time.Minute), now, outcome.FailedDial)
				}
			}
			sum := 0
			for range 30 * 20 {
				time.Sleep(50 * time.Millisecond)
				for _, e := range edges {
					sum += e.trials(outcome.FailedDial)
				}
			}
			if sum > 30*8 {
				t.Errorf("%s: together they make %d trials in 30 s", name, sum)
			}
		})
	}
}
