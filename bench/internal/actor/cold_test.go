package actor

import (
	"testing"
	"time"
)

// TestCapacity asks 400 times a second for ten seconds. The calls granted in each second
// must follow the rate, which grows from 10 by 40 up to 200.
func TestCapacity(t *testing.T) {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := &capacity{least: 10, growth: 40, most: 200, tokens: 1, began: began, last: began}
	for second := range 10 {
		granted := 0
		for i := range 400 {
			now := began.Add(time.Duration(second)*time.Second + time.Duration(i)*time.Second/400)
			if c.take(now) {
				granted++
			}
		}
		want := min(200, 10+40*second+20) // mean rate of the second
		if granted < want-10 || granted > want+10 {
			t.Errorf("second %d: %d granted, want about %d", second, granted, want)
		}
	}
}
