package call

import (
	"math"
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	for _, test := range []struct {
		base, cap time.Duration
		n         int
		longest   time.Duration
	}{
		{100 * time.Millisecond, 2 * time.Second, 0, 100 * time.Millisecond},
		{100 * time.Millisecond, 2 * time.Second, 1, 200 * time.Millisecond},
		{100 * time.Millisecond, 2 * time.Second, 4, 1600 * time.Millisecond},
		{100 * time.Millisecond, 2 * time.Second, 5, 2 * time.Second},
		{100 * time.Millisecond, 2 * time.Second, 1000, 2 * time.Second},
		{5 * time.Second, 2 * time.Second, 0, 2 * time.Second},
		{1, math.MaxInt64, 100, math.MaxInt64 - 1},
	} {
		rules := RetryRules{Base: test.base, Cap: test.cap}
		shortest, longest, sum := time.Duration(math.MaxInt64), time.Duration(0), 0.0
		const times = 4000
		for range times {
			pause := rules.backoff(test.n)
			shortest, longest, sum = min(shortest, pause), max(longest, pause), sum+float64(pause)/times
		}
		if shortest < 0 || longest > test.longest {
			t.Errorf("%+v: from %v to %v", test, shortest, longest)
		}
		// full jitter: evenly distributed from 0 to the longest
		if half := float64(test.longest) / 2; shortest > test.longest/50 || longest < test.longest/50*49 || sum < 0.95*half || sum > 1.05*half {
			t.Errorf("%+v: from %v to %v, on average %v", test, shortest, longest, time.Duration(sum))
		}
	}
}
