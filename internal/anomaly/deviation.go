package anomaly

import "math"

const (
	// noise is the change, relative to the level, that is no news however exactly
	// it is measured.
	noise = 0.1

	maxLogLatency = 30 // 300,000 years
)

// chance is the least variance that deviations of a kind have.
func chance(kind Kind) float64 {
	if kind == Latency {
		return 0
	}
	return 1 // Poisson, binomial
}

// deviation returns how far x, a mean of weight calls, is from the mean, in
// units comparable with b.scale, and the least standard deviation to assume.
func (b *baseline) deviation(kind Kind, x, weight float64) (e, floor float64) {
	switch kind {
	case Latency:
		// The variance of a mean of fewer calls than usual is larger in
		// proportion. That of more calls is taken as no smaller: calls of one step
		// share causes, and how much is unknown until seen.
		unit := math.Sqrt(max(1, b.calls/weight))
		return (x - b.mean) / unit, noise / unit
	case FailureRatio:
		// For the same reason no more calls than twice the usual are evidence.
		n := min(weight, 2*b.calls)
		e = 2 * math.Sqrt(n+0.5) * (arcsine(x*n, n) - arcsine(b.mean*n, n))
		return e, noise * math.Sqrt(n*b.mean)
	default:
		return x - b.mean, noise / 2 * b.mean // d(2√n) = 2√n/2 · dn/n
	}
}

// anscombe returns 2√(n + 3/8), of variance about 1 for a Poisson count n
// (Anscombe 1948).
func anscombe(n float64) float64 { return 2 * math.Sqrt(n+3./8) }

// unanscombe returns the count whose transform has mean y, asymptotically
// unbiased (Anscombe 1948).
func unanscombe(y float64) float64 { return max(0, y*y/4-1./8) }

// arcsine returns asin √((x + 3/8) / (n + 3/4)); times 2√(n + 1/2) it has
// variance about 1 for x of n, binomial (Anscombe 1948).
func arcsine(x, n float64) float64 { return math.Asin(math.Sqrt(min(1, (x+3./8)/(n+3./4)))) }
