package window

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestCounterSteps(t *testing.T) {
	const span = 10 * time.Second
	type event struct {
		at     time.Duration
		marked bool
		want   Counts
	}
	steps := []event{
		{0, false, Counts{1, 0}},
		{0, true, Counts{2, 1}},
		{900 * time.Millisecond, true, Counts{3, 2}},
		{5 * time.Second, false, Counts{4, 2}},
		{9900 * time.Millisecond, false, Counts{5, 2}},
		{10 * time.Second, false, Counts{3, 0}}, // the first second has left the window
		{9 * time.Second, true, Counts{4, 1}},   // the clock jumped back
		{15 * time.Second, false, Counts{4, 1}},
		{40 * time.Second, true, Counts{1, 1}},
	}
	var c Counter
	for i, s := range steps {
		c.Add(epoch.Add(s.at), span, s.marked)
		if got := c.Counts(epoch.Add(s.at), span); got != s.want {
			t.Fatalf("step %d at %v: got %+v, want %+v", i, s.at, got, s.want)
		}
	}
}

// TestCounterAgainstAList checks that the counter holds every event of the last 90 % of the span,
// and none that is older than the span.
func TestCounterAgainstAList(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const span = time.Second
	var c Counter
	var times []time.Duration
	var at time.Duration
	for range 20_000 {
		at += time.Duration(rng.ExpFloat64() * float64(20*time.Millisecond))
		c.Add(epoch.Add(at), span, false)
		times = append(times, at)
		least, most := 0, 0
		for i := len(times) - 1; i >= 0 && at-times[i] <= span; i-- {
			most++
			if at-times[i] < span*9/10 {
				least++
			}
		}
		if got := c.Counts(epoch.Add(at), span).Total; got < least || got > most {
			t.Fatalf("at %v: %d events, want %d to %d", at, got, least, most)
		}
	}
}

func TestCounterChangesSpan(t *testing.T) {
	var c Counter
	c.Add(epoch, time.Second, true)
	if got := c.Counts(epoch, time.Minute); got != (Counts{}) {
		t.Fatalf("another span kept %+v", got)
	}
	c.Add(epoch, 3, true) // a span shorter than its number of buckets
	if got := c.Counts(epoch.Add(3), 3); got.Total > 1 {
		t.Fatalf("got %+v", got)
	}
}

func BenchmarkAdd(b *testing.B) {
	var c Counter
	now := epoch
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Millisecond)
		c.Add(now, 10*time.Second, false)
	}
}

func ExampleCounter() {
	var c Counter
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	c.Add(now, 10*time.Second, true)
	c.Add(now.Add(6*time.Second), 10*time.Second, false)
	fmt.Println(c.Counts(now.Add(6*time.Second), 10*time.Second).Ratio())
	fmt.Println(c.Counts(now.Add(12*time.Second), 10*time.Second).Ratio())
	// Output:
	// 0.5
	// 0
}
