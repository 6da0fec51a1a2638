package stats

import (
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	took := []time.Duration{4, 1, 3, 2}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 3, 0.99: 4, 1: 4} {
		if got := Quantile(took, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if got := Quantile(nil, 0.5); got != 0 {
		t.Errorf("the median of nothing is %v, want 0", got)
	}
}

func TestMedian(t *testing.T) {
	for _, step := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{3}, 3},
		{[]float64{9, 1, 2}, 2},
		{[]float64{9, 1, 2, 4}, 3},
	} {
		if got := Median(step.values); got != step.want {
			t.Errorf("the median of %v is %v, want %v", step.values, got, step.want)
		}
	}
}

func TestLowestQuarter(t *testing.T) {
	for _, step := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3, 2}, 2},
		{[]float64{8, 7, 6, 5, 4, 3, 2, 1}, 1.5},
	} {
		if got := LowestQuarter(step.values); got != step.want {
			t.Errorf("the lowest quarter of %v has the mean %v, want %v", step.values, got, step.want)
		}
	}
}

func TestDelay(t *testing.T) {
	for d, want := range map[Delay]string{0: "0.0", 1.26: "1.3", Never: "not"} {
		if got := d.String(); got != want {
			t.Errorf("%f is %q, want %q", float64(d), got, want)
		}
	}
}
