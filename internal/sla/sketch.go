package sla

import (
	"math"
	"time"

	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/DataDog/sketches-go/ddsketch/mapping"
	"github.com/DataDog/sketches-go/ddsketch/store"
)

const (
	// accuracy is the relative error of a latency quantile. A sketch that does not fit its
	// room is stored coarser, with an error of 6 % or 15 %: see appendSketch.
	accuracy = 0.02

	firstBin = -231 // holds 100 µs and everything below
	numBins  = 440  // the last holds 1 h 8 m and everything above
)

// binMapping is DDSketch's own mapping (Masson, Rim and Lee 2019), so the bins of
// [latencies] equal those of a DDSketch with a dense store of fixed range. ddsketch itself
// allocates as its range grows and uses one float64 for each bin. Here, recording is one
// increment, and bins.go looks up the bin of a latency.
var binMapping = func() *mapping.LogarithmicMapping {
	m, err := mapping.NewLogarithmicMapping(accuracy)
	if err != nil {
		panic(err) // accuracy is a constant between 0 and 1
	}
	return m
}()

// latencies counts latencies by bin. The zero value is empty.
type latencies struct {
	lo, hi int // bins outside [lo, hi) are 0
	bins   [numBins]uint64
}

func (l *latencies) record(d time.Duration) { l.add(binOf(d), 1) }

func (l *latencies) add(bin int, n uint64) {
	if l.lo == l.hi {
		l.lo, l.hi = bin, bin+1
	} else {
		l.lo, l.hi = min(l.lo, bin), max(l.hi, bin+1)
	}
	l.bins[bin] += n
}

func (l *latencies) merge(o *latencies) {
	if o.lo == o.hi {
		return
	}
	if l.lo == l.hi {
		l.lo, l.hi = o.lo, o.hi
	} else {
		l.lo, l.hi = min(l.lo, o.lo), max(l.hi, o.hi)
	}
	for i := o.lo; i < o.hi; i++ {
		l.bins[i] += o.bins[i]
	}
}

func (l *latencies) reset() {
	clear(l.bins[l.lo:l.hi])
	l.lo, l.hi = 0, 0
}

func (l *latencies) count() (n uint64) {
	for _, c := range l.bins[l.lo:l.hi] {
		n += c
	}
	return n
}

// slower returns how many latencies are above target, to the accuracy of a bin.
func (l *latencies) slower(target time.Duration) (n uint64) {
	for i := l.hi - 1; i >= l.lo && binMapping.Value(i+firstBin) > target.Seconds(); i-- {
		n += l.bins[i]
	}
	return n
}

// sketch returns the counts as a DDSketch in seconds.
func (l *latencies) sketch() *ddsketch.DDSketch {
	s := store.NewDenseStore()
	for i := l.lo; i < l.hi; i++ {
		if n := l.bins[i]; n > 0 {
			s.AddWithCount(i+firstBin, float64(n))
		}
	}
	return ddsketch.NewDDSketch(binMapping, s, store.NewDenseStore())
}

// quantiles returns the latency at each quantile, or 0 if there is none.
func (l *latencies) quantiles(qs ...float64) []time.Duration {
	out := make([]time.Duration, len(qs))
	values, err := l.sketch().GetValuesAtQuantiles(qs)
	if err != nil { // empty
		return out
	}
	for i, v := range values {
		out[i] = time.Duration(math.Round(v * float64(time.Second)))
	}
	return out
}
