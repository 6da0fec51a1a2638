package score

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestScoreReturnsAfterAnImprobableRun checks that the score stays low while 30 % of calls fail,
// and is 1 again within 4 s after they stop failing.
func TestScoreReturnsAfterAnImprobableRun(t *testing.T) {
	for _, rate := range []int{8, 80, 800} { // calls a second
		var s Scorer
		now, high, ticks := time.Unix(0, 0), 0, 0
		random := rand.New(rand.NewPCG(1, uint64(rate)))
		second := func(failing float64, see func(score float64)) {
			for range 4 {
				now = now.Add(250 * time.Millisecond)
				tally := Tally{Calls: rate / 4}
				for range tally.Calls {
					if random.Float64() < failing {
						tally.Failures++
					}
				}
				s.Fold(now, tally)
				see(s.Score(0.5, 0, 0))
			}
		}
		for range 10 {
			second(0, func(float64) {})
		}
		for i := range 610 {
			second(0.3, func(score float64) {
				if i >= 10 {
					ticks++
					if score > 0.8 {
						high++
					}
				}
			})
		}
		if high*100 > ticks*2 {
			t.Errorf("%d calls a second: in %d of %d ticks the score was above 0.8 while 30 %% failed", rate, high, ticks)
		}
		after := 0
		for score := 0.0; score < 1 && after < 60; after++ {
			second(0, func(now float64) { score = now })
		}
		if after > 4 {
			t.Errorf("%d calls a second: 1 after %d s, want 4 at most", rate, after)
		}
	}
}
