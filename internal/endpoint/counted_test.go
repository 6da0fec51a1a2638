package endpoint

import (
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

func TestDurationCounts(t *testing.T) {
	var h DurationCounts
	for _, d := range []time.Duration{1, time.Millisecond, time.Millisecond + 1, 2 * time.Millisecond, 3 * time.Millisecond, 131072 * time.Millisecond, time.Hour} {
		h.add(d)
	}
	var want [DurationBuckets]uint64
	want[0], want[1], want[2], want[17], want[18] = 2, 2, 1, 1, 1
	if h.Buckets != want {
		t.Errorf("got %v, want %v", h.Buckets, want)
	}
	var sum DurationCounts
	sum.merge(&h)
	sum.merge(&h)
	if sum.Sum != 2*h.Sum || sum.Buckets[0] != 4 {
		t.Errorf("merged: %+v", sum)
	}
}

// BenchmarkRecord measures the cost of counting an attempt and its call.
func BenchmarkRecord(b *testing.B) {
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		s := &State{Owner: heedless{}}
		a := &trip{began: epoch, latency: 3 * time.Millisecond}
		for pb.Next() {
			a.recorded = false
			s.update(nil, func() bool {
				s.recordLocked(a, epoch, end{outcome: outcome.Success, final: true}, a.latency)
				return false
			})
		}
	})
}

// TestFinalAfterwards marks an answer as the client's before and after it is settled. The call must be
// recorded once, or not at all if the answer was dropped.
func TestFinalAfterwards(t *testing.T) {
	for _, test := range []struct {
		name                 string
		early, passed, short bool
		want                 uint64 // calls recorded with the attempt
	}{
		{"before it is settled", true, false, false, 1},
		{"before it is settled, as a sample", true, false, true, 1},
		{"afterwards, when the caller records it", false, false, false, 0},
		{"dropped", false, true, false, 0},
		{"dropped, as a sample", false, true, true, 0},
	} {
		r := newStateRun(t, defaultBreaker())
		a := r.begin(AdmitNormally)
		a.idle, a.latency = false, time.Millisecond
		if test.passed && !r.s.PassOver(&a.Ticket) {
			t.Fatalf("%s: PassOver returns false", test.name)
		}
		if test.early {
			r.s.Finalize(&a.Ticket)
		}
		if !test.short || !r.s.Succeeded(a, r.cfg, false) {
			r.s.SettleAnswer(a, r.now, r.cfg, outcome.Success, false)
		}
		if o, final := r.s.Finalize(&a.Ticket); final == test.passed || o != outcome.Success {
			t.Errorf("%s: %v, final: %v", test.name, o, final)
		}
		if got := r.s.TakeFresh(r.now); got.Calls.Successes() != test.want {
			t.Errorf("%s: %d calls, want %d", test.name, got.Calls.Successes(), test.want)
		}
	}
}
