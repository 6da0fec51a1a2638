package breaker

import (
	"fmt"
	"testing"
	"time"
)

// openAndPass lets failed checks open b, and later checks pass, so that b recovers with the first
// share.
func openAndPass(t *testing.T, b *Breaker, now time.Time, cfg *Config) {
	t.Helper()
	b.Checked(now, cfg, false, true, false)
	b.Checked(now.Add(time.Second), cfg, true, true, false)
	if b.State != Recovering || b.Share != cfg.Start {
		t.Fatalf("%v with %v, want recovering with %v", b.State, b.Share, cfg.Start)
	}
}

// succeed makes n attempts succeed.
func succeed(b *Breaker, now time.Time, cfg *Config, n int) {
	for range n {
		p, _ := b.Acquire(now, cfg)
		b.Report(now, cfg, p, Result{})
	}
}

// TestQuickRecovery checks when the share grows at each success, and by how much.
func TestQuickRecovery(t *testing.T) {
	cfg := Defaults(time.Second)
	now := epoch
	near := func(what string, got, want float64) {
		t.Helper()
		if got < want-1e-9 || got > want+1e-9 {
			t.Errorf("%s: share %v, want %v", what, got, want)
		}
	}
	fail := func(b *Breaker, now time.Time) {
		p, _ := b.Acquire(now, &cfg)
		b.Report(now, &cfg, p, Result{Failed: true})
	}

	var b Breaker
	openAndPass(t, &b, now, &cfg)
	now = now.Add(time.Second)
	succeed(&b, now, &cfg, 5)
	near("5 successes", b.Share, 0.10)
	b.Checked(now, &cfg, true, true, false)
	near("a check", b.Share, 0.10)
	succeed(&b, now, &cfg, 50)
	near("at most quadrupled in a step", b.Share, 0.20)
	b.Tick(now.Add(cfg.Step), &cfg)
	near("the step's successes count once", b.Share, 0.20)
	now = now.Add(cfg.Step)
	succeed(&b, now, &cfg, 20)
	near("next step", b.Share, 0.40)
	fail(&b, now)
	near("the first failure", b.Share, 0.20)
	succeed(&b, now, &cfg, 10)
	near("growth waits for the end of the step", b.Share, 0.20)
	b.Tick(now.Add(cfg.Step), &cfg) // ends a bad step
	now = now.Add(cfg.Step)
	succeed(&b, now, &cfg, 10)
	b.Tick(now.Add(cfg.Step), &cfg)
	near("a success counts half", b.Share, 0.25)

	// It closes, and opens again within a minute: no quick recovery.
	now = now.Add(cfg.Step)
	for b.State == Recovering {
		succeed(&b, now, &cfg, 100)
		now = now.Add(cfg.Step)
		b.Tick(now, &cfg)
	}
	if b.State != Closed {
		t.Fatalf("%v, want closed", b.State)
	}
	openAndPass(t, &b, now.Add(30*time.Second), &cfg)
	succeed(&b, now.Add(31*time.Second), &cfg, 5)
	near("healthy for only 30 s", b.Share, 0.05)

	// A relapse ends it too, until the breaker has been closed for a minute.
	b = Breaker{}
	openAndPass(t, &b, now, &cfg)
	now = now.Add(2 * time.Second)
	fail(&b, now)
	fail(&b, now)
	if b.State != Open || b.Relapses != 1 {
		t.Fatalf("%v after %d relapses, want open after 1", b.State, b.Relapses)
	}
	openAndPass(t, &b, now, &cfg)
	succeed(&b, now.Add(time.Second), &cfg, 5)
	near("after a relapse", b.Share, 0.05)

	// The recovery is not quick if calls, not checks, opened the breaker.
	b = Breaker{}
	for range cfg.ConsecutiveFailures {
		fail(&b, now)
	}
	now = b.Until
	b.Tick(now, &cfg)
	succeed(&b, now, &cfg, 5)
	near("checks saw no fault", b.Share, 0.05)

	// A share of 1 closes the breaker.
	b = Breaker{}
	openAndPass(t, &b, now, &cfg)
	for i := range 10 {
		at := now.Add(time.Second + time.Duration(i)*cfg.Step)
		b.Tick(at, &cfg)
		succeed(&b, at, &cfg, 100)
	}
	if b.State != Closed {
		t.Errorf("%v with %v, want closed", b.State, b.Share)
	}
}

// TestLateChecks checks that late checks do not keep a breaker open, and that checks in time end the
// open period.
func TestLateChecks(t *testing.T) {
	cfg := Defaults(time.Second)
	now := epoch
	var b Breaker
	b.Suspect(now, &cfg, ReasonSlower)
	b.CheckedLate()
	b.Tick(b.Until, &cfg)
	if b.State != Recovering || b.Share != 0 {
		t.Fatalf("late checks: %v with %v, want a trial when the period is over", b.State, b.Share)
	}

	b = Breaker{}
	b.Suspect(now, &cfg, ReasonSlower)
	b.CheckedLate()
	b.Checked(now, &cfg, true, false, false)
	if b.State != Open {
		t.Errorf("%v after one check in time, want open", b.State)
	}
	b.Checked(now, &cfg, true, true, false)
	if b.State != Recovering || b.Share != cfg.Start {
		t.Errorf("%v with %v after two, want recovering with the first share", b.State, b.Share)
	}
}

// setPace makes rate attempts a second succeed for a window, so that b knows its pace.
func setPace(b *Breaker, now time.Time, cfg *Config, rate int) (after time.Time) {
	for range int(cfg.Window.Seconds()) {
		now = now.Add(time.Second)
		succeed(b, now, cfg, rate)
		b.Tick(now, cfg)
	}
	return now
}

// TestRecoveryWithFewCalls checks that a success of a rare call adds more to the share while checks show
// that the endpoint works.
func TestRecoveryWithFewCalls(t *testing.T) {
	cfg := Defaults(time.Second)
	start := epoch
	fail := func(b *Breaker, now time.Time) {
		p, _ := b.Acquire(now, &cfg)
		b.Report(now, &cfg, p, Result{Failed: true, Moved: Moved{On: true, Rate: 200}})
	}
	near := func(what string, got, want float64) {
		t.Helper()
		if got < want-0.003 || got > want+0.003 {
			t.Errorf("%s: share %.3f, want %.3f", what, got, want)
		}
	}
	for _, test := range []struct {
		rate         int
		each, upheld float64 // what a success adds
	}{{200, 0.01, 0.01}, {40, 0.01, 0.01}, {30, 0.01, 0.0133}, {20, 0.015, 0.02}, {10, 0.03, 0.04}, {2, 0.04, 0.04}} {
		var seen Breaker
		now := setPace(&seen, start, &cfg, test.rate)
		openAndPass(t, &seen, now, &cfg)
		succeed(&seen, now.Add(time.Second), &cfg, 3)
		near(fmt.Sprintf("%d a second, checks saw the fault", test.rate), seen.Share, cfg.Start+3*test.each)
		fail(&seen, now.Add(time.Second))
		near("the first failure", seen.Share, max(cfg.Start, (cfg.Start+3*test.each)/2))
		if got := seen.quick.ofSuccess(); got > shareOfSuccess/2 {
			t.Errorf("%d a second: after a failure a success adds %v", test.rate, got)
		}

		// Calls fail, checks pass, and two trials fail.
		for _, checked := range []bool{true, false} {
			var b Breaker
			now := setPace(&b, start, &cfg, test.rate)
			for b.State == Closed {
				fail(&b, now)
			}
			for range 2 {
				if checked {
					b.Checked(now, &cfg, true, true, false)
				}
				now = b.Until
				b.Tick(now, &cfg)
				fail(&b, now)
			}
			if checked {
				b.Checked(now, &cfg, true, true, false)
			}
			now = b.Until
			b.Tick(now, &cfg)
			succeed(&b, now, &cfg, 1)
			near("the trial", b.Share, cfg.Start)
			for range 2 { // the first step doubles the share
				now = now.Add(cfg.Step)
				succeed(&b, now, &cfg, 3)
				b.Tick(now, &cfg)
			}
			each := test.upheld
			if !checked {
				each = shareOfSuccess
			}
			first := min(2*cfg.Start, cfg.Start+max(3*each, shareOfStep))
			near(fmt.Sprintf("%d a second, checked %t", test.rate, checked), b.Share, min(2*first, first+max(3*each, shareOfStep)))
		}
	}
}
