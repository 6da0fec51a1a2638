package endpoint

import (
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/quota"
)

// TestNoAttemptClosesAnEndpointForLong checks that neither a request that asks for huge numbers of tokens nor an
// answer that states them keeps calls away longer than allowed.
func TestNoAttemptClosesAnEndpointForLong(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for per, most := range map[time.Duration]time.Duration{time.Second: outcome.MaxHold * 11 / 10, time.Hour: time.Hour * 11 / 10} {
		b := &Bounds{Rates: []quota.Rate{quota.Limit{Of: quota.Tokens, Amount: 1000, Per: per}.Rate()}}
		s := &State{Owner: heedless{}}
		a := &trip{}
		a.Tokens = &Tokens{Asked: 1 << 40}
		if !s.Acquire(a, now, &breaker.Config{}, b, AdmitNormally) {
			t.Fatal("an attempt that asks for more than the limit is not let in")
		}
		if wait := s.Ready(b, now, 1).Sub(now); wait > per+per/4 {
			t.Errorf("per %v: the booking keeps calls away for %v", per, wait)
		}
		s.Used(a, now, b, 1<<60)
		s.Used(a, now, b, 5)            // too late
		s.UsedUnknown(a, now, b, false) // too late
		if wait := s.Ready(b, now, 1).Sub(now); wait > most || wait < most/2 {
			t.Errorf("per %v: the usage keeps calls away for %v, want at most %v", per, wait, most)
		}
	}
}

// TestALimitThatChangesForgetsBookings checks that bookings of an old limit do not count in the new one.
func TestALimitThatChangesForgetsBookings(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	bounds := func(amount int64) *Bounds {
		return &Bounds{Rates: []quota.Rate{quota.Limit{Of: quota.Tokens, Amount: amount, Per: time.Hour, Burst: amount}.Rate()}}
	}
	s := &State{Owner: heedless{}}
	a := &trip{}
	a.Tokens = &Tokens{Asked: 900}
	s.Acquire(a, now, &breaker.Config{}, bounds(1000), AdmitNormally)
	next := bounds(2000)
	if left := s.Limits(next, now.Add(time.Second))[0].Left; left != 2000 {
		t.Errorf("%d are left of the new limit", left)
	}
	s.Used(a, now.Add(2*time.Second), next, 50)
	if left := s.Limits(next, now.Add(2*time.Second))[0].Left; left != 2000 {
		t.Errorf("%d are left of the new limit after an answer that booked the old one", left)
	}
}

// BenchmarkLimits measures the cost of limits for an attempt, from Acquire to its end.
func BenchmarkLimits(b *testing.B) {
	requests := quota.Limit{Amount: 1e9, Per: time.Minute, Burst: 1e9}.Rate()
	tokens := quota.Limit{Of: quota.Tokens, Amount: 1e15, Per: time.Minute, Burst: 1e15}.Rate()
	for _, test := range []struct {
		name   string
		bounds *Bounds
	}{
		{"none", nil},
		{"requests", &Bounds{Rates: []quota.Rate{requests}}},
		{"requests and tokens", &Bounds{Rates: []quota.Rate{requests, tokens}}},
	} {
		b.Run(test.name, func(b *testing.B) {
			s := &State{Owner: heedless{}}
			cfg := breaker.Config{SlowAfter: time.Second}
			now := time.Now()
			a := &trip{latency: time.Millisecond, recorded: true}
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(10 * time.Microsecond)
				a.Ticket = Ticket{}
				if test.bounds.Meters() {
					a.Tokens = &Tokens{Asked: 500}
				}
				if !s.Acquire(a, now, &cfg, test.bounds, AdmitNormally) {
					b.Fatal("the attempt is not let in")
				}
				if a.Tokens != nil {
					s.Used(a, now, test.bounds, 400)
				}
				s.SettleAnswer(a, now, &cfg, outcome.Success, true)
			}
		})
	}
}
