package failover

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestBudget(t *testing.T) {
	type step struct {
		at      time.Duration
		calls   int // before
		retries int // asked for
		want    int // granted
	}
	const s = time.Second
	for _, test := range []struct {
		name  string
		rules budgetRules
		steps []step
	}{
		{"the floor alone, over ten seconds", budgetRules{0, 3}, []step{
			{0, 1000, 40, 30}, {5 * s, 1000, 10, 0}, {11 * s, 0, 40, 30},
		}},
		{"a ratio of calls", budgetRules{0.2, 0}, []step{
			{0, 0, 5, 0}, {1 * s, 4, 5, 0}, {2 * s, 1, 5, 1}, {3 * s, 100, 50, 20}, {4 * s, 5, 1, 1},
		}},
		{"both", budgetRules{0.2, 3}, []step{{0, 100, 100, 50}}},
		{"nothing", budgetRules{0, 0}, []step{{0, 1000, 10, 0}}},
		{"every call", budgetRules{1, 0}, []step{{0, 10, 20, 10}}},
		{"calls of long ago count no more", budgetRules{0.5, 0}, []step{
			{0, 100, 0, 0}, {11 * s, 2, 10, 1},
		}},
		{"retries of long ago count no more", budgetRules{0.1, 0}, []step{
			{0, 100, 10, 10}, {5 * s, 0, 1, 0}, {11500 * time.Millisecond, 100, 20, 10},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var b budget
			now, denied := epoch, int64(0)
			for i, step := range test.steps {
				for ; now.Before(epoch.Add(step.at)); now = now.Add(tickEvery) {
					b.tick(now)
				}
				now = epoch.Add(step.at)
				for range step.calls {
					b.call()
				}
				granted := 0
				for range step.retries {
					if b.take(now, &test.rules) {
						granted++
					}
				}
				if granted != step.want {
					t.Fatalf("step %d at %v: %d retries, want %d", i, step.at, granted, step.want)
				}
				denied += int64(step.retries - step.want)
			}
			if got := b.denied.Load(); got != denied {
				t.Errorf("%d denied, want %d", got, denied)
			}
		})
	}
}

func TestBudgetGivesBack(t *testing.T) {
	var b budget
	rules := budgetRules{0, 0.1}
	for range 5 {
		if !b.take(epoch, &rules) {
			t.Fatal("want one")
		}
		if b.take(epoch, &rules) {
			t.Fatal("want one only")
		}
		b.giveBack()
	}
}

// TestBudgetProperty compares random traffic with a list of all events: the
// budget never grants more than its rules allow for the calls of 11 seconds, and
// never less than for those of 10.
func TestBudgetProperty(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 3))
		rules := budgetRules{float64(rng.IntN(5)) / 10, float64(rng.IntN(4))}
		var b budget
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
				b.tick(tick)
			}
			if rng.IntN(2) == 0 {
				b.call()
				calls = append(calls, now)
				continue
			}
			// marks are a second apart, and up to a tick late
			const short, long = budgetSpan, budgetSpan + budgetMark + 2*tickEvery
			most := rules.ratio*count(calls, long) + rules.floor*10
			least := rules.ratio*count(calls, short) + rules.floor*10
			granted := b.take(now, &rules)
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
