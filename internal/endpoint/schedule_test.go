package endpoint

import (
	"testing"
	"time"
)

func TestRiseAndFall(t *testing.T) {
	cfg := &CheckConfig{Passes: 2, Fails: 3}
	run := 0
	for i, step := range []struct {
		passed  bool
		run     int
		verdict int
	}{
		{true, 1, 0},
		{true, 2, 1},
		{true, 3, 1},
		{false, -1, 0},
		{true, 1, 0}, // consecutive means consecutive
		{false, -1, 0},
		{false, -2, 0},
		{true, 1, 0},
		{false, -1, 0},
		{false, -2, 0},
		{false, -3, -1},
		{false, -4, -1},
		{true, 1, 0},
		{true, 2, 1},
	} {
		run = riseAndFall(run, step.passed)
		if run != step.run || cfg.verdict(run) != step.verdict {
			t.Errorf("step %d: run %d and verdict %d, want %d and %d", i, run, cfg.verdict(run), step.run, step.verdict)
		}
	}
}

func TestCheckJitter(t *testing.T) {
	low, high := time.Hour, time.Duration(0)
	for range 1000 {
		d := Jittered(time.Second)
		low, high = min(low, d), max(high, d)
	}
	if low < 900*time.Millisecond || high > 1100*time.Millisecond || high-low < 150*time.Millisecond {
		t.Errorf("a second becomes %v to %v", low, high)
	}
}
