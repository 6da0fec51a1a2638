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

// TestALimitThatChangesKeepsWhatIsInUse checks that another amount, another order and a further limit change nothing of
// what is in use, also while two configurations take turns, and that bookings do not count in a new limit.
func TestALimitThatChangesKeepsWhatIsInUse(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	bounds := func(limits ...quota.Limit) *Bounds {
		b := new(Bounds)
		for _, l := range limits {
			b.Rates = append(b.Rates, l.Rate())
		}
		return b
	}
	tokens := func(amount int64) quota.Limit {
		return quota.Limit{Of: quota.Tokens, Amount: amount, Per: time.Hour, Burst: amount}
	}
	requests := quota.Limit{Of: quota.Requests, Amount: 50, Per: time.Minute, Burst: 50}
	daily := quota.Limit{Of: quota.Tokens, Amount: 1e6, Per: 24 * time.Hour, Burst: 1e6}
	s := &State{Owner: heedless{}}
	a := &trip{}
	a.Tokens = &Tokens{Asked: 900}
	s.Acquire(a, now, &breaker.Config{}, bounds(tokens(1000)), AdmitNormally)
	for round := range 100 {
		for _, test := range []struct {
			bounds *Bounds
			left   []int64
			waits  bool // for 500 tokens
		}{
			{bounds(tokens(2000)), []int64{1100}, false},
			{bounds(requests, tokens(2000)), []int64{50, 1100}, false},
			{bounds(tokens(1000), requests), []int64{100, 50}, true},
			{bounds(daily, tokens(1000)), []int64{1e6, 100}, true},
		} {
			for i, l := range s.Limits(test.bounds, now) {
				if l.Left != test.left[i] {
					t.Fatalf("round %d, %v: %d are left, want %d", round, test.bounds.Rates[i].Limit, l.Left, test.left[i])
				}
			}
			if wait := s.Ready(test.bounds, now, 500).Sub(now); (wait > 0) != test.waits {
				t.Fatalf("round %d, %v: room for 500 tokens in %v", round, test.bounds.Rates, wait)
			}
		}
	}
	if wait := s.Ready(bounds(tokens(500)), now, 500).Sub(now); wait < 59*time.Minute || wait > time.Hour {
		t.Errorf("a limit of 500, of which 900 are in use, has room for 500 in %v", wait)
	}
	if len(s.quotas) > 3 {
		t.Errorf("%d buckets for 3 limits", len(s.quotas))
	}
	s.Used(a, now.Add(time.Second), bounds(tokens(2000), quota.Limit{Of: quota.Tokens, Amount: 5000, Per: time.Minute, Burst: 5000}), 50)
	for i, want := range []int64{1950, 5000} {
		b := bounds(tokens(2000), quota.Limit{Of: quota.Tokens, Amount: 5000, Per: time.Minute, Burst: 5000})
		if left := s.Limits(b, now.Add(time.Second))[i].Left; left != want {
			t.Errorf("%d are left of %v, want %d", left, b.Rates[i].Limit, want)
		}
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
