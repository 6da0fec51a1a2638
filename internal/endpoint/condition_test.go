package endpoint

import (
	"math"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/score"
)

// TestRescore checks that a score is published when it has moved enough, and when it is 1 again.
func TestRescore(t *testing.T) {
	r := newStateRun(t, defaultBreaker())
	step := func(calls, failures int, moved bool, want float64) {
		t.Helper()
		r.now = r.now.Add(250 * time.Millisecond)
		r.s.own.scorer.Fold(r.now, score.Tally{Calls: calls, Failures: failures})
		got := r.s.For("").Rescore(r.cfg, 0, 0)
		if score := 1 - r.s.own.scorer.Lost; got != moved || math.Abs(score-want) > 0.005 {
			t.Errorf("at %v: published %v, score %v; want %v, %v", r.now.Sub(epoch), got, score, moved, want)
		}
	}
	step(1000, 10, false, 1)
	step(1000, 20, false, 1) // 0.98
	step(1000, 50, true, 0.918)
	step(1000, 60, false, 0.918) // 0.898
	step(1000, 30, false, 0.918) // 0.959
	step(1000, 5, true, 1)
	step(0, 0, false, 1)
}
