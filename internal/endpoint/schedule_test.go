package endpoint

import (
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
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
		d := jittered(time.Second)
		low, high = min(low, d), max(high, d)
	}
	if low < 900*time.Millisecond || high > 1100*time.Millisecond || high-low < 150*time.Millisecond {
		t.Errorf("a second becomes %v to %v", low, high)
	}
}

func TestCheckPause(t *testing.T) {
	cfg := &CheckConfig{Interval: 30 * time.Second, FastInterval: 2 * time.Second, Passes: 2, Fails: 2}
	for _, tt := range []struct {
		run   int
		state breaker.State
		found int
		want  time.Duration
	}{
		{0, breaker.Closed, 0, 2 * time.Second},
		{1, breaker.Closed, 0, 2 * time.Second},
		{2, breaker.Closed, 0, 30 * time.Second},
		{-1, breaker.Closed, 0, 2 * time.Second},
		{-2, breaker.Closed, 0, 30 * time.Second}, // the last endpoint: it stays in
		{9, breaker.Recovering, 0, 2 * time.Second},
		{-2, breaker.Open, 1, 2 * time.Second},
		{-3, breaker.Open, 2, 4 * time.Second},
		{-4, breaker.Open, 3, 8 * time.Second},
		{-9, breaker.Open, 9, 30 * time.Second},
		{1, breaker.Open, 9, 2 * time.Second},
		{9, breaker.Open, 1, 2 * time.Second},
		{9, breaker.ForcedOpen, 1, 30 * time.Second},
	} {
		if got := cfg.pause(tt.run, tt.state, tt.found); got != tt.want {
			t.Errorf("run %d, %v found %d times: %v, want %v", tt.run, tt.state, tt.found, got, tt.want)
		}
	}
}

// TestPauseAfter checks that the duration of a bad check is a part of the pause after it.
func TestPauseAfter(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	cfg := &CheckConfig{Interval: 10 * time.Second, FastInterval: 2 * time.Second, Passes: 2, Fails: 2}
	for _, tt := range []struct {
		run  int
		good bool
		took time.Duration
		want time.Duration
	}{
		{-9, false, 0, 10 * time.Second},
		{-9, false, 4 * time.Second, 6 * time.Second},
		{-9, false, 30 * time.Second, time.Second},
		{1, true, time.Second, 2 * time.Second},
		{0, false, 4 * time.Second, 6 * time.Second}, // it passed late
	} {
		c := &checks{asked: cfg, run: tt.run, found: 9, began: now.Add(-tt.took)}
		if got := c.pauseAfter(now, tt.good, breaker.Open); got < tt.want-time.Second || got > tt.want+time.Second {
			t.Errorf("run %d after %v: %v, want about %v", tt.run, tt.took, got, tt.want)
		}
	}
}
