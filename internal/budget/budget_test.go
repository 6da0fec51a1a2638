package budget

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestBudget(t *testing.T) {
	type step struct {
		at      time.Duration
		calls   int // calls before the retries
		retries int // retries asked for
		want    int // retries granted
	}
	const s = time.Second
	for _, test := range []struct {
		name  string
		rules Rules
		steps []step
	}{
		{"the floor alone, over ten seconds", Rules{0, 3}, []step{
			{0, 1000, 40, 30}, {5 * s, 1000, 10, 0}, {11 * s, 0, 40, 30},
		}},
		{"a ratio of calls", Rules{0.2, 0}, []step{
			{0, 0, 5, 0}, {1 * s, 4, 5, 0}, {2 * s, 1, 5, 1}, {3 * s, 100, 50, 20}, {4 * s, 5, 1, 1},
		}},
		{"both", Rules{0.2, 3}, []step{{0, 100, 100, 50}}},
		{"nothing", Rules{0, 0}, []step{{0, 1000, 10, 0}}},
		{"every call", Rules{1, 0}, []step{{0, 10, 20, 10}}},
		{"calls of long ago count no more", Rules{0.5, 0}, []step{
			{0, 100, 0, 0}, {11 * s, 2, 10, 1},
		}},
		{"retries of long ago count no more", Rules{0.1, 0}, []step{
			{0, 100, 10, 10}, {5 * s, 0, 1, 0}, {11500 * time.Millisecond, 100, 20, 10},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var b Budget
			now, denied := epoch, int64(0)
			for i, step := range test.steps {
				for ; now.Before(epoch.Add(step.at)); now = now.Add(tickEvery) {
					b.Tick(now)
				}
				now = epoch.Add(step.at)
				for range step.calls {
					b.Call()
				}
				granted := 0
				for range step.retries {
					if b.Take(now, &test.rules) {
						granted++
					}
				}
				if granted != step.want {
					t.Fatalf("step %d at %v: %d retries, want %d", i, step.at, granted, step.want)
				}
				denied += int64(step.retries - step.want)
			}
			if got := b.Denied.Load(); got != denied {
				t.Errorf("%d denied, want %d", got, denied)
			}
		})
	}
}

func TestBudgetGivesBack(t *testing.T) {
	var b Budget
	rules := Rules{0, 0.1}
	for range 5 {
		if !b.Take(epoch, &rules) {
			t.Fatal("want one")
		}
		if b.Take(epoch, &rules) {
			t.Fatal("want one only")
		}
		b.GiveBack()
	}
}

// TestBudgetProperty compares random traffic with a list of all events. The budget must
// never grant more than its rules allow for the calls of 11 seconds, and never less than
// for those of 10.
func TestBudgetProperty(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 3))
		rules := Rules{float64(rng.IntN(5)) / 10, float64(rng.IntN(4))}
		var b Budget
		var calls, retries []time.Time
		now, tick := epoch, epoch
		count := func(times []time.Time, span time.Duration) (n float64) {
			for i := len(times) - 1; i >= 0 && now.Sub(times[i]) < span; i-- {
				n++
			}
			return n
		}
		for range 1000 {
			now = now.Add(time.Duration(rng.ExpFloat64() * float64(rng.IntN(100)) * float64(time.Millisecond)))
			for ; !tick.After(now); tick = tick.Add(tickEvery) {
				b.Tick(tick)
			}
			if rng.IntN(2) == 0 {
				b.Call()
				calls = append(calls, now)
				continue
			}
			// Marks are a second apart, and up to a tick late.
			const short, long = budgetSpan, budgetSpan + budgetMark + 2*tickEvery
			most := rules.Ratio*count(calls, long) + rules.Floor*10
			least := rules.Ratio*count(calls, short) + rules.Floor*10
			granted := b.Take(now, &rules)
			if granted && count(retries, short)+1 > most {
				t.Fatalf("seed %d at %v: granted beyond %v", seed, now.Sub(epoch), most)
			}
			if !granted && count(retries, long)+1 <= least {
				t.Fatalf("seed %d at %v: denied within %v", seed, now.Sub(epoch), least)
			}
			if granted {
				retries = append(retries, now)
			}
		}
	}
}

func TestCallRate(t *testing.T) {
	var b Budget
	begin := time.Unix(1e9, 0)
	if rate := b.Rate(begin); rate != 0 {
		t.Errorf("unused: %v", rate)
	}
	now := begin
	for range 30 {
		b.Tick(now)
		for range 7 {
			b.Call()
		}
		now = now.Add(time.Second)
	}
	if rate := b.Rate(now); rate != 7 {
		t.Errorf("steady: %v a second", rate)
	}
	// An hour without calls takes no marks.
	now = now.Add(time.Hour)
	if rate := b.Rate(now); rate > 1 {
		t.Errorf("idle: %v a second", rate)
	}
	b.Tick(now)
	for range 50 {
		b.Call()
	}
	if rate := b.Rate(now.Add(time.Second)); rate < 5 || rate > 50 {
		t.Errorf("after idling: %v a second", rate)
	}
}

// epoch is the start of the tests' clocks.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const tickEvery = 250 * time.Millisecond
