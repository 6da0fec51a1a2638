package quota

import (
	"math/rand/v2"
	"slices"
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

// TestNoSpanHasMoreThanTheAmount: with the default burst, however calls arrive. Twice the demand gets nearly
// all of the amount.
func TestNoSpanHasMoreThanTheAmount(t *testing.T) {
	for _, limit := range []Limit{{Amount: 600, Per: time.Minute}, {Amount: 3, Per: time.Second}, {Amount: 1, Per: time.Minute}, {Amount: 50, Per: time.Second}, {Amount: 10000, Per: time.Hour}} {
		rate := limit.Rate()
		var b Bucket
		var taken []time.Time
		random := rand.New(rand.NewPCG(1, 2))
		mean := float64(limit.Per) / float64(limit.Amount) / 2 // twice the amount
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
			t.Errorf("%+v: only %.3f of the amount used", limit, part)
		}
	}
}

// TestGiveBack: units that are given back let no span have more than the amount of the others, or not by much if that is late.
// If they are given back soon, the others get nearly all of it.
func TestGiveBack(t *testing.T) {
	type use struct {
		taken, back time.Time // back: zero if it is kept
	}
	for _, late := range []float64{0, 0.001, 0.1, 3} { // of Per, on average
		for _, limit := range []Limit{{Amount: 600, Per: time.Minute}, {Amount: 3, Per: time.Second}, {Amount: 1, Per: time.Minute}, {Amount: 50, Per: time.Second}} {
			rate := limit.Rate()
			var b Bucket
			var kept []time.Time
			var pending []use
			random := rand.New(rand.NewPCG(1, 2))
			mean := float64(limit.Per) / float64(limit.Amount) / 4
			for now, end := start, start.Add(5*limit.Per); now.Before(end); now = now.Add(time.Duration(random.ExpFloat64() * mean)) {
				pending = slices.DeleteFunc(pending, func(u use) bool {
					over := !u.back.After(now)
					if over {
						b.GiveBack(now, &rate, u.taken)
					}
					return over
				})
				switch {
				case !b.Take(now, &rate, 1):
				case random.Float64() < 0.5:
					pending = append(pending, use{now, now.Add(time.Duration(random.ExpFloat64() * late * float64(limit.Per)))})
				default:
					kept = append(kept, now)
				}
			}
			oldest := 0
			for i, at := range kept {
				for at.Sub(kept[oldest]) >= limit.Per {
					oldest++
				}
				if n := int64(i - oldest + 1); n > limit.Amount && (late < 0.01 || rate.burst == 1) || n > limit.Amount*21/20 {
					t.Fatalf("%+v, late %v: %d within %v", limit, late, n, limit.Per)
				}
			}
			if part := float64(len(kept)) / float64(5*limit.Amount); limit.Amount >= 600 && late < 0.01 && part < 0.95 {
				t.Errorf("%+v, late %v: only %.3f of the amount used", limit, late, part)
			}
		}
	}
}

// TestTokens: calls that book tokens and correct that at their end use the limit to within 5 % over five
// minutes, whatever maximum they state and however long their responses take.
func TestTokens(t *testing.T) {
	type answer struct {
		at, taken   time.Time
		booked, use int64
	}
	for name, asked := range map[string]int64{"nothing": 0, "the most": 4000, "thrice the most": 12000} {
		for _, takes := range []time.Duration{time.Second, 5 * time.Second, 20 * time.Second} {
			rate := Limit{Of: Tokens, Amount: 60000, Per: time.Minute}.Rate()
			var b Bucket
			var booking Booking
			random := rand.New(rand.NewPCG(3, 4))
			var answers []answer
			var used int64
			for now := start; now.Before(start.Add(5 * time.Minute)); now = now.Add(50 * time.Millisecond) {
				for len(answers) > 0 && !now.Before(answers[0].at) {
					a := answers[0]
					b.Correct(now, &rate, a.taken, a.use-a.booked)
					booking.Learn(asked, a.use)
					answers = answers[1:]
				}
				if n := booking.Tokens(asked); b.Take(now, &rate, n) {
					tokens := 50 + random.Int64N(3950)
					used += tokens
					answers = append(answers, answer{now.Add(takes), now, n, tokens})
				}
			}
			part := float64(used) / 300000
			t.Logf("calls ask for %s, answers take %v: %.3f of the grant used", name, takes, part)
			if part < 0.95 || part > 1.05 {
				t.Errorf("calls ask for %s, responses take %v: %.3f of the amount used", name, takes, part)
			}
		}
	}
}

// TestCorrect: units given back can be used even if they have grown back, but not after a rest.
func TestCorrect(t *testing.T) {
	rate := Limit{Of: Tokens, Amount: 60, Per: time.Minute, Burst: 1}.Rate()
	var b Bucket
	take := func(ms int, n int64, want bool) {
		t.Helper()
		if got := b.Take(at(ms), &rate, n); got != want {
			t.Fatalf("%d at %d ms: %v, ready at %v", n, ms, got, b.Ready(at(ms), &rate, n).Sub(start))
		}
	}
	take(0, 10, true)
	take(9999, 1, false)
	b.Correct(at(4000), &rate, at(0), -8)
	if left := b.Left(at(4000), &rate); left != 58 {
		t.Errorf("%d are left", left)
	}
	take(4000, 1, true) // of the two that grew in vain
	take(4000, 1, true)
	take(4000, 1, true)
	take(4000, 1, false)
	take(5000, 20, true)
	b.Correct(at(25000), &rate, at(5000), -20)
	take(60000, 1, true)
	take(60000, 1, false) // a rest since
	b.Correct(at(60000), &rate, at(60000), 5)
	take(65000, 1, false)
	take(66000, 1, true)
	b.Correct(at(600000), &rate, at(0), -1000000)
	if left := b.Left(at(600000), &rate); left != 60 {
		t.Errorf("%d are left", left)
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
	b.Use(at(3600000).UnixNano(), &rate, 20)
	b.Correct(at(3600000), &rate, at(3600000), -5)
	if left := b.Left(at(3600000), &rate); left != 0 {
		t.Errorf("after more units than Amount: %d", left)
	}
}

func TestBooking(t *testing.T) {
	var b Booking
	want := func(asked, want int64) {
		t.Helper()
		if got := b.Tokens(asked); got != want {
			t.Errorf("%d asked for: %d booked, want %d", asked, got, want)
		}
	}
	want(0, firstGuess)
	want(700, 700)
	b.Learn(0, 10)
	b.Learn(0, 21)
	want(0, 16) // 15.5
	want(700, 700)
	for range provenBy {
		b.Learn(1000, 100)
	}
	want(500, 50)
	want(1, 1)
	want(1e12, 1e11)
	for range 2000 {
		b.Learn(1000, 3000)
	}
	want(1000, 3000)
	want(0, 3000)
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

// TestPartChanges: used units grow back at the rate of the new part.
func TestPartChanges(t *testing.T) {
	whole := Limit{Amount: 60, Per: time.Minute, Burst: 10}.Rate()
	small, large := whole.Part(0.1, 2), whole.Part(0.9, 2)
	if small.burst != 3 || large.burst != 7 {
		t.Fatalf("bursts of %d and %d", small.burst, large.burst)
	}
	var b Bucket
	for range 3 {
		if !b.Take(at(0), &small, 1) {
			t.Fatal("the burst is not there")
		}
	}
	if ready := b.Ready(at(0), &small, 1); ready.Sub(start).Round(time.Second) != 10*time.Second {
		t.Errorf("the next is ready at %v", ready.Sub(start))
	}
	b.Changed(at(0), &small, &large)
	if !b.Take(at(0), &large, 4) || b.Take(at(0), &large, 1) {
		t.Error("the larger part does not let 4 more in")
	}
	b.Changed(at(0), &large, &small)
	if ready := b.Ready(at(0), &small, 1); ready.Sub(start).Round(time.Second) != 40*time.Second {
		t.Errorf("with the small part again, the next is ready at %v", ready.Sub(start))
	}
	large = whole
	small = whole.Part(0.001, 2)
	b.Changed(at(0), &whole, &small)
	if left := b.full - at(0).UnixNano(); time.Duration(left) > 70*time.Second {
		t.Errorf("all has grown back after %v", time.Duration(left))
	}
	if one := whole.Part(1, 1); one != whole {
		t.Errorf("all of it is %+v", one)
	}
	if r := (Limit{Amount: 600, Per: time.Minute}).Rate().Part(0.05, 3); r.burst != 5 {
		t.Errorf("a small part of a burst that is not stated is %d", r.burst)
	}
}
