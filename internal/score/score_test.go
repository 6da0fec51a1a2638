package score

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// tallied returns a tally of calls, whose successes took latency each; 0: no latencies.
func tallied(calls, failures int, latency time.Duration) Tally {
	t := Tally{Calls: calls, Failures: failures}
	if latency > 0 {
		t.Latencies = calls - failures
		t.LogLatency = float64(t.Latencies) * math.Log(latency.Seconds())
	}
	return t
}

func almostEqual(a, b float64) bool { return math.Abs(a-b) < 1e-6 }

// epoch is when the clocks of tests begin.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const tickEvery = 250 * time.Millisecond

func TestSuccessPart(t *testing.T) {
	for _, test := range []struct {
		calls, failures int
		failureRatio    float64
		want            float64
	}{
		{0, 0, 0.5, 1},
		{9, 9, 0.5, 1}, // too few to tell
		{10, 10, 0.5, minScore},
		{100, 0, 0.5, 1},
		{100, 1, 0.5, 1}, // 1 % is good
		{100, 50, 0.5, minScore},
		{100, 80, 0.5, minScore},
		{1000, 255, 0.5, 0.5},
		{1000, 59, 0.5, 0.9},
		{100, 13, 0.25, 0.5},
		{100, 50, 0, minScore}, // no ratio opens the breaker: half is bad
		{1000, 255, 0, 0.5},
		{100, 1, 0.005, 1},
	} {
		var s Scorer
		s.Fold(epoch, tallied(test.calls, test.failures, 0))
		if got := s.Score(test.failureRatio, 0, 0); !almostEqual(got, test.want) {
			t.Errorf("%d of %d failed, breaker at %v: got %v, want %v", test.failures, test.calls, test.failureRatio, got, test.want)
		}
	}
}

func TestLatencyPart(t *testing.T) {
	const ms = time.Millisecond
	for _, test := range []struct {
		name             string
		calls            int
		latency          time.Duration
		reference, usual time.Duration
		want             float64
	}{
		{"no slower than twice the reference", 100, 200 * ms, 100 * ms, 0, 1},
		{"four times", 100, 400 * ms, 100 * ms, 0, 0.5},
		{"a hundred times", 100, 10_000 * ms, 100 * ms, 0, minScore},
		{"quicker", 100, 10 * ms, 100 * ms, 0, 1},
		{"too few to tell", 4, 10_000 * ms, 100 * ms, 0, 1},
		{"too few to tell: as usual in the tier", 4, 10_000 * ms, 100 * ms, 400 * ms, 0.5},
		{"nothing to compare with", 100, 10_000 * ms, 0, 0, 1},
		{"unknown, in a slow tier", 0, 0, 10 * ms, 80 * ms, 0.25},
		{"unknown, in an unknown tier", 0, 0, 0, 0, 1},
	} {
		s := Scorer{news: true}
		s.Fold(epoch, tallied(test.calls, 0, test.latency))
		if got := s.Score(0.5, test.reference, test.usual); !almostEqual(got, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

// TestLatencyAgainstItsOwnPast checks that an endpoint without a reference loses score when
// it becomes ten times slower, and regains it once that is usual.
func TestLatencyAgainstItsOwnPast(t *testing.T) {
	var s Scorer
	now := epoch
	run := func(d, latency time.Duration) (score float64) {
		for end := now.Add(d); now.Before(end); now = now.Add(tickEvery) {
			s.Fold(now, tallied(5, 0, latency))
			score = s.Score(0.5, 0, 0)
			s.Lost = 1 - score
		}
		return score
	}
	if got := run(time.Hour, 100*time.Millisecond); got != 1 {
		t.Fatalf("steady: %v", got)
	}
	// After a minute the baseline has hardly moved: a little more than 2·100/1000.
	if got := run(time.Minute, time.Second); got < 0.2 || got > 0.22 {
		t.Errorf("ten times slower for a minute: %v", got)
	}
	if got := run(6*time.Hour, time.Second); got < 0.99 {
		t.Errorf("ten times slower for six hours: %v", got)
	}
}

// TestOneSlowCallInTenIsNoSlowness checks that a heavy tail hardly lowers the score.
func TestOneSlowCallInTenIsNoSlowness(t *testing.T) {
	var s Scorer
	rng := rand.New(rand.NewPCG(1, 5))
	for i := range 4000 {
		latency := 100 * time.Millisecond
		if rng.IntN(10) == 0 {
			latency = 3 * time.Second
		}
		s.Fold(epoch.Add(time.Duration(i)*50*time.Millisecond), tallied(1, 0, latency))
		if got := s.Score(0.5, 100*time.Millisecond, 0); i > 200 && got < 0.8 {
			t.Fatalf("call %d: the score is %v", i, got)
		}
	}
}

// TestErrorsAreForgotten checks that failures fade with newer calls, but not after a
// handful of successes.
func TestErrorsAreForgotten(t *testing.T) {
	bad := func() *Scorer {
		s := new(Scorer)
		s.Fold(epoch, tallied(100, 30, 0))
		s.Lost = 1 - s.Score(0.5, 0, 0)
		return s
	}
	const was = 1 - 0.29/0.49
	s := bad()
	if !almostEqual(1-s.Lost, was) {
		t.Fatalf("got %v, want %v", 1-s.Lost, was)
	}
	if got := s.Score(0.5, 0, 0); !almostEqual(got, was) {
		t.Errorf("a second look: %v", got)
	}
	s.Fold(epoch.Add(time.Second), tallied(100, 0, 0))
	if got := s.Score(0.5, 0, 0); got != 1 {
		t.Errorf("after a hundred successes: %v", got)
	}
	// Single successes raise the score step by step.
	s = bad()
	last := 1 - s.Lost
	for i := range 60 {
		s.Fold(epoch.Add(time.Duration(i+1)*2*time.Second), tallied(1, 0, 0))
		got := s.Score(0.5, 0, 0)
		if got < last-1e-9 || i < 5 && got > 0.8 {
			t.Fatalf("after %d successes: %v, before that %v", i+1, got, last)
		}
		last = got
	}
	if last < 0.95 {
		t.Errorf("after sixty successes and nothing else: %v", last)
	}
}

// TestFewSamplesNeverLookGood checks that the score stays at minScore if three quarters of random
// traffic fail, with gaps of all lengths.
func TestFewSamplesNeverLookGood(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 6))
		var s Scorer
		now := epoch
		s.Fold(now, tallied(10, 8, 0))
		for range 200 {
			now = now.Add(time.Duration(rng.ExpFloat64() * float64(time.Duration(1+rng.IntN(100))*time.Second)))
			n := 1 + rng.IntN(12)
			s.Fold(now, tallied(n, n-n/4, 0))
			if got := s.Score(0.5, 0, 0); got > minScore {
				t.Fatalf("seed %d at %v: three calls of four fail, and the score is %v (%+v)", seed, now.Sub(epoch), got, s.Errors)
			}
		}
	}
}

func TestDecayedRatio(t *testing.T) {
	var r decayedRatio
	r.add(epoch, 50, 50)
	r.add(epoch.Add(errorSpan), 0, 0)
	if want := 50 * math.Exp(-1); !almostEqual(r.n, want) || !almostEqual(r.Ratio(), 1) {
		t.Errorf("after its span: %+v, want %v", r, want)
	}
	r.add(epoch.Add(24*time.Hour), 0, 0)
	if !almostEqual(r.n, errorsAtLeast) {
		t.Errorf("after a day: %+v", r)
	}
	r.add(epoch, 5, 0) // the clock jumped back: no time has passed
	if r.n > 15 {
		t.Errorf("after a jump: %+v", r)
	}
	r = decayedRatio{}
	for range 50 {
		r.add(epoch, 7, 7)
	}
	if !almostEqual(r.n, errorSamples) {
		t.Errorf("many at once: %+v", r)
	}
	r.add(epoch, 1000, 0)
	if !almostEqual(r.n, 1000) || r.marked != 0 {
		t.Errorf("more at once than the ratio covers: %+v", r)
	}
}
