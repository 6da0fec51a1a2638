package anomaly

import "math"

const (
	// noise is the relative change of the level that counts as noise, however exactly it is
	// measured.
	noise = 0.1

	maxLogLatency = 30 // 300,000 years
)

// chance is the smallest variance of deviations of a kind.
func chance(kind Kind) float64 {
	if kind == Latency {
		return 0
	}
	return 1 // Poisson, binomial
}

// deviation returns the distance between x, a mean of weight calls, and the baseline's
// mean, in units comparable with b.scale. floor is the smallest standard deviation to
// assume.
func (b *baseline) deviation(kind Kind, x, weight float64) (e, floor float64) {
	switch kind {
	case Latency:
		// The variance of a mean over fewer calls than usual is larger in proportion. A
		// mean over more calls is assumed to vary as much as usual: calls of one step share
		// causes, and how strongly is unknown until measured.
		unit := math.Sqrt(max(1, b.calls/weight))
		return (x - b.mean) / unit, noise / unit
	case FailureRatio:
		// For the same reason, at most twice the usual number of calls is evidence.
		n := min(weight, 2*b.calls)
		e = 2 * math.Sqrt(n+0.5) * (arcsine(x*n, n) - arcsine(b.mean*n, n))
		return e, noise * math.Sqrt(n*b.mean)
	default:
		return x - b.mean, noise / 2 * b.mean // d(2√n) = 2√n/2 · dn/n
	}
}

// anscombe returns 2√(n + 3/8). Its variance is about 1 for a Poisson count n (Anscombe
// 1948).
func anscombe(n float64) float64 { return 2 * math.Sqrt(n+3./8) }

// unanscombe returns the count whose transform has mean y. It is asymptotically unbiased
// (Anscombe 1948).
func unanscombe(y float64) float64 { return max(0, y*y/4-1./8) }

// arcsine returns asin √((x + 3/8) / (n + 3/4)). Times 2√(n + 1/2), its variance is about 1
// for a binomial x of n (Anscombe 1948).
func arcsine(x, n float64) float64 { return math.Asin(math.Sqrt(min(1, (x+3./8)/(n+3./4)))) }
