package sla

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestBinsAreThoseOfDDSketch compares bins with DDSketch's for random durations, around
// every bound, and at both ends.
func TestBinsAreThoseOfDDSketch(t *testing.T) {
	wants := func(d time.Duration) {
		t.Helper()
		if got, want := binOf(d), slowBin(d); got != want {
			t.Fatalf("%v is in bin %d, want %d", d, got, want)
		}
	}
	for bin := 1; bin < numBins; bin++ {
		for off := time.Duration(-2); off <= 2; off++ {
			wants(bins.lowest[bin] + off)
		}
	}
	for octave := range 63 {
		for off := time.Duration(-2); off <= 2; off++ {
			wants(max(1, 1<<octave+off))
		}
		for range 1000 {
			wants(1<<octave + time.Duration(rand.Int64N(1<<octave)))
		}
	}
}

func BenchmarkBinOf(b *testing.B) {
	for name, bin := range map[string]func(time.Duration) int{"table": binOf, "logarithm": slowBin} {
		b.Run(name, func(b *testing.B) {
			d := time.Millisecond
			for b.Loop() {
				bin(d)
				d += 12345
			}
		})
	}
}
