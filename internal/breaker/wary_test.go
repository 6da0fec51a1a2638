package breaker

import (
	"testing"
	"time"
)

func TestWaryBreakerOpensAtOneFailure(t *testing.T) {
	now, cfg := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Defaults(time.Minute)
	wary := func() *Breaker {
		b := new(Breaker)
		if !b.SetWary(now, &cfg, true) || b.Allowed(&cfg) != WaryShare {
			t.Fatalf("the share is %v", b.Allowed(&cfg))
		}
		return b
	}
	report := func(b *Breaker, r Result) bool {
		p, ok := b.Acquire(now, &cfg)
		if !ok {
			t.Fatal("no permit")
		}
		return b.Report(now, &cfg, p, r)
	}

	b := wary()
	if !report(b, Result{Failed: true}) || b.State != Open || b.Reason != ReasonWary {
		t.Errorf("a failure makes it %v for %s", b.State, b.Reason)
	}

	b = wary()
	if !report(b, Result{}) || b.Allowed(&cfg) != 1 {
		t.Error("a success leaves it wary")
	}
	if report(b, Result{Failed: true}); b.State != Closed {
		t.Error("it opened although a call had succeeded")
	}

	b = wary()
	p, _ := b.Acquire(now, &cfg)
	if !b.Succeeded(&cfg, p, time.Millisecond) || !b.Tick(now, &cfg) || b.Allowed(&cfg) != 1 {
		t.Error("a quick success leaves it wary")
	}

	b = new(Breaker)
	p, _ = b.Acquire(now, &cfg)
	b.Succeeded(&cfg, p, time.Millisecond)
	b.SetWary(now, &cfg, true)
	if b.Tick(now, &cfg); !b.Wary() {
		t.Error("a success from before ends it")
	}

	b = wary()
	if !b.Checked(now, &cfg, false, false, false) || b.State != Open {
		t.Error("a failed check leaves it closed")
	}
	b = wary()
	if b.Checked(now, &cfg, false, false, true); b.State != Closed {
		t.Error("a failed check opened it although nothing else is there")
	}

	b = wary()
	if !b.SetWary(now, &cfg, false) || b.Allowed(&cfg) != 1 {
		t.Error("it stays wary")
	}
}

func TestOnlyAClosedBreakerIsWary(t *testing.T) {
	now, cfg := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Defaults(time.Minute)
	off := cfg
	off.Off = true
	for state := Open; state <= ForcedClosed; state++ {
		b := new(Breaker)
		b.Transition(state, now, ReasonOperator)
		before := b.Allowed(&cfg)
		if b.SetWary(now, &cfg, true) || b.Wary() || b.Allowed(&cfg) != before {
			t.Errorf("a breaker that is %v is wary", state)
		}
	}
	if b := new(Breaker); b.SetWary(now, &off, true) || b.Allowed(&off) != 1 {
		t.Error("a breaker that is off is wary")
	}
}

func TestOthersMoveTheEndOfAnOpenPeriod(t *testing.T) {
	now, cfg := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Defaults(time.Minute)
	b := new(Breaker)
	b.Trip(now, &cfg, ReasonConsecutive)
	b.TryAfter(now.Add(time.Minute))
	if b.Tick(now.Add(59*time.Second), &cfg); b.State != Open {
		t.Errorf("it is %v while another instance tries", b.State)
	}
	b.TryAt(now.Add(60 * time.Second))
	b.TryAfter(now)
	if b.Tick(now.Add(60*time.Second), &cfg); b.State != Recovering {
		t.Errorf("it is %v when it may try", b.State)
	}
	b.TryAfter(now.Add(time.Hour))
	if p, ok := b.Acquire(now.Add(time.Minute), &cfg); !ok || p.Trial == 0 {
		t.Error("a trial under way is stopped")
	}
}

func TestVainTrialsOfOthersPutOffTheOwnForAWhile(t *testing.T) {
	began, cfg := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Defaults(time.Minute)
	b := new(Breaker)
	b.Trip(began, &cfg, ReasonConsecutive)
	now := began
	for ; now.Sub(began) < postponedFor; now = now.Add(time.Second) {
		b.Postpone(now, &cfg)
		if b.Tick(now, &cfg); b.State != Open {
			t.Fatalf("it is %v after %v", b.State, now.Sub(began))
		}
	}
	for range 10 { // the longest period before jitter
		now = now.Add(time.Second)
		b.Postpone(now, &cfg)
		b.Tick(now, &cfg)
	}
	if b.State != Recovering {
		t.Errorf("after %v it is %v", now.Sub(began), b.State)
	}
	b.Postpone(now, &cfg)
	if p, ok := b.Acquire(now, &cfg); !ok || p.Trial == 0 {
		t.Error("its own trial is stopped")
	}
}

func TestWarinessCountsFailuresThatNothingFollowed(t *testing.T) {
	now, cfg := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Defaults(time.Minute)
	report := func(b *Breaker, failed bool, n int) {
		for range n {
			p, _ := b.Acquire(now, &cfg)
			b.Report(now, &cfg, p, Result{Failed: failed})
		}
	}
	for name, c := range map[string]struct {
		prepare func(b *Breaker)
		later   time.Duration
		fails   bool
	}{
		"nothing":                   {func(*Breaker) {}, 0, false},
		"a success":                 {func(b *Breaker) { report(b, false, 1) }, 0, false},
		"a failure":                 {func(b *Breaker) { report(b, true, 1) }, 0, true},
		"two failures":              {func(b *Breaker) { report(b, true, 2) }, 9 * time.Second, true},
		"a failure of long ago":     {func(b *Breaker) { report(b, true, 1) }, FailingFor, false},
		"a failure, then a success": {func(b *Breaker) { report(b, true, 1); report(b, false, 1) }, 0, false},
		"a failure, then a quick one": {func(b *Breaker) {
			report(b, true, 1)
			p, _ := b.Acquire(now, &cfg)
			b.Succeeded(&cfg, p, time.Millisecond)
		}, 0, false},
		"a usual failure": {func(b *Breaker) {
			for range 20 {
				report(b, false, 9)
				report(b, true, 1)
			}
			report(b, false, 9)
			report(b, true, 2)
		}, 0, false},
		"more failures than usual": {func(b *Breaker) {
			for range 20 {
				report(b, false, 9)
				report(b, true, 1)
			}
			report(b, false, 9)
			report(b, true, 4)
		}, 0, true},
	} {
		b := new(Breaker)
		c.prepare(b)
		at := now.Add(c.later)
		if got := b.HasFailed(at, &cfg); got != c.fails {
			t.Errorf("%s: failing is %v", name, got)
		}
		b.SetWary(at, &cfg, true)
		if got := b.State == Open; got != c.fails || got && b.Reason != ReasonWary {
			t.Errorf("%s: the breaker is %v (%s)", name, b.State, b.Reason)
		}
	}
}

func TestShareGrowsSlowlyWhileOthersReturnToo(t *testing.T) {
	cfg := Defaults(time.Minute)
	steps := func(together, quick bool) (n int) {
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		b := new(Breaker)
		b.Trip(now, &cfg, ReasonConsecutive)
		if quick {
			b.quick.may, b.noticed, b.Latest = true, true, checkHasPassed
		}
		if together {
			b.ReturnTogether()
		}
		now = b.Until
		b.Tick(now, &cfg)
		for before := b.Share; b.State == Recovering; n++ {
			for range 1000 {
				p, _ := b.Acquire(now, &cfg)
				b.Report(now, &cfg, p, Result{})
			}
			now = now.Add(cfg.Step)
			b.Tick(now, &cfg)
			if together && before > 0 && b.State == Recovering && b.Share > 1.101*before {
				t.Fatalf("the share grew from %v to %v in a step", before, b.Share)
			}
			before = b.Share
		}
		if b.together {
			t.Error("a breaker that has closed returns with others")
		}
		return n
	}
	for _, quick := range []bool{false, true} {
		if alone, together := steps(false, quick), steps(true, quick); together < 30 || together > 34 || alone > 6 {
			t.Errorf("quick: %v: it takes %d steps alone, %d with others", quick, alone, together)
		}
	}
	b := new(Breaker)
	if b.ReturnTogether(); b.together {
		t.Error("a closed breaker returns")
	}
}
