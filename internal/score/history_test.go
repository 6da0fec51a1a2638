package score

import (
	"testing"
	"time"
)

// TestFewSuccessesSayLittle checks that a few successes soon after many failures raise the
// score little.
func TestFewSuccessesSayLittle(t *testing.T) {
	var s Scorer
	now := time.Unix(1e9, 0)
	s.Fold(now, tallied(100, 40, 10*time.Millisecond))
	bad := s.Score(0.5, 0, 0)
	if bad > 0.3 {
		t.Fatalf("40 %% of calls fail: %v", bad)
	}
	now = now.Add(time.Second)
	s.Fold(now, tallied(1, 0, 10*time.Millisecond))
	if got := s.Score(0.5, 0, 0); got > bad+0.15 {
		t.Errorf("one success made %v of %v", got, bad)
	}
	for range 120 {
		now = now.Add(time.Second)
		s.Fold(now, tallied(1, 0, 10*time.Millisecond))
	}
	if got := s.Score(0.5, 0, 0); got < 0.9 {
		t.Errorf("two minutes of successes: %v", got)
	}
}

// TestScoreOfChecks checks that checks count while there are no calls, and that their latency
// is compared with that of earlier checks.
func TestScoreOfChecks(t *testing.T) {
	ms := time.Millisecond
	var s Scorer
	now := time.Unix(1e9, 0)
	calls := func(latency time.Duration) {
		for range 60 {
			now = now.Add(time.Second)
			s.Fold(now, tallied(10, 0, latency))
		}
	}
	checks := func(n int, passed bool, latency time.Duration) float64 {
		for range n {
			now = now.Add(30 * time.Second)
			s.Check(now, passed, latency)
		}
		return s.Score(0.5, 0, 0)
	}
	if got := checks(60, true, 2*ms); got != 1 {
		t.Errorf("quick checks: %v", got)
	}
	calls(800 * ms) // completions take longer than a HEAD
	if got := s.Score(0.5, 0, 0); got != 1 {
		t.Errorf("calls are compared with checks: %v", got)
	}
	s.Check(now, false, 0)
	if got := s.Score(0.5, 0, 0); got != 1 {
		t.Errorf("one failed check beside good calls: %v", got)
	}
	if got := checks(20, true, 200*ms); got > 0.45 {
		t.Errorf("checks take 100 times as long: %v", got)
	}
	calls(800 * ms)
	if got := s.Score(0.5, 0, 0); got != 1 {
		t.Errorf("calls come before checks: %v", got)
	}
	if got := checks(20, false, 0); got != minScore {
		t.Errorf("nothing but failed checks: %v", got)
	}
}

// FuzzScore checks that every score is between minScore and 1.
func FuzzScore(f *testing.F) {
	f.Add(uint16(10), uint16(3), int64(time.Second), int64(time.Second), int64(0), int64(0), true)
	f.Add(uint16(0), uint16(0), int64(0), int64(-5), int64(1), int64(1), false)
	f.Fuzz(func(t *testing.T, n, failures uint16, latency, dt, reference, usual int64, passed bool) {
		var s Scorer
		now := time.Unix(1e9, 0)
		for range 3 {
			s.Fold(now, tallied(int(n), min(int(n), int(failures)), time.Duration(max(1, latency))))
			now = now.Add(time.Duration(dt))
			s.Check(now, passed, time.Duration(latency))
			got := s.Score(0.5, time.Duration(max(0, reference)), time.Duration(max(0, usual)))
			if !(got >= minScore && got <= 1) {
				t.Fatalf("score %v of %+v", got, s)
			}
		}
	})
}
