package score

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// TestScoresDrift checks that each 30 s without samples halve a score's difference to 1, whatever
// lowered it, and that the next sample confirms or undoes the drift.
func TestScoresDrift(t *testing.T) {
	const ms = time.Millisecond
	for name, test := range map[string]struct {
		lowers    Tally
		reference time.Duration
		good, bad Tally // the next samples
	}{
		"failures":           {tallied(10, 8, 10*ms), 0, tallied(1, 0, 10*ms), tallied(1, 1, 0)},
		"some failures":      {tallied(100, 20, 10*ms), 0, tallied(1, 0, 10*ms), tallied(1, 1, 0)},
		"slowness":           {tallied(100, 0, 800*ms), 100 * ms, tallied(1, 0, 100*ms), tallied(1, 0, 800*ms)},
		"failures, slowness": {tallied(100, 20, 400*ms), 100 * ms, tallied(1, 0, 100*ms), tallied(1, 1, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			fresh := func() (s *Scorer, low float64) {
				s = new(Scorer)
				s.Fold(epoch, test.lowers)
				return s, s.Score(0.5, test.reference, 0)
			}
			after := func(s *Scorer, d time.Duration, t Tally) float64 {
				s.Fold(epoch.Add(d), t)
				return s.Score(0.5, test.reference, 0)
			}
			s, low := fresh()
			if low > 0.8 {
				t.Fatalf("the low score is %v", low)
			}
			for d, part := range map[time.Duration]float64{0: 1, fewEvery: 1, 30 * time.Second: 0.5, time.Minute: 0.25, 90 * time.Second: 0.125} {
				if got, want := after(s, d, Tally{}), 1-(1-low)*part; !almostEqual(got, want) {
					t.Errorf("after %v: %v, want %v", d, got, want)
				}
			}
			if got := after(s, time.Hour, Tally{}); got != 1 {
				t.Errorf("after an hour: %v", got)
			}
			for _, d := range []time.Duration{5 * time.Second, 30 * time.Second, time.Minute} {
				s, _ = fresh()
				was := after(s, d, Tally{})
				if got := after(s, d, test.good); got < was-0.05 {
					t.Errorf("after %v it was %v, and a good sample made it %v", d, was, got)
				}
				s, low = fresh()
				if got := after(s, d, test.bad); got > low+0.01 {
					t.Errorf("after %v and a bad sample: %v, want %v as before", d, got, low)
				}
			}
		})
	}
}

// TestEnoughSamplesDriftNothing checks that a score with enough samples does not drift.
func TestEnoughSamplesDriftNothing(t *testing.T) {
	var s Scorer
	rng := rand.New(rand.NewPCG(1, 7))
	for i := range 1000 {
		s.Fold(epoch.Add(time.Duration(i)*2*time.Second), tallied(2, rng.IntN(2), 0))
		if got := s.Score(0.5, 0, 0); i > 100 && got > 0.9 {
			t.Fatalf("sample %d: a quarter fails, and the score is %v", i, got)
		}
	}
}

// TestChecksConfirmDrifts checks that checks confirm or undo a drift as calls do.
func TestChecksConfirmDrifts(t *testing.T) {
	for _, passed := range []bool{true, false} {
		var s Scorer
		s.Fold(epoch, tallied(10, 8, 0))
		low := s.Score(0.5, 0, 0)
		for i := range 4 {
			s.Check(epoch.Add(time.Duration(i+1)*30*time.Second), passed, time.Millisecond)
		}
		if got := s.Score(0.5, 0, 0); passed && got < 0.9 || !passed && math.Abs(got-low) > 0.01 {
			t.Errorf("four checks, passed: %v: %v of %v", passed, got, low)
		}
	}
}

// TestUndoneDriftsSlowDown checks that each drift that a bad sample undoes slows the next one
// down, and that a good sample ends that.
func TestUndoneDriftsSlowDown(t *testing.T) {
	var s Scorer
	now := epoch
	s.Fold(now, tallied(10, 8, 0))
	half := func() time.Duration {
		t.Helper()
		low := s.Score(0.5, 0, 0)
		for d := fewEvery + time.Second; d < time.Hour; d += time.Second {
			s.Fold(now.Add(d), Tally{})
			if got := s.Score(0.5, 0, 0); got >= 1-(1-low)/2 {
				return d
			}
		}
		t.Fatal("the score does not drift")
		return 0
	}
	for _, want := range []time.Duration{30, 60, 120, 240, 480, 480} {
		if got := half(); got != want*time.Second {
			t.Errorf("the difference halves in %v, want %v", got, want*time.Second)
		}
		now = now.Add(20 * time.Second)
		s.Fold(now, tallied(1, 1, 0))
	}
	now = now.Add(time.Second)
	s.Fold(now, tallied(1, 0, 0))
	if got := half(); got != driftHalf {
		t.Errorf("after a success the difference halves in %v, want %v", got, driftHalf)
	}
}
