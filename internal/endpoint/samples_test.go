package endpoint

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/slowness"
)

// TestSamples reports the same attempts to two endpoints, to one of them as samples where possible. After
// each tick both must have the same state.
func TestSamples(t *testing.T) {
	for _, test := range []struct {
		name              string
		slowRatio         float64
		failing, dragging float64 // parts of the attempts
		short             float64 // at least so many of the good ones went the short way
	}{
		{"all is well", 0, 0, 0, 1},
		{"some fail", 0, 0.05, 0, 0.9},
		{"some are slow", 0, 0.01, 0.05, 0.8},
		{"some are slow, by the configuration too", 0.5, 0.01, 0.05, 0.8},
		{"it opens now and then", 0, 0.3, 0, 0.9},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := defaultBreaker()
			cfg.SlowRatio, cfg.SlowAfter, cfg.SlowFactor = test.slowRatio, 200*time.Millisecond, slowness.DefaultFactor
			one, two := newStateRun(t, cfg), newStateRun(t, cfg)
			good, short := 0, 0
			for step := range 1000 {
				now := epoch.Add(time.Duration(step) * 50 * time.Millisecond)
				one.now, two.now = now, now
				begun := rand.IntN(200)
				if step == 0 {
					begun = 0 // nothing has been counted at the first tick
				}
				for range begun {
					a, b := one.begin(AdmitNormally), two.begin(AdmitNormally)
					if (a == nil) != (b == nil) {
						t.Fatalf("step %d: only one of them let an attempt in", step)
					}
					if a == nil {
						continue
					}
					latency := time.Duration(float64(10*time.Millisecond) * math.Exp(rand.NormFloat64()/3))
					o := outcome.Success
					switch u := rand.Float64(); {
					case u < test.failing && step >= 20: // else it may be open from the start, and hardly ever close
						o = outcome.FailedStatus
					case u < test.failing+test.dragging && step >= 100: // what is usual is known by then
						latency *= 40
					}
					final := rand.IntN(10) > 0
					for _, x := range []*trip{a, b} {
						x.before, x.idle, x.latency = time.Millisecond, false, latency
					}
					if o == outcome.Success && a.Permit.Generation == one.s.own.breaker.Generation {
						good++
						if one.s.Succeeded(a, cfg, final) {
							short++
							two.s.SettleAnswer(b, now, cfg, o, final)
							continue
						}
					}
					one.s.SettleAnswer(a, now, cfg, o, final)
					two.s.SettleAnswer(b, now, cfg, o, final)
				}
				// An open period is drawn at random.
				two.s.own.breaker.Until = one.s.own.breaker.Until
				for _, r := range []*stateRun{one, two} {
					r.s.Tick(now, cfg)
				}
				two.s.own.breaker.Until = one.s.own.breaker.Until
				if got, want := one.knows(), two.knows(); got != want {
					t.Fatalf("step %d: got\n%s\nwant\n%s", step, got, want)
				}
			}
			if float64(short) < test.short*float64(good) {
				t.Errorf("%d of %d successes became samples", short, good)
			}
		})
	}
}

// knows returns the endpoint's counts and conclusions as text, with sums rounded.
func (r *stateRun) knows() string {
	s, b := r.s, &r.s.own.breaker
	fresh := s.fresh
	if fresh == nil {
		fresh = new(Counted) // nothing has been counted since TakeFresh
	}
	return fmt.Sprintf("%+v\n%v %d, %d in a row, %v %v relapses %d worked %v\n%v %b held %d known %v pending %v\n%.9g %.9g\n%v\n%v\n%v %v %v",
		s.totals, b.State, b.Generation, b.Failures.Run, b.Outcomes.Counts(r.now, r.cfg.Window), b.Latencies.Counts(r.now, r.cfg.Window), b.Relapses, b.Worked,
		s.own.slowness.Limit, s.own.slowness.Verdicts, s.own.slowness.Held, s.own.slowness.Known, s.own.slowness.Pending,
		s.own.scorer.Errors.Ratio(), s.own.scorer.Calls.Now.Value(),
		s.last.names(), s.samples.n,
		fresh.Attempts, fresh.Calls, fresh.Durations)
}

// TestSamplesAreSeen checks that each method that needs the counts counts the samples first.
func TestSamplesAreSeen(t *testing.T) {
	now := epoch
	for name, seen := range map[string]func(s *State, cfg *breaker.Config) uint64{
		"status": func(s *State, cfg *breaker.Config) uint64 { return s.Status(now, cfg).Successes },
		"tick":   func(s *State, cfg *breaker.Config) uint64 { s.Tick(now, cfg); return s.totals.Successes },
		"hedge":  func(s *State, _ *breaker.Config) uint64 { s.For("").Typically(now, 0.5); return s.totals.Successes },
		"check":  func(s *State, _ *breaker.Config) uint64 { s.skipLocked(now); return s.checks.past.Successes },
		"failure": func(s *State, cfg *breaker.Config) uint64 {
			a := &trip{began: now, idle: true}
			s.Acquire(a, now, cfg, nil, AdmitNormally)
			s.Settle(a, now, cfg, outcome.FailedStatus, true, NoDoubt)
			return s.totals.Successes
		},
	} {
		r := newStateRun(t, defaultBreaker())
		for range 3 {
			a := r.begin(AdmitNormally)
			a.idle, a.latency = false, time.Millisecond
			if !r.s.Succeeded(a, r.cfg, false) {
				t.Fatalf("%s: an attempt did not become a sample", name)
			}
			if r.s.Succeeded(a, r.cfg, false) {
				t.Fatalf("%s: an attempt counts twice", name)
			}
		}
		if got := seen(r.s, r.cfg); got != 3 || r.s.Busy.Load() != 0 || !r.s.inFlight.empty() {
			t.Errorf("%s: %d successes, %d in flight, want 3 and 0", name, got, r.s.Busy.Load())
		}
	}
}
