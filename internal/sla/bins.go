package sla

import (
	"math"
	"math/bits"
	"time"
)

// bins finds the bin of a duration in [latencies] without a logarithm. It divides durations
// into cells, 32 for each factor of two. A cell is narrower than a bin, so it touches at
// most two bins.
var bins = makeBins()

const (
	cellBits = 5
	octaves  = 43 // 2^42 ns is more than an hour
)

type binTable struct {
	lowest [numBins + 1]time.Duration  // lower bound of each bin; unset for bin 0
	cells  [octaves << cellBits]uint16 // bin of each cell's lower bound
}

// slowBin computes binOf with DDSketch's mapping.
func slowBin(d time.Duration) int {
	return min(max(binMapping.Index(d.Seconds())-firstBin, 0), numBins-1)
}

func makeBins() *binTable {
	t := new(binTable)
	for bin := 1; bin < numBins; bin++ {
		d := time.Duration(binMapping.LowerBound(bin+firstBin) * float64(time.Second))
		for slowBin(d) >= bin { // LowerBound is rounded
			d--
		}
		for slowBin(d) < bin {
			d++
		}
		t.lowest[bin] = d
	}
	t.lowest[numBins] = math.MaxInt64
	for cell := cellBits << cellBits; cell < len(t.cells); cell++ {
		octave, within := cell>>cellBits, cell&(1<<cellBits-1)
		t.cells[cell] = uint16(slowBin(time.Duration(1<<cellBits+within) << (octave - cellBits)))
	}
	return t
}

// binOf returns the bin of d. d must be above 0.
func binOf(d time.Duration) int {
	switch {
	case d < bins.lowest[1]:
		return 0
	case d >= bins.lowest[numBins-1]:
		return numBins - 1
	}
	octave := bits.Len64(uint64(d)) - 1
	bin := int(bins.cells[octave<<cellBits|int(d>>(octave-cellBits))&(1<<cellBits-1)])
	if d >= bins.lowest[bin+1] {
		bin++
	}
	return bin
}
