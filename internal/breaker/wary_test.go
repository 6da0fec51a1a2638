package breaker

import (
	"fmt"
	"testing"
	"time"
)

// TestWaryBreakerOpensAtOneFailure checks that one failure or failed check opens a wary breaker, and
// that a success ends its wariness.
func TestWaryBreakerOpensAtOneFailure(t *testing.T) {
	now, cfg := epoch, Defaults(time.Minute)
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
		t.Error("an earlier success ends its wariness")
	}

	b = wary()
	if !b.Checked(now, &cfg, false, false, false) || b.State != Open {
		t.Error("a failed check leaves it closed")
	}
	b = wary()
	if b.Checked(now, &cfg, false, false, true); b.State != Closed {
		t.Error("a failed check opened the last endpoint's breaker")
	}

	b = wary()
	if !b.SetWary(now, &cfg, false) || b.Allowed(&cfg) != 1 {
		t.Error("it stays wary")
	}
}

// TestOnlyAClosedBreakerIsWary checks that no open, recovering, forced or switched-off breaker is wary.
func TestOnlyAClosedBreakerIsWary(t *testing.T) {
	now, cfg := epoch, Defaults(time.Minute)
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

// TestOthersMoveTheEndOfAnOpenPeriod checks that TryAfter and TryAt move the end of an open period, but
// do not stop a trial in flight.
func TestOthersMoveTheEndOfAnOpenPeriod(t *testing.T) {
	now, cfg := epoch, Defaults(time.Minute)
	b := new(Breaker)
	b.Trip(now, &cfg, ReasonConsecutive)
	b.TryAfter(now.Add(time.Minute), now, &cfg, "a")
	if b.Tick(now.Add(59*time.Second), &cfg); b.State != Open {
		t.Errorf("it is %v while another instance tries", b.State)
	}
	b.TryAt(now.Add(60 * time.Second))
	b.TryAfter(now, now, &cfg, "b")
	if b.Tick(now.Add(60*time.Second), &cfg); b.State != Recovering {
		t.Errorf("it is %v when it may try", b.State)
	}
	b.TryAfter(now.Add(time.Minute), now, &cfg, "a")
	if p, ok := b.Acquire(now.Add(time.Minute), &cfg); !ok || p.Trial == 0 {
		t.Error("TryAfter stopped a trial in flight")
	}
}

// TestPostponeEnds checks that Postpone keeps a breaker open while other instances try in vain, but only
// for a while, and does not stop its own trial.
func TestPostponeEnds(t *testing.T) {
	began, cfg := epoch, Defaults(time.Minute)
	b := new(Breaker)
	b.Trip(began, &cfg, ReasonConsecutive)
	now := began
	for n := 0; now.Sub(began) < postponedFor; now = now.Add(time.Second) {
		if b.Until.Sub(now) <= time.Second {
			n++
			b.Postpone(now, &cfg, fmt.Sprint("late ", n))
		}
		if b.Tick(now, &cfg); b.State != Open {
			t.Fatalf("it is %v after %v", b.State, now.Sub(began))
		}
	}
	for i := range 10 { // seconds of the longest period, without jitter
		now = now.Add(time.Second)
		b.Postpone(now, &cfg, fmt.Sprint("too late ", i))
		b.Tick(now, &cfg)
	}
	if b.State != Recovering {
		t.Errorf("after %v it is %v", now.Sub(began), b.State)
	}
	b.Postpone(now, &cfg, "b")
	if p, ok := b.Acquire(now, &cfg); !ok || p.Trial == 0 {
		t.Error("Postpone stopped its own trial")
	}
}

// TestATurnComesAgain checks that an instance gets another turn when turnsApart longest periods are over, and not before.
func TestATurnComesAgain(t *testing.T) {
	cfg, now := Defaults(time.Minute), epoch
	b := new(Breaker)
	b.Trip(now, &cfg, ReasonConsecutive)
	putsOff := func(by string) bool {
		until := b.Until
		b.TryAfter(until.Add(time.Second), now, &cfg, by)
		return b.Until.After(until)
	}
	if !putsOff("a") || putsOff("a") || !putsOff("b") {
		t.Error("each instance has one turn")
	}
	b.Postpone(now, &cfg, "a")
	now = now.Add(turnsApart*cfg.OpenMax - 1)
	if putsOff("a") {
		t.Error("an instance has two turns too soon")
	}
	if now = now.Add(1); !putsOff("a") {
		t.Error("an instance has no second turn")
	}
}

// TestTurnsAreApart checks that instances that try again and again in vain put a breaker's own trial off once
// each, and that invented ones without end put it off no longer than mostLeft real ones.
func TestTurnsAreApart(t *testing.T) {
	cfg := Defaults(time.Minute)
	for _, others := range []int{1, 2, 3, 8, 1e6} {
		b, now := new(Breaker), epoch
		b.Trip(now, &cfg, ReasonConsecutive)
		for n := 0; b.State == Open && now.Sub(epoch) < time.Hour; n++ {
			by := fmt.Sprint("instance ", n%others)
			b.TryAfter(now.Add(2*time.Second), now, &cfg, by)
			now = now.Add(500 * time.Millisecond)
			b.Postpone(now, &cfg, by)
			b.Tick(now, &cfg)
		}
		const each = 500 * time.Millisecond
		least, most := cfg.OpenFor, time.Duration(min(others, mostLeft))*each+2*cfg.OpenMax
		if took := now.Sub(epoch); took < least || took > most {
			t.Errorf("beside %d that try, its own trial began after %v, want %v to %v", others, took, least, most)
		}
	}
}

// TestWarinessCountsEarlierFailures checks that SetWary opens a breaker at once if its latest results
// are failures beyond the usual rate.
func TestWarinessCountsEarlierFailures(t *testing.T) {
	now, cfg := epoch, Defaults(time.Minute)
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

// TestShareGrowsSlowlyWhileOthersReturnToo checks that the share grows by at most a tenth in a step if
// other instances return at the same time.
func TestShareGrowsSlowlyWhileOthersReturnToo(t *testing.T) {
	cfg := Defaults(time.Minute)
	steps := func(together, quick bool) (n int) {
		now := epoch
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
		t.Error("a closed breaker returns with others")
	}
}
