package slowness

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// TestHistogramQuantiles compares quantiles with those of the samples.
func TestHistogramQuantiles(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var h Histogram
	for range 100_000 {
		h.Add(time.Duration(float64(10*time.Millisecond) * math.Exp(r.NormFloat64())))
	}
	if n := h.Total(); n != 100_000 {
		t.Errorf("total %v", n)
	}
	for _, tt := range []struct {
		q      float32
		sigmas float64
	}{{0.5, 0}, {0.95, 1.645}, {0.99, 2.326}} {
		want := float64(10*time.Millisecond) * math.Exp(tt.sigmas)
		if got := h.Quantile(tt.q, h.Total()); math.Abs(float64(got)/want-1) > 0.05 {
			t.Errorf("quantile %v is %v, want about %v", tt.q, got, time.Duration(want))
		}
	}
}

// TestHistogramBuckets checks the bounds of each bucket.
func TestHistogramBuckets(t *testing.T) {
	for i := range buckets {
		low, high := lowerBound(i), lowerBound(i+1)
		if high <= low || float64(high) > 1.26*float64(low) {
			t.Errorf("bucket %d is from %v to %v", i, low, high)
		}
		if bucketOf(low) != i || bucketOf(high-1) != i {
			t.Errorf("bucket %d: %v is in %d, %v in %d", i, low, bucketOf(low), high-1, bucketOf(high-1))
		}
	}
	for d, want := range map[time.Duration]int{-1: 0, 0: 0, 1: 0, time.Hour: buckets - 1, math.MaxInt64: buckets - 1} {
		if got := bucketOf(d); got != want {
			t.Errorf("%v is in bucket %d, want %d", d, got, want)
		}
	}
}
