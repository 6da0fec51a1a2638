package pool

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
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

// knows is what an endpoint has counted and concluded, but for how it rounds sums.
func (r *stateRun) knows() string {
	s, b := r.s, &r.s.Breaker
	fresh := s.Fresh
	if fresh == nil {
		fresh = new(endpoint.Counted) // nothing has been counted since the last look
	}
	return fmt.Sprintf("%+v\n%v %d, %d in a row, %v %v relapses %d worked %v\n%v %b held %d known %v pending %v\n%.9g %.9g\n%v\n%v\n%v %v %v",
		s.Totals, b.State, b.Generation, b.Failures.Run, b.Outcomes.Counts(r.now, r.cfg.Window), b.Latencies.Counts(r.now, r.cfg.Window), b.Relapses, b.Worked,
		s.Slowness.Limit, s.Slowness.Verdicts, s.Slowness.Held, s.Slowness.Known, s.Slowness.Pending,
		s.Scorer.Errors.Ratio(), s.Scorer.Calls.Now.Value(),
		s.Last.Names(), s.Samples.N,
		fresh.Attempts, fresh.Calls, fresh.Durations)
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
func (heedless) OrderOver(*endpoint.State, *endpoint.Lever, time.Time) {}
func (heedless) BusyOutside(*endpoint.State)                           {}

// A trip is an attempt without a request. It has no body to send, and is the only one
// of its call.
type trip struct {
	endpoint.Ticket
	began    time.Time
	latency  time.Duration // to the first byte; 0: not yet
	before   time.Duration // how long the call had lasted when it began
	idle     bool          // it has not started
	recorded bool          // its call
}

func (f *trip) HasStarted() bool                      { return !f.idle }
func (f *trip) StartedAt() time.Time                  { return f.began }
func (f *trip) FirstByte() time.Duration              { return f.latency }
func (f *trip) WaitedFor(now time.Time) time.Duration { return now.Sub(f.began) }
func (f *trip) Uploads() bool                         { return false }
func (f *trip) WaitsForClient() bool                  { return false }

func (f *trip) RecordsCall(firstByte time.Duration) (waited time.Duration, ok bool) {
	if f.recorded {
		return 0, false
	}
	f.recorded = true
	if firstByte > 0 {
		waited = f.before + firstByte
	}
	return waited, true
}

// attempt makes one that ends at once.
func (r *stateRun) attempt(how endpoint.Admission, o outcome.Outcome, retryAfter time.Duration) bool {
	a := r.begin(how)
	if a == nil {
		return false
	}
	a.RetryAfter = retryAfter
	r.s.Settle(a, r.now, r.cfg, o, true, endpoint.NoDoubt)
	return true
}

// begin lets in one that has not started; nil if it is refused.
func (r *stateRun) begin(how endpoint.Admission) *trip {
	a := &trip{began: r.now, idle: true}
	if !r.s.Acquire(a, r.now, r.cfg, 0, how) {
		return nil
	}
	return a
}

func (r *stateRun) hold() time.Duration { return max(0, r.s.HoldUntil.Sub(r.now)) }
