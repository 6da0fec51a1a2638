package failover

import (
	"math"
	"strings"
	"testing"
	"time"
)

// callsOf is a tally of calls that took a latency.
func callsOf(n, failures int, latency time.Duration) tally {
	good := n - failures
	return tally{calls: n, failures: failures, latencies: good, logLatency: float64(good) * math.Log(latency.Seconds())}
}

func TestScoreOfLatency(t *testing.T) {
	ms := time.Millisecond
	start := time.Unix(1e9, 0)
	for _, tt := range []struct {
		name             string
		latency          time.Duration
		n                int
		reference, usual time.Duration
		want             float64
	}{
		{"as the fastest", 10 * ms, 100, 10 * ms, 0, 1},
		{"twice the fastest", 20 * ms, 100, 10 * ms, 0, 1},
		{"four times", 40 * ms, 100, 10 * ms, 0, 0.5},
		{"a hundred times", time.Second, 100, 10 * ms, 0, minScore},
		{"alone, as ever", 40 * ms, 100, 0, 0, 1},
		{"too few to judge", time.Second, latencyAtLeast - 1, 10 * ms, 0, 1},
		{"unknown, in a tier that is slow", 0, 0, 10 * ms, 80 * ms, 0.25},
		{"unknown, in a tier nobody knows", 0, 0, 0, 0, 1},
	} {
		s := scorer{news: true}
		s.fold(start, callsOf(tt.n, 0, max(1, tt.latency)))
		if got := s.score(0.5, tt.reference, tt.usual); math.Abs(got-tt.want) > 0.01 {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestScoreStaysWithoutNews: silence, and a few successes after it, say little.
func TestScoreStaysWithoutNews(t *testing.T) {
	var s scorer
	now := time.Unix(1e9, 0)
	s.fold(now, callsOf(100, 40, 10*time.Millisecond))
	s.lost = 1 - s.score(0.5, 0, 0)
	bad := 1 - s.lost
	if bad > 0.3 {
		t.Fatalf("40 %% failing: %v", bad)
	}
	now = now.Add(time.Hour)
	s.fold(now, tally{})
	if got := s.score(0.5, 0, 0); got != bad {
		t.Errorf("an hour of silence made %v of %v", got, bad)
	}
	s.fold(now, callsOf(1, 0, 10*time.Millisecond))
	if got := s.score(0.5, 0, 0); got > bad+0.15 {
		t.Errorf("one success made %v of %v", got, bad)
	}
	for range 60 {
		now = now.Add(time.Second)
		s.fold(now, callsOf(1, 0, 10*time.Millisecond))
	}
	if got := s.score(0.5, 0, 0); got < 0.9 {
		t.Errorf("a minute of successes: %v", got)
	}
}

// TestScoreOfChecks: they count where calls are silent, against their own past.
func TestScoreOfChecks(t *testing.T) {
	ms := time.Millisecond
	var s scorer
	now := time.Unix(1e9, 0)
	calls := func(latency time.Duration) {
		for range 60 {
			now = now.Add(time.Second)
			s.fold(now, callsOf(10, 0, latency))
		}
	}
	checks := func(n int, passed bool, latency time.Duration) float64 {
		for range n {
			now = now.Add(30 * time.Second)
			s.check(now, passed, latency)
		}
		return s.score(0.5, 0, 0)
	}
	if got := checks(60, true, 2*ms); got != 1 {
		t.Errorf("quick checks: %v", got)
	}
	calls(800 * ms) // completions take longer than a HEAD
	if got := s.score(0.5, 0, 0); got != 1 {
		t.Errorf("calls are compared with checks: %v", got)
	}
	s.check(now, false, 0)
	if got := s.score(0.5, 0, 0); got != 1 {
		t.Errorf("one failed check beside good calls: %v", got)
	}
	if got := checks(20, true, 200*ms); got > 0.45 {
		t.Errorf("checks take 100 times as long: %v", got)
	}
	calls(800 * ms)
	if got := s.score(0.5, 0, 0); got != 1 {
		t.Errorf("calls come before checks: %v", got)
	}
	if got := checks(20, false, 0); got != minScore {
		t.Errorf("nothing but failed checks: %v", got)
	}
}

// FuzzScore: whatever happened, a score is between minScore and 1.
func FuzzScore(f *testing.F) {
	f.Add(uint16(10), uint16(3), int64(time.Second), int64(time.Second), int64(0), int64(0), true)
	f.Add(uint16(0), uint16(0), int64(0), int64(-5), int64(1), int64(1), false)
	f.Fuzz(func(t *testing.T, n, failures uint16, latency, dt, reference, usual int64, passed bool) {
		var s scorer
		now := time.Unix(1e9, 0)
		for range 3 {
			s.fold(now, callsOf(int(n), min(int(n), int(failures)), time.Duration(max(1, latency))))
			now = now.Add(time.Duration(dt))
			s.check(now, passed, time.Duration(latency))
			got := s.score(0.5, time.Duration(max(0, reference)), time.Duration(max(0, usual)))
			if !(got >= minScore && got <= 1) {
				t.Fatalf("score %v of %+v", got, s)
			}
		}
	})
}

// TestBreakerAndChecks steps through what checks do to a breaker.
func TestBreakerAndChecks(t *testing.T) {
	cfg := (*Breaker)(nil).config(time.Minute)
	start := time.Unix(1e9, 0)
	type step struct {
		at     time.Duration
		do     string
		state  breakerState
		share  float64
		reason string
	}
	for name, steps := range map[string][]step{
		"checks open it, and close it": {
			{0, "fail", stateClosed, 1, ""},
			{2, "fail steady", stateOpen, 0, reasonCheckFailed},
			{4, "fail steady", stateOpen, 0, reasonCheckFailed},
			{60, "tick", stateOpen, 0, reasonCheckFailed}, // the period is over, the latest failed
			{62, "pass", stateRecovering, 0.05, reasonChecksPass},
			{63, "pass", stateRecovering, 0.05, reasonChecksPass},
			{63, "tick", stateRecovering, 0.075, reasonChecksPass},
			{64, "fail", stateRecovering, 0.05, reasonChecksPass},
			{65, "tick", stateRecovering, 0.05, reasonChecksPass},
			{66, "fail", stateOpen, 0, reasonRelapse},
		},
		"never the last one": {
			{0, "fail alone", stateClosed, 1, ""},
			{2, "fail steady alone", stateClosed, 1, ""},
			{4, "fail steady", stateOpen, 0, reasonCheckFailed},
			{5, "pass", stateOpen, 0, reasonCheckFailed},
			{6, "pass steady", stateRecovering, 0.05, reasonChecksPass},
			{7, "fail steady alone", stateRecovering, 0.05, reasonChecksPass},
		},
		"checks that noticed nothing do not help": {
			{0, "pass steady", stateClosed, 1, ""},
			{1, "calls fail", stateOpen, 0, reasonConsecutive},
			{2, "pass steady", stateOpen, 0, reasonConsecutive},
			{8, "tick", stateRecovering, 0, reasonPeriodOver}, // by a trial
		},
		"checks that noticed end it early": {
			{1, "calls fail", stateOpen, 0, reasonConsecutive},
			{2, "fail", stateOpen, 0, reasonConsecutive},
			{2, "pass", stateOpen, 0, reasonConsecutive},
			{3, "pass steady", stateRecovering, 0.05, reasonChecksPass},
		},
		"what was off is forgotten": {
			{0, "fail steady", stateOpen, 0, reasonCheckFailed},
			{9, "tick", stateOpen, 0, reasonCheckFailed},
			{9, "off", stateOpen, 0, reasonCheckFailed},
			{9, "tick", stateRecovering, 0, reasonPeriodOver},
		},
	} {
		var b breaker
		for i, s := range steps {
			now := start.Add(s.at * time.Second)
			switch s.do {
			case "tick":
				b.tick(now, cfg)
			case "off":
				b.unchecked()
			case "calls fail":
				for range cfg.consecutiveFailures {
					p, _ := b.acquire(now, cfg)
					b.report(now, cfg, p, result{failed: true})
				}
			default:
				b.checked(now, cfg, strings.HasPrefix(s.do, "pass"), strings.Contains(s.do, "steady"), strings.Contains(s.do, "alone"))
			}
			if b.state != s.state || math.Abs(b.allowed(cfg)-s.share) > 1e-9 || b.reason != s.reason {
				t.Errorf("%s, step %d (%s): %v with %v because of %q, want %v with %v because of %q",
					name, i, s.do, b.state, b.allowed(cfg), b.reason, s.state, s.share, s.reason)
			}
		}
	}
}
