package quota

import (
	"math/rand/v2"
	"testing"
	"time"
)

var start = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

func TestTake(t *testing.T) {
	type step struct {
		ms   int
		n    int64
		want bool
	}
	for name, test := range map[string]struct {
		limit Limit
		steps []step
	}{
		"one a second": {Limit{Amount: 1, Per: time.Second}, []step{{0, 1, true}, {0, 1, false}, {999, 1, false}, {1000, 1, true}, {1999, 1, false}, {2000, 1, true}}},
		"a burst": {Limit{Amount: 10, Per: time.Second, Burst: 3}, []step{{0, 1, true}, {0, 1, true}, {0, 1, true}, {0, 1, false}, {99, 1, false}, {100, 1, true}, {100, 1, false},
			{10000, 3, true}, {10000, 1, false}}},
		"more than the burst":  {Limit{Amount: 10, Per: time.Second, Burst: 3}, []step{{0, 8, true}, {0, 1, false}, {599, 1, false}, {600, 1, true}, {700, 4, false}, {900, 4, true}}},
		"the clock jumps back": {Limit{Amount: 1, Per: time.Second}, []step{{5000, 1, true}, {0, 1, false}, {6000, 1, true}}},
	} {
		t.Run(name, func(t *testing.T) {
			rate := test.limit.Rate()
			var b Bucket
			for i, s := range test.steps {
				if got := b.Take(at(s.ms), &rate, s.n); got != s.want {
					t.Fatalf("step %d, %d at %d ms: %v, ready at %v", i, s.n, s.ms, got, b.Ready(at(s.ms), &rate, s.n).Sub(start))
				}
			}
		})
	}
}

// TestNoSpanHasMoreThanTheAmount: by default, however calls come; and what demand there is gets nearly all.
func TestNoSpanHasMoreThanTheAmount(t *testing.T) {
	for _, limit := range []Limit{{Amount: 600, Per: time.Minute}, {Amount: 3, Per: time.Second}, {Amount: 1, Per: time.Minute}, {Amount: 50, Per: time.Second}, {Amount: 10000, Per: time.Hour}} {
		rate := limit.Rate()
		var b Bucket
		var taken []time.Time
		random := rand.New(rand.NewPCG(1, 2))
		mean := float64(limit.Per) / float64(limit.Amount) / 2 // twice the grant
		now := start
		for end := start.Add(5 * limit.Per); now.Before(end); now = now.Add(time.Duration(random.ExpFloat64() * mean)) {
			if b.Take(now, &rate, 1) {
				taken = append(taken, now)
			}
		}
		oldest := 0
		for i, at := range taken {
			for at.Sub(taken[oldest]) >= limit.Per {
				oldest++
			}
			if n := int64(i - oldest + 1); n > limit.Amount {
				t.Fatalf("%+v: %d within %v", limit, n, limit.Per)
			}
		}
		if part := float64(len(taken)) / float64(5*limit.Amount); limit.Amount >= 600 && part < 0.97 {
			t.Errorf("%+v: only %.3f of the grant used", limit, part)
		}
	}
}

// TestTokens: calls that book a guess and put it right use the grant within 5 %.
func TestTokens(t *testing.T) {
	rate := Limit{Amount: 60000, Per: time.Minute}.Rate()
	var b Bucket
	random := rand.New(rand.NewPCG(3, 4))
	type answer struct {
		at   time.Time
		diff int64
	}
	var answers []answer
	var used int64
	for now := start; now.Before(start.Add(5 * time.Minute)); now = now.Add(50 * time.Millisecond) {
		for len(answers) > 0 && !now.Before(answers[0].at) {
			b.Use(now, &rate, answers[0].diff)
			answers = answers[1:]
		}
		if booked := int64(1000); b.Take(now, &rate, booked) {
			tokens := 50 + random.Int64N(3950)
			used += tokens
			answers = append(answers, answer{now.Add(2 * time.Second), tokens - booked})
		}
	}
	if part := float64(used) / 300000; part < 0.95 || part > 1.05 {
		t.Errorf("%.3f of the grant used", part)
	}
}

func TestLeft(t *testing.T) {
	rate := Limit{Amount: 12, Per: 12 * time.Second, Burst: 12}.Rate()
	var b Bucket
	if left := b.Left(start, &rate); left != 12 {
		t.Errorf("at first: %d", left)
	}
	b.Take(at(0), &rate, 2)
	b.Take(at(5000), &rate, 3)
	for _, step := range []struct {
		ms   int
		want int64
	}{{5000, 7}, {11999, 7}, {12000, 9}, {16999, 9}, {17000, 12}, {3600000, 12}} {
		if left := b.Left(at(step.ms), &rate); left != step.want {
			t.Errorf("at %d ms: %d, want %d", step.ms, left, step.want)
		}
	}
	b.Use(at(3600000), &rate, 20)
	b.Use(at(3600000), &rate, -5)
	if left := b.Left(at(3600000), &rate); left != 0 {
		t.Errorf("after more than there was: %d", left)
	}
}

func BenchmarkTake(b *testing.B) {
	rate := Limit{Amount: 1000000, Per: time.Second}.Rate()
	var bucket Bucket
	b.ReportAllocs()
	now := start
	for b.Loop() {
		now = now.Add(time.Microsecond)
		bucket.Take(now, &rate, 1)
	}
}
