package pool

import (
	"math"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/score"
)

// TestRescore wants a score to be published when it has moved enough, and when
// it is full again.
func TestRescore(t *testing.T) {
	r := newStateRun(t, defaultBreaker())
	step := func(calls, failures int, moved bool, want float64) {
		t.Helper()
		r.now = r.now.Add(TickEvery)
		r.s.Scorer.Fold(r.now, tallied(calls, failures, 0))
		got := r.s.Rescore(r.cfg, 0, 0)
		if score := 1 - r.s.Scorer.Lost; got != moved || math.Abs(score-want) > 0.005 {
			t.Errorf("at %v: published %v, score %v; want %v, %v", r.now.Sub(epoch), got, score, moved, want)
		}
	}
	step(1000, 10, false, 1)
	step(1000, 20, false, 1) // 0.98
	step(1000, 50, true, 0.918)
	step(1000, 60, false, 0.918) // 0.898
	step(1000, 30, false, 0.918) // 0.959
	step(1000, 5, true, 1)
	step(0, 0, false, 1)
}

// epoch is when the clocks of tests begin.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// defaultBreaker is what breakers run by unless told otherwise, with attempts of
// at most 2 s.
func defaultBreaker(change ...func(*breaker.Config)) *breaker.Config {
	cfg := breaker.Defaults(2 * time.Second)
	for _, f := range change {
		f(&cfg)
	}
	return &cfg
}

// tallied is a tally of calls that all took as long.
func tallied(calls, failures int, latency time.Duration) score.Tally {
	t := score.Tally{Calls: calls, Failures: failures}
	if latency > 0 {
		t.Latencies = calls - failures
		t.LogLatency = float64(t.Latencies) * math.Log(latency.Seconds())
	}
	return t
}

// stateRun drives an endpoint's state.
type stateRun struct {
	t   *testing.T
	s   *endpoint.State
	cfg *breaker.Config
	now time.Time
}

func newStateRun(t *testing.T, cfg *breaker.Config) *stateRun {
	return &stateRun{t, &endpoint.State{Key: endpoint.Key{Name: "one", Address: "one:1"}, Owner: heedless{}}, cfg, epoch}
}

// heedless owns a state and takes no notice of it.
type heedless struct{}

func (heedless) Emit(event.Event)                                      {}
func (heedless) Poke()                                                 {}
func (heedless) OrderOver(*endpoint.State, *endpoint.Order, time.Time) {}
func (heedless) BusyOutside(*endpoint.State)                           {}
func (heedless) HasRoom()                                              {}
