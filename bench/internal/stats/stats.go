// Package stats summarizes measurements.
package stats

import (
	"fmt"
	"slices"
	"time"
)

// Milliseconds returns a duration in milliseconds with its fraction.
func Milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Quantile returns the value below which a part q of the durations lies, or 0 without
// durations. It sorts the slice.
func Quantile(of []time.Duration, q float64) time.Duration {
	if len(of) == 0 {
		return 0
	}
	slices.Sort(of)
	return of[min(len(of)-1, int(q*float64(len(of))))]
}

// Column returns one value of each row.
func Column[T any](rows []T, of func(T) float64) []float64 {
	values := make([]float64, len(rows))
	for i, r := range rows {
		values[i] = of(r)
	}
	return values
}

// Median returns the middle value, or 0 without values.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// LowestQuarter returns the mean of the lowest quarter of the values, which must not be
// empty.
func LowestQuarter(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := max(1, len(sorted)/4)
	sum := 0.0
	for _, v := range sorted[:n] {
		sum += v
	}
	return sum / float64(n)
}

// A Delay is the time until an event, in seconds. It is negative if the event did not
// happen.
type Delay float64

// Never is the delay of an event that did not happen.
const Never Delay = -1

// Happened reports whether the event happened.
func (d Delay) Happened() bool { return d >= 0 }

// String returns the seconds with one decimal, or "not".
func (d Delay) String() string {
	if !d.Happened() {
		return "not"
	}
	return fmt.Sprintf("%.1f", float64(d))
}
