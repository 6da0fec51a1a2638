package failover

import (
	"math"
	"time"
)

const (
	// minScore keeps a struggling endpoint in sight: it goes on getting a little
	// traffic, by which it can show that it is well again.
	minScore = 0.05
	// scoreStep is the smallest change of a score that is worth a new table.
	scoreStep = 0.05

	slowErrors, slowErrorsAtLeast = 30 * time.Second, 10
	fastErrors, fastErrorsAtLeast = 3 * time.Second, 20
	goodErrorRatio                = 0.01

	latencySpan    = 10 * time.Second
	latencySamples = 20
	baselineSpan   = time.Hour
)

// tally is what happened at an endpoint since it was last looked at.
type tally struct {
	calls, failures int
	latencies       int
	logLatency      float64 // sum of ln(seconds) to the first byte
}

// scorer makes a score of what was tallied: how well an endpoint has been doing
// lately, minScore to 1. The zero value has score 1. Times that run backwards
// count as no time.
type scorer struct {
	folded   time.Time
	slow     decayedRatio // errors, over half a minute
	fast     decayedRatio // errors, over a few seconds
	latency  logMean
	baseline logMean
	lost     float64 // 1 - score
}

// fold adds a tally.
func (s *scorer) fold(now time.Time, t tally) {
	dt := max(0, now.Sub(s.folded))
	if s.folded.IsZero() {
		dt = 0
	}
	s.folded = now
	s.slow.add(dt, slowErrors, t.calls, t.failures)
	s.fast.add(dt, fastErrors, t.calls, t.failures)
	if t.latencies > 0 {
		mean := t.logLatency / float64(t.latencies)
		s.latency.add(dt, latencySpan, t.latencies, mean)
		s.baseline.add(dt, baselineSpan, t.latencies, mean)
	}
}

// score says how well the endpoint does, given the failure ratio at which its
// breaker opens and the latency to compare with (0: its own past).
func (s *scorer) score(failureRatio float64, reference time.Duration) float64 {
	return max(minScore, s.successPart(failureRatio)*s.latencyPart(reference))
}

// successPart is 1 while hardly anything fails and falls to 0 at failureRatio.
// It believes the worse of two memories: the fast one sees trouble within half
// a second of busy traffic, early enough to spare the retry budget; the slow
// one does not forget it as soon.
func (s *scorer) successPart(failureRatio float64) float64 {
	ratio := 0.0
	if s.slow.n >= slowErrorsAtLeast {
		ratio = s.slow.ratio()
	}
	if s.fast.n >= fastErrorsAtLeast {
		ratio = max(ratio, s.fast.ratio())
	}
	if failureRatio <= goodErrorRatio {
		failureRatio = defaultFailureRatio
	}
	return 1 - min(1, max(0, (ratio-goodErrorRatio)/(failureRatio-goodErrorRatio)))
}

func (s *scorer) latencyPart(reference time.Duration) float64 {
	if s.latency.n < 1 {
		return 1
	}
	ref := reference.Seconds()
	if reference <= 0 {
		ref = s.baseline.value()
	}
	return min(1, 2*ref/s.latency.value())
}

// typical is the endpoint's usual latency to the first byte now, 0 if unknown.
func (s *scorer) typical() time.Duration {
	if s.latency.n < latencySamples/2 {
		return 0
	}
	return time.Duration(s.latency.value() * float64(time.Second))
}

// decayedRatio is a ratio of counts that fade with time.
type decayedRatio struct{ n, marked float64 }

func (r *decayedRatio) add(dt, span time.Duration, n, marked int) {
	keep := math.Exp(-float64(dt) / float64(span))
	r.n = r.n*keep + float64(n)
	r.marked = r.marked*keep + float64(marked)
}

func (r *decayedRatio) ratio() float64 { return r.marked / r.n }

// logMean is a weighted geometric mean over the longer of a span and
// latencySamples samples, so that a heavy tail does not look like slowness.
type logMean struct {
	n   float64 // weight of what is in, in samples
	sum float64 // of ln(seconds)
}

func (m *logMean) add(dt, span time.Duration, n int, mean float64) {
	keep := math.Exp(-float64(dt) / float64(span))
	if least := max(0, latencySamples-float64(n)); m.n*keep < least {
		keep = min(1, least/m.n)
	}
	if m.n == 0 {
		keep = 0
	}
	m.n = m.n*keep + float64(n)
	m.sum = m.sum*keep + float64(n)*mean
}

func (m *logMean) value() float64 { return math.Exp(m.sum / m.n) }
