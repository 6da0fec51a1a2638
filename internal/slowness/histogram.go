package slowness

import (
	"math/bits"
	"time"
)

const (
	// Each octave from 65 µs to 18 minutes has four buckets. A quantile has an error of at
	// most an eighth.
	bucketBits   = 2
	lowestOctave = 16
	octaves      = 24
	buckets      = octaves << bucketBits
)

// A Histogram counts latencies in log-spaced buckets. The zero value is empty.
type Histogram [buckets]float32

func bucketOf(d time.Duration) int {
	octave := bits.Len64(uint64(max(1, d))) - 1
	if octave < lowestOctave {
		return 0
	}
	within := int(d>>(octave-bucketBits)) & (1<<bucketBits - 1)
	return min(buckets-1, (octave-lowestOctave)<<bucketBits+within)
}

// lowerBound returns the shortest latency of bucket i. i may equal buckets.
func lowerBound(i int) time.Duration {
	octave, within := lowestOctave+i>>bucketBits, i&(1<<bucketBits-1)
	return time.Duration(1<<bucketBits+within) << (octave - bucketBits)
}

// Add counts a latency.
func (h *Histogram) Add(d time.Duration) { h[bucketOf(d)]++ }

// Merge adds the latencies of another histogram.
func (h *Histogram) Merge(other *Histogram) {
	for i, n := range other {
		h[i] += n
	}
}

func (h *Histogram) scale(factor float32) {
	for i := range h {
		h[i] *= factor
	}
}

// Total returns the number of latencies. It is a fraction after decay.
func (h *Histogram) Total() (n float32) {
	for _, count := range h {
		n += count
	}
	return n
}

// Quantile returns the latency below which a part q of the latencies lies, 0 to 1, interpolated
// within its bucket. total is Total.
func (h *Histogram) Quantile(q, total float32) time.Duration {
	left := q * total
	for i, n := range h {
		if n > 0 && left <= n {
			low, high := lowerBound(i), lowerBound(i+1)
			return low + time.Duration(float32(high-low)*left/n)
		}
		left -= n
	}
	return lowerBound(buckets)
}
