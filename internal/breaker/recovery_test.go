package breaker

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestBreakerThinTraffic checks that a recovering endpoint asks for calls if it gets none by its share.
func TestBreakerThinTraffic(t *testing.T) {
	r := newBreakerRun(t, defaultBreaker())
	wants := func(wantTrial, wantUrgent bool) {
		t.Helper()
		if trial, urgent := r.b.WantsTrial(r.now, r.cfg); trial != wantTrial || urgent != wantUrgent {
			t.Fatalf("at %v: wants a trial: %v, urgently: %v; want %v, %v", r.now.Sub(epoch), trial, urgent, wantTrial, wantUrgent)
		}
	}
	wants(false, false)
	r.do("fail 5")
	wants(false, false)
	r.advance(r.b.Until)
	wants(true, false) // a call that another endpoint can still serve
	r.do("begin a")
	wants(false, false)
	r.advance(r.now.Add(r.cfg.trialExpiry))
	wants(true, false)
	r.advance(r.b.Changed.Add(trialPatience))
	wants(true, true) // any call
	r.do("ok")
	for _, share := range []float64{0.05, 0.1, 0.2, 0.4, 0.8} {
		if got := r.standing().share; got != share {
			t.Fatalf("the share is %v, want %v", got, share)
		}
		wants(false, false)
		r.advance(r.now.Add(10*r.cfg.Step - 1))
		wants(false, false)
		r.advance(r.now.Add(1)) // ten steps without a call
		wants(true, false)
		r.advance(r.now.Add(10 * r.cfg.Step))
		wants(true, true)
		r.do("ok")
		wants(false, false)
		r.advance(r.now.Add(r.cfg.Step))
	}
	if got := r.standing(); got != (standing{Closed, 1, ReasonRecovered}) {
		t.Fatalf("got %v", got)
	}
}

// TestRecoveryInSpiteOfSomeFailures checks that an endpoint with a normal rate of errors
// recovers, however busy it is, and that one with a high rate does not.
func TestRecoveryInSpiteOfSomeFailures(t *testing.T) {
	cfg := defaultBreaker()
	recover := func(seed uint64, rps int, failing float64) (took time.Duration, closed bool) {
		rng := rand.New(rand.NewPCG(seed, 9))
		var b Breaker
		b.open(epoch, cfg, ReasonConsecutive)
		now := b.Until
		for began := now; now.Sub(began) < 5*time.Minute; now = now.Add(50 * time.Millisecond) {
			b.Tick(now, cfg)
			for range rps / 20 {
				if wants, _ := b.WantsTrial(now, cfg); !wants && rng.Float64() >= b.Allowed(cfg) {
					continue
				}
				if p, ok := b.Acquire(now, cfg); ok {
					b.Report(now, cfg, p, Result{Failed: rng.Float64() < failing})
				}
				if b.State == Closed {
					return now.Sub(began), true
				}
			}
		}
		return 5 * time.Minute, false
	}
	const runs = 50
	for _, rps := range []int{200, 2000} {
		sum := time.Duration(0)
		for seed := range uint64(runs) {
			took, _ := recover(seed, rps, 0.01)
			sum += took
		}
		if mean := sum / runs; mean > 20*time.Second {
			t.Errorf("%d a second of which 1 %% fail: back after %v on average", rps, mean)
		}
		back := 0
		for seed := range uint64(runs) {
			if _, closed := recover(seed, rps, 0.3); closed {
				back++
			}
		}
		if back > runs/25 {
			t.Errorf("%d a second of which 30 %% fail: closed %d of %d times", rps, back, runs)
		}
	}
}

// TestRecoveryTakesAsLongAsTheEvidence checks that a busy endpoint that works has its full share
// back within seconds, and a quiet one after a few calls.
func TestRecoveryTakesAsLongAsTheEvidence(t *testing.T) {
	for _, test := range []struct {
		rps      int
		atMost   time.Duration
		attempts int // at most; 0: any number
	}{
		{1, 32 * time.Second, 16},
		{10, 22 * time.Second, 0},
		{200, 3 * time.Second, 0},
		{2000, 2500 * time.Millisecond, 0},
	} {
		rng := rand.New(rand.NewPCG(uint64(test.rps), 11))
		const runs = 100
		took, attempts := time.Duration(0), 0
		for range runs {
			r := newBreakerRun(t, defaultBreaker())
			r.do("fail 5")
			r.advance(r.b.Until)
			began := r.now
			for r.b.State != Closed {
				if wants, _ := r.b.WantsTrial(r.now, r.cfg); wants || rng.Float64() < r.b.Allowed(r.cfg) {
					r.do("ok")
					attempts++
				}
				r.advance(r.now.Add(time.Second / time.Duration(test.rps)))
			}
			took += r.now.Sub(began)
		}
		t.Logf("%d a second: back after %v and %d attempts on average", test.rps, took/runs, attempts/runs)
		if took/runs > test.atMost || test.attempts > 0 && attempts/runs > test.attempts {
			t.Errorf("%d a second: back after %v and %d attempts on average, want %v and %d", test.rps, took/runs, attempts/runs, test.atMost, test.attempts)
		}
	}
}
