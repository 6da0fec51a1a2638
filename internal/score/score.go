// Package score computes how well an endpoint has been doing.
package score

import (
	"math"
	"time"

	"github.com/apifailover/caddy-failover/internal/anomaly"
)

const (
	// minScore is the lowest score. A failing endpoint still gets a little traffic, which shows
	// when it has recovered.
	minScore = 0.05
	// Step is the smallest change of a score that is worth a new table.
	Step = 0.05

	// The error ratio covers the shorter of errorSpan and errorSamples. So the score of a busy
	// endpoint follows changes quickly. It covers at least errorsAtLeast samples. So a few
	// successes do not raise the score much.
	errorSpan      = 30 * time.Second
	errorSamples   = 100
	errorsAtLeast  = 10
	goodErrorRatio = 0.01
	// A run of successes ends the failures before it if its probability is below chanceRun. That
	// is computed from the ratio of failures before the run, at most mostBefore.
	chanceRun  = 1e-4
	mostBefore = 0.5
	// defaultFailureRatio replaces a failure ratio of goodErrorRatio or less, for example the 0
	// of a breaker that no ratio opens.
	defaultFailureRatio = 0.5

	latencySpan    = 10 * time.Second
	latencySamples = 20
	latencyAtLeast = 5
	baselineSpan   = time.Hour

	// While samples come less often than one each fewEvery, the score drifts back to 1: the
	// difference halves in driftHalf.
	driftHalf = 30 * time.Second
	fewEvery  = errorSpan / errorsAtLeast
	// driftedAway is the difference to 1 below which a drifting score is 1.
	driftedAway = 0.01
	// A bad sample after a drift of driftTold or more doubles driftHalf for the next drift, at
	// most maxWrong times.
	driftTold = 10 * time.Second
	maxWrong  = 4

	// liveFor is how long after a call checks do not count.
	liveFor = 10 * time.Second
)

// Tally is what happened at an endpoint since the last tally.
type Tally struct {
	Calls, Failures int
	Latencies       int     // how many latencies are in LogLatency
	LogLatency      float64 // sum of ln(seconds) to the first byte
}

// Scorer computes a score, minScore to 1, from tallies: how well an endpoint has been doing
// lately. It keeps latencies of calls and of checks apart and compares each with its own past,
// because a HEAD request is quick even if completions are slow. The zero value has score 1. If
// the clock jumps back, no time has passed. The endpoint's mutex guards it.
//
// A score with too few samples drifts back to 1. Otherwise an endpoint with a low score would
// get few calls and keep that score long after it works again. The next sample decides: a good
// one confirms the drift; a bad one undoes it and slows the next drift down. So an endpoint
// that still fails gets hardly more than that one call.
type Scorer struct {
	Errors        decayedRatio
	Calls, checks latencies
	called        time.Time // of the latest call
	checked       bool      // the newest sample is a check
	news          bool      // there are samples since the last score
	Lost          float64   // 1 - score, as published
	FailedLast    bool      // the newest sample is a failure
	Wrong         int       // drifts in a row that bad samples have undone, at most maxWrong

	now    time.Time // of the latest tally or check
	fed    time.Time // time of the newest sample
	earned float64   // the score at fed; 0: none yet
	fatal  float64   // the ratio of failures at which the score is minScore
	normal float64   // the latency that calls are compared with, seconds; 0: unknown
}

// left returns the part of the score's difference to 1 that remains after the drift until now,
// 0 to 1.
func (s *Scorer) left(now time.Time) float64 {
	gap := now.Sub(s.fed)
	if s.fed.IsZero() || gap <= fewEvery {
		return 1
	}
	return math.Exp2(-float64(gap) / float64(driftHalf<<s.Wrong))
}

// Drifts reports whether time alone changes the score.
func (s *Scorer) Drifts() bool { return s.Lost > 0 }

// News reports whether there have been samples since the latest score.
func (s *Scorer) News() bool { return s.news }

// feed notes a sample. A good one confirms the drift until now. feed returns what left returned
// before it.
func (s *Scorer) feed(now time.Time, good bool) (left float64) {
	left = s.left(now)
	if good && left < 1 {
		s.Errors.fade(left, s.fatal)
	}
	switch {
	case good:
		s.Wrong = 0
	case !s.fed.IsZero() && now.Sub(s.fed) >= driftTold:
		s.Wrong = min(maxWrong, s.Wrong+1)
	}
	s.now, s.fed, s.FailedLast = now, now, !good
	return left
}

// Fold adds the results of calls.
func (s *Scorer) Fold(now time.Time, t Tally) {
	s.now = now
	if t.Calls == 0 && t.Latencies == 0 {
		return
	}
	s.news, s.checked, s.called = true, false, now
	left := s.feed(now, t.Failures == 0 && t.Calls > 0)
	if most := math.Log(2 * s.normal); t.Latencies > 0 && t.LogLatency/float64(t.Latencies) <= most {
		s.Calls.Now.fade(left, most)
	}
	s.Errors.add(now, t.Calls, t.Failures)
	s.Calls.add(now, t.Latencies, t.LogLatency)
}

// TakeBack removes a failure that the endpoint did not cause.
func (s *Scorer) TakeBack() {
	if s.Errors.n >= 1 && s.Errors.marked > 0 {
		s.Errors.n--
		s.Errors.marked = max(0, s.Errors.marked-1)
		s.news = true
	}
}

// Check adds the result of a check. latency is 0 if there was no response. The check counts as a
// call if there has been no call for liveFor.
func (s *Scorer) Check(now time.Time, passed bool, latency time.Duration) {
	if passed && latency > 0 {
		s.checks.add(now, 1, math.Log(latency.Seconds()))
	}
	if idle := now.Sub(s.called); idle >= 0 && idle < liveFor {
		return
	}
	failures := 1
	if passed {
		failures = 0
	}
	s.feed(now, passed)
	s.Errors.add(now, 1, failures)
	s.news, s.checked = true, true
}

// Score returns the score. failureRatio is the ratio at which the breaker opens. reference is
// the latency to compare calls with; 0: the endpoint's own past. usual is the latency in the
// endpoint's tier, which replaces its own while that is unknown; 0: unknown. Without new
// samples, only the drift changes the score.
func (s *Scorer) Score(failureRatio float64, reference, usual time.Duration) float64 {
	if s.news {
		s.news = false
		s.earned = max(minScore, s.successPart(failureRatio)*s.latencyPart(reference.Seconds(), usual.Seconds()))
	}
	if s.earned == 0 {
		return 1
	}
	left := s.left(s.now)
	lost := (1 - s.earned) * left
	switch {
	case left == 1:
		return s.earned
	case lost < driftedAway:
		return 1
	}
	return 1 - lost
}

// successPart is 1 while hardly anything fails and falls to 0 at failureRatio.
func (s *Scorer) successPart(failureRatio float64) float64 {
	ratio := 0.0
	if s.Errors.n > errorsAtLeast-0.5 { // n fades to errorsAtLeast, with rounding errors
		ratio = s.Errors.Ratio()
	}
	if failureRatio <= goodErrorRatio {
		failureRatio = defaultFailureRatio
	}
	s.fatal = failureRatio
	return 1 - min(1, max(0, (ratio-goodErrorRatio)/(failureRatio-goodErrorRatio)))
}

// latencyPart is 1 up to twice the reference and falls in proportion beyond it. Both
// arguments are in seconds; 0: unknown.
func (s *Scorer) latencyPart(reference, usual float64) float64 {
	now := s.Calls.Now.Value()
	switch {
	case s.checked && s.checks.Now.n >= latencyAtLeast:
		reference, now = s.checks.baseline.Value(), s.checks.Now.Value()
	case s.Calls.Now.n < latencyAtLeast && usual == 0, reference == 0 && s.Calls.Now.n < latencyAtLeast:
		return 1
	case s.Calls.Now.n < latencyAtLeast:
		now = usual
	case reference == 0:
		reference = s.Calls.baseline.Value()
	}
	if !s.checked {
		s.normal = reference
	}
	return min(1, 2*reference/now)
}

// Typical returns the endpoint's current mean latency to the first byte; 0: unknown.
func (s *Scorer) Typical() time.Duration {
	if s.Calls.Now.n < latencySamples/2 {
		return 0
	}
	return time.Duration(s.Calls.Now.Value() * float64(time.Second))
}

// Forget drops all samples except the latency baselines. Call it when the breaker opens: it has
// taken these samples into account.
func (s *Scorer) Forget() {
	if s.Errors.n > 0 || s.Calls.Now.n > 0 {
		s.Errors, s.Calls.Now = decayedRatio{}, logMean{}
		s.news, s.checked = true, false
	}
}

// latencies are the mean latencies to the first byte: now, and over the last hour.
type latencies struct {
	folded        time.Time // when the latest were added
	Now, baseline logMean
}

func (l *latencies) add(now time.Time, n int, sum float64) {
	if n == 0 {
		return
	}
	dt := advance(&l.folded, now)
	mean := sum / float64(n)
	l.Now.add(dt, latencySpan, n, mean)
	l.baseline.add(dt, baselineSpan, n, mean)
}

// advance sets last to now and returns the time between them; 0 if last was zero or later.
func advance(last *time.Time, now time.Time) time.Duration {
	dt := max(0, now.Sub(*last))
	if last.IsZero() {
		dt = 0
	}
	*last = now
	return dt
}

// decayedRatio is the ratio of marked events to all. Events fade with time and with newer events.
//
// A run of unmarked events that is improbable by the ratio before it ends all events before it.
// After a ratio of 30 %, 26 events in a row do so.
type decayedRatio struct {
	folded    time.Time // when the latest were added
	n, marked float64
	run       float64 // unmarked events since the latest marked one
	before    float64 // the ratio at the beginning of the run
}

func (r *decayedRatio) add(now time.Time, n, marked int) {
	dt := advance(&r.folded, now)
	if r.n > 0 {
		keep := math.Exp(-float64(dt) / float64(errorSpan))
		keep = min(keep, max(0, errorSamples-float64(n))/r.n)
		keep = max(keep, min(1, max(0, errorsAtLeast-float64(n))/r.n))
		r.n *= keep
		r.marked *= keep
	}
	r.n += float64(n)
	r.marked += float64(marked)
	if marked > 0 {
		r.run, r.before = 0, r.Ratio()
		return
	}
	r.run += float64(n)
	if r.marked > 0 && r.run*math.Log1p(-min(mostBefore, r.before)) <= math.Log(chanceRun) {
		r.n, r.marked = max(r.run, errorsAtLeast), 0
	}
}

// fade applies a drift: it limits the ratio to most, and reduces its excess over
// goodErrorRatio to the part left.
func (r *decayedRatio) fade(left, most float64) {
	if r.n > 0 && r.Ratio() > goodErrorRatio {
		r.marked = r.n * (goodErrorRatio + (min(r.Ratio(), max(most, goodErrorRatio))-goodErrorRatio)*left)
	}
}

// Ratio returns the marked part; NaN if nothing has been counted.
func (r *decayedRatio) Ratio() float64 { return r.marked / r.n }

// logMean is a weighted geometric mean over the longer of a span and latencySamples samples. A
// heavy tail changes it little.
type logMean struct {
	n   float64 // weight, in samples
	sum float64 // weighted sum of ln(seconds)
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

// fade applies a drift: it moves a mean that is above most, in ln(seconds), towards most. The
// score is most/mean, as latencies. fade reduces the score's difference to 1 to the part left.
func (m *logMean) fade(left, most float64) {
	if over := m.sum/m.n - most; m.n > 0 && over > 0 {
		m.sum = m.n * (most - math.Log(1-(1-math.Exp(-over))*left))
	}
}

// Value returns the mean in seconds; NaN if there are no samples.
func (m *logMean) Value() float64 { return math.Exp(m.sum / m.n) }

// StepTally adds up tallies over a step of the trend.
type StepTally Tally

// Add adds a tally.
func (s *StepTally) Add(t Tally) {
	s.Calls += t.Calls
	s.Failures += t.Failures
	s.Latencies += t.Latencies
	s.LogLatency += t.LogLatency
}

// Sample returns the step as a sample of the trend.
func (s *StepTally) Sample() anomaly.Sample {
	sample := anomaly.Sample{Calls: s.Calls, Failures: s.Failures, LatencyCount: s.Latencies}
	if s.Latencies > 0 {
		sample.LogLatency = s.LogLatency / float64(s.Latencies)
	}
	return sample
}
