package slowness

import (
	"math"
	"testing"
	"time"
)

func TestSlownessLimit(t *testing.T) {
	start := time.Unix(1e9, 0)
	ms := time.Millisecond
	tests := []struct {
		name    string
		factor  float64
		samples func(i int) time.Duration
		n       int
		want    time.Duration
	}{
		{"too few samples", 10, func(int) time.Duration { return ms }, 99, 0},
		{"nothing quicker than 100 ms is slow", 10, func(int) time.Duration { return ms }, 100, 100 * ms},
		{"the median counts 10 times", 10, func(int) time.Duration { return 100 * ms }, 1000, time.Second},
		{"or as often as configured", 20, func(int) time.Duration { return 100 * ms }, 1000, 2 * time.Second},
		{"the tail counts 3 times", 10, func(i int) time.Duration {
			if i%50 == 0 {
				return 2 * time.Second
			}
			return 100 * ms
		}, 1000, 6 * time.Second},
		{"off", 0, func(int) time.Duration { return ms }, 1000, 0},
	}
	for _, tt := range tests {
		var s Detector
		for i := range tt.n {
			s.Learn(tt.samples(i), false, true)
		}
		s.Refresh(start, tt.factor)
		if diff := math.Abs(float64(s.Limit - tt.want)); diff > 0.15*float64(tt.want) {
			t.Errorf("%s: the limit is %v, want %v", tt.name, s.Limit, tt.want)
		}
	}
}

// TestSlownessIsNotLearned checks that slow latencies do not raise the limit before they
// are judged. Otherwise an endpoint with few calls would never count as slow.
func TestSlownessIsNotLearned(t *testing.T) {
	now := time.Unix(1e9, 0)
	var s Detector
	for range MinKnown {
		s.Learn(2*time.Millisecond, false, true)
	}
	s.Refresh(now, 10)
	for i := range verdictsSlow {
		now = now.Add(10 * time.Second)
		slow := s.IsSlow(700 * time.Millisecond)
		s.Learn(700*time.Millisecond, slow, true)
		if began := s.Judged(slow); began != (i == verdictsSlow-1) {
			t.Fatalf("slow call %d: suspect %v", i+1, began)
		}
		s.Refresh(now, 10)
	}
	if s.Limit != slowAtLeast {
		t.Errorf("the limit rose to %v", s.Limit)
	}
}

// TestSlownessLearnsWhatIsUsual checks that an endpoint is no suspect if a third of its calls
// become slow, and that the limit rises in the end.
func TestSlownessLearnsWhatIsUsual(t *testing.T) {
	now := time.Unix(1e9, 0)
	var s Detector
	for range MinKnown {
		s.Learn(2*time.Millisecond, false, true)
	}
	s.Refresh(now, 10)
	for i := range 60 {
		now = now.Add(time.Second)
		latency := 2 * time.Millisecond
		if i%3 == 0 {
			latency = 700 * time.Millisecond
		}
		slow := s.IsSlow(latency)
		s.Learn(latency, slow, true)
		s.Judged(slow)
		s.Refresh(now, 10)
		if s.Suspect() {
			t.Fatalf("a suspect after %d calls", i+1)
		}
	}
	if s.Limit < 2*time.Second {
		t.Errorf("the limit is %v, though a third of the calls takes 700 ms", s.Limit)
	}
}

// TestSlownessForgets checks that the limit goes after an hour without a latency in time.
func TestSlownessForgets(t *testing.T) {
	now := time.Unix(1e9, 0)
	var s Detector
	for range 100_000 {
		s.Learn(2*time.Millisecond, false, true)
	}
	s.Refresh(now, 10)
	for range 59 {
		now = now.Add(time.Minute)
		s.Refresh(now, 10)
	}
	if !s.IsSlow(time.Second) {
		t.Error("forgot within the hour")
	}
	for range 2 {
		now = now.Add(time.Minute)
		s.Refresh(now, 10)
	}
	if s.IsSlow(time.Hour) {
		t.Errorf("after an hour the limit is still %v", s.Limit)
	}
}

// TestVerdictsOfUnknownOrder checks that half of the verdicts must be slow for a suspect.
func TestVerdictsOfUnknownOrder(t *testing.T) {
	for _, tt := range []struct {
		slow, inTime int
		suspect      bool
	}{{9, 0, false}, {10, 0, true}, {10, 10, true}, {10, 1000, false}, {490, 510, true}, {470, 530, false}} {
		var s Detector
		s.JudgedMany(tt.slow, tt.inTime)
		if s.Suspect() != tt.suspect {
			t.Errorf("%d slow and %d in time: suspect %v", tt.slow, tt.inTime, s.Suspect())
		}
	}
}

// BenchmarkSlowness measures the cost of a healthy attempt.
func BenchmarkSlowness(b *testing.B) {
	var s Detector
	for range MinKnown {
		s.Learn(2*time.Millisecond, false, true)
	}
	s.Refresh(time.Unix(1e9, 0), 10)
	b.ReportAllocs()
	for i := range b.N {
		latency := 2*time.Millisecond + time.Duration(i&0xffff)
		slow := s.IsSlow(latency)
		s.Learn(latency, slow, true)
		s.Judged(slow)
	}
}
