package anomaly

import (
	"math"
	"slices"
)

const (
	// The warm-up takes the median of the blocks' means and of their variances (median of
	// means: Nemirovsky and Yudin 1983). Two of the five blocks may hold anything, and
	// drift between blocks does not count as variance.
	blocks     = 5
	blockSteps = 12

	meanSteps  = Warmup // time constant of the mean, in steps
	scaleSteps = 360    // time constant of scale, calls and correlation, in steps

	firstCorrelation = 0.1 // assumed until more is known
	maxCorrelation   = 0.8
)

// baseline describes the normal values of a series: a mean, which follows the series, and
// the spread of deviations from it. Both are robust: a deviation of more than maxZ standard
// deviations counts as maxZ. The zero value has learnt nothing.
//
// The unit of a deviation gives chance alone variance 1 (calls, failures), or an unknown
// variance that shrinks with the number of calls (latency). scale is the observed variance,
// including overdispersion.
type baseline struct {
	block [blocks]block

	mean        float64 // latency: ln(seconds); failures: ratio; traffic: Anscombe's root
	weight      float64 // weight of the mean
	calls       float64 // mean weight of a step
	scale       float64 // variance of deviations
	correlation float64 // correlation of consecutive deviations
	last        float64 // last deviation, 0 if unknown
	steps       int32   // number of steps learnt, up to scaleSteps
}

// block is a weighted mean and a sum of squares (West 1979).
type block struct{ weight, mean, squares float64 }

func (b *block) add(x, weight float64) {
	b.weight += weight
	d := x - b.mean
	b.mean += d * (weight / b.weight)
	b.squares += weight * d * (x - b.mean)
}

func (b *baseline) ready() bool { return b.steps >= Warmup }

// warm adds one step of the warm-up.
func (b *baseline) warm(kind Kind, x, weight float64) {
	b.block[b.steps/blockSteps].add(x, weight)
	b.steps++
	if !b.ready() {
		return
	}
	var mean, variance [blocks]float64
	for i, bl := range b.block {
		mean[i] = bl.mean
		variance[i] = bl.squares / (blockSteps - 1)
		b.weight += bl.weight
	}
	slices.Sort(mean[:])
	slices.Sort(variance[:])
	b.mean, b.scale = mean[blocks/2], variance[blocks/2]
	b.calls = b.weight / Warmup
	b.correlation = firstCorrelation
	switch kind {
	case Latency:
		b.scale /= b.calls
	case FailureRatio:
		if p := b.mean * (1 - b.mean); p > 0 {
			b.scale /= p // Pearson's dispersion
		}
	}
	b.scale = max(b.scale, chance(kind))
}

// sigma returns the standard deviation that deviations are compared with, at least floor.
// Correlation widens it by the variance of a sum of AR(1) noise (Bayley and Hammersley
// 1946), because the CUSUM judges sums.
func (b *baseline) sigma(floor float64) float64 {
	r := clamp(b.correlation, 0, maxCorrelation)
	return max(math.Sqrt(b.scale*(1+r)/(1-r)), floor)
}

// steady reports whether traffic is even enough to judge.
func (b *baseline) steady() bool { return math.Sqrt(b.scale) <= max(1.5, b.mean/4) }

// follow learns the given part of one step with deviation e.
func (b *baseline) follow(kind Kind, x, weight, e, floor, part float64) {
	b.steps = min(b.steps+1, scaleSteps)
	gain := part / float64(b.steps)
	limit := maxZ * max(math.Sqrt(b.scale), floor)
	if a := math.Abs(e); a > limit {
		part *= limit / a
		e *= limit / a
	}

	b.weight += weight - b.weight/meanSteps
	b.mean += part * (x - b.mean) * (weight / b.weight)

	if b.scale > 0 {
		b.correlation += gain * (clamp(e*b.last/b.scale, -maxZ*maxZ, maxZ*maxZ) - b.correlation)
	}
	b.scale = max(b.scale+gain*(e*e-b.scale), chance(kind))
	b.last = e

	calls := b.calls + gain*(weight-b.calls)
	// scale is the variance of a step of b.calls. With fewer calls, a mean of latencies
	// varies more. With more calls, the common causes of failures weigh more against chance
	// (beta-binomial: 1 + (n-1)ρ). In the opposite cases scale stays until deviations show
	// a change.
	switch {
	case kind == Latency && calls < b.calls:
		b.scale *= b.calls / calls
	case kind == FailureRatio && calls > b.calls:
		b.scale *= calls / b.calls
	}
	b.calls = calls
}
