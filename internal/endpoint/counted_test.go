package endpoint

import (
	"testing"
	"time"
)

func TestDurationCounts(t *testing.T) {
	var h DurationCounts
	for _, d := range []time.Duration{1, time.Millisecond, time.Millisecond + 1, 2 * time.Millisecond, 3 * time.Millisecond, 131072 * time.Millisecond, time.Hour} {
		h.add(d)
	}
	var want [DurationBuckets]uint64
	want[0], want[1], want[2], want[17], want[18] = 2, 2, 1, 1, 1
	if h.Buckets != want {
		t.Errorf("got %v, want %v", h.Buckets, want)
	}
	var sum DurationCounts
	sum.merge(&h)
	sum.merge(&h)
	if sum.Sum != 2*h.Sum || sum.Buckets[0] != 4 {
		t.Errorf("merged: %+v", sum)
	}
}
