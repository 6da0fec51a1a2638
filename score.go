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

	// The error ratio looks back over the shorter of errorSpan and errorSamples,
	// so that busy endpoints are believed soon, for worse and for better, and
	// quiet ones are not judged by one call.
	errorSpan      = 30 * time.Second
	errorSamples   = 100
	errorsAtLeast  = 10
	goodErrorRatio = 0.01

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
	errors   decayedRatio
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
	s.errors.add(dt, t.calls, t.failures)
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
func (s *scorer) successPart(failureRatio float64) float64 {
	ratio := 0.0
	if s.errors.n >= errorsAtLeast {
		ratio = s.errors.ratio()
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

// forgetErrors begins the error ratio anew, when a breaker has drawn the
// consequences.
func (s *scorer) forgetErrors() { s.errors = decayedRatio{} }

// decayedRatio is a ratio of counts that fade with time and with newer counts.
type decayedRatio struct{ n, marked float64 }

func (r *decayedRatio) add(dt time.Duration, n, marked int) {
	keep := math.Exp(-float64(dt) / float64(errorSpan))
	if r.n > 0 {
		keep = min(keep, max(0, errorSamples-float64(n))/r.n)
	}
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
