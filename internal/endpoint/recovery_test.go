package endpoint

import (
	"math"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// TestAnswersCountOnceTowardsRecovery checks that a good answer raises a recovering share once, whether
// its first byte or its end is reported first.
func TestAnswersCountOnceTowardsRecovery(t *testing.T) {
	const n = 10
	for name, answer := range map[string]func(r *stateRun, a *trip){
		"its end is all that is reported": func(r *stateRun, a *trip) { r.s.Settle(a, r.now, r.cfg, outcome.Success, true, NoDoubt) },
		"the first byte, then the end": func(r *stateRun, a *trip) {
			r.s.BeganAnswer(a, r.now, r.cfg)
			r.s.Settle(a, r.now, r.cfg, outcome.Success, true, NoDoubt)
		},
		"the first byte twice, then the end": func(r *stateRun, a *trip) {
			r.s.BeganAnswer(a, r.now, r.cfg)
			r.s.BeganAnswer(a, r.now, r.cfg)
			r.s.Settle(a, r.now, r.cfg, outcome.Success, true, NoDoubt)
		},
		"the end, then the first byte": func(r *stateRun, a *trip) {
			r.s.Settle(a, r.now, r.cfg, outcome.Success, true, NoDoubt)
			r.s.BeganAnswer(a, r.now, r.cfg)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newStateRun(t, defaultBreaker(func(cfg *breaker.Config) { cfg.Start = 0.5 }))
			r.s.own.breaker.Trip(r.now, r.cfg, breaker.ReasonConsecutive)
			r.now = r.s.own.breaker.Until
			r.s.Tick(r.now, r.cfg)
			for i := range 1 + n { // the first is the trial
				a := r.begin(AdmitNormally)
				if a == nil {
					t.Fatalf("call %d was refused", i)
				}
				a.idle, a.latency = false, time.Millisecond
				answer(r, a)
			}
			r.now = r.now.Add(r.cfg.Step)
			r.s.Tick(r.now, r.cfg)
			if got, want := r.s.own.breaker.Share, 0.5+n*0.01; math.Abs(got-want) > 1e-9 {
				t.Errorf("after %d successes the share is %v, want %v", n, got, want)
			}
		})
	}
}

// TestHeldSlowAnswersFailOnce checks that a slow answer that was held back until its end counts once
// against an endpoint that recovers from slowness.
func TestHeldSlowAnswersFailOnce(t *testing.T) {
	r := newStateRun(t, defaultBreaker())
	for range 200 {
		a := r.begin(AdmitNormally)
		a.idle, a.latency = false, time.Millisecond
		r.s.Settle(a, r.now, r.cfg, outcome.Success, true, NoDoubt)
	}
	r.now = r.now.Add(time.Second)
	r.s.Tick(r.now, r.cfg)
	r.s.own.breaker.Suspect(r.now, r.cfg, breaker.ReasonSlower)
	r.now = r.s.own.breaker.Until
	r.s.Tick(r.now, r.cfg)
	for _, latency := range []time.Duration{time.Millisecond, time.Second} { // a trial, and a slow answer
		a := r.begin(AdmitNormally)
		a.idle, a.latency, a.began = false, latency, r.now
		r.now = r.now.Add(latency)
		r.s.Settle(a, r.now, r.cfg, outcome.Success, true, NoDoubt)
		r.s.BeganAnswer(a, r.now, r.cfg)
	}
	if got := r.s.own.breaker.State; got != breaker.Recovering {
		t.Errorf("after one slow answer at the smallest share, the share is %v", got)
	}
}
