// Package score says how well an endpoint has been doing.
package score

import (
	"math"
	"time"

	"github.com/apifailover/caddy-failover/internal/anomaly"
)

const (
	// minScore keeps a struggling endpoint in sight: it goes on getting a little
	// traffic, by which it can show that it is well again.
	minScore = 0.05
	// Step is the smallest change of a score that is worth a new table.
	Step = 0.05

	// The error ratio looks back over the shorter of errorSpan and errorSamples,
	// so that busy endpoints are believed soon, for worse and for better, but over
	// no fewer than errorsAtLeast, so that a few successes do not look good.
	errorSpan      = 30 * time.Second
	errorSamples   = 100
	errorsAtLeast  = 10
	goodErrorRatio = 0.01

	latencySpan    = 10 * time.Second
	latencySamples = 20
	latencyAtLeast = 5
	baselineSpan   = time.Hour

	// What lowers a score fades by half in driftHalf while there are too few samples to
	// learn from: one each fewEvery.
	driftHalf = 30 * time.Second
	fewEvery  = errorSpan / errorsAtLeast
	// driftedAway is so little that it is nothing.
	driftedAway = 0.01
	// Each drift of driftTold or more that a bad sample undoes doubles driftHalf for the next, up to
	// maxWrong times.
	driftTold = 10 * time.Second
	maxWrong  = 4

	// liveFor is how long calls are evidence that comes before that of checks.
	liveFor = 10 * time.Second
)

// Tally is what happened at an endpoint since it was last looked at.
type Tally struct {
	Calls, Failures int
	Latencies       int
	LogLatency      float64 // sum of ln(seconds) to the first byte
}

// Scorer makes a score of what was tallied: how well an endpoint has been doing
// lately, minScore to 1. Calls and checks are kept apart, each compared with
// its own past: a HEAD is quick where a completion is slow. The zero value has score 1.
// Times that run backwards count as no time.
//
// A score that gets too few samples to learn from drifts back to 1: else an endpoint with
// a low score, which brings it few calls, would keep that long after it is well. The first
// sample tells whether the drift was right: a good one makes it last, a bad one undoes it and
// makes the next one slower, so that an endpoint which still fails gains hardly more than that call.
type Scorer struct {
	Errors        decayedRatio
	Calls, checks latencies
	called        time.Time // the last calls were folded
	checked       bool      // the newest evidence is a check
	news          bool      // since the last score
	Lost          float64   // 1 - score, as published
	FailedLast    bool      // the newest evidence is a failure
	Wrong         int       // drifts in a row that bad samples have undone, at most maxWrong

	now    time.Time // of the latest look
	fed    time.Time // the newest evidence
	earned float64   // the score as of then; 0: none yet
	fatal  float64   // the ratio of failures that makes it minScore
	normal float64   // the latency that calls are compared with, seconds; 0: unknown
}

// left is the part that the drift has left of what lowers the score.
func (s *Scorer) left(now time.Time) float64 {
	gap := now.Sub(s.fed)
	if s.fed.IsZero() || gap <= fewEvery {
		return 1
	}
	return math.Exp2(-float64(gap) / float64(driftHalf<<s.Wrong))
}

// Drifts tells whether time alone changes the score.
func (s *Scorer) Drifts() bool { return s.Lost > 0 }

// feed notes evidence, good or bad. Good evidence makes the drift until now last.
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

// Fold adds what became of calls.
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

// TakeBack forgets a failure that was not the endpoint's.
func (s *Scorer) TakeBack() {
	if s.Errors.n >= 1 && s.Errors.marked > 0 {
		s.Errors.n--
		s.Errors.marked = max(0, s.Errors.marked-1)
		s.news = true
	}
}

// Check adds what became of a check; latency is 0 if it brought no answer. It
// stands for a call where there has been none for a while.
func (s *Scorer) Check(now time.Time, passed bool, latency time.Duration) {
	if passed && latency > 0 {
		s.checks.add(now, 1, math.Log(latency.Seconds()))
	}
	if since := now.Sub(s.called); since >= 0 && since < liveFor {
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

// Score says how well the endpoint does, given the failure ratio at which its
// breaker opens, the latency to compare calls with (0: its own past), and what
// is usual in its tier (0: unknown), for an endpoint of which no latency is
// known. Without news it is what it was, less what has drifted away since.
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
	if s.Errors.n > errorsAtLeast-0.5 { // it fades to errorsAtLeast, give or take its rounding
		ratio = s.Errors.Ratio()
	}
	if failureRatio <= goodErrorRatio {
		failureRatio = defaultFailureRatio
	}
	s.fatal = failureRatio
	return 1 - min(1, max(0, (ratio-goodErrorRatio)/(failureRatio-goodErrorRatio)))
}

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

// Typical is the endpoint's usual latency to the first byte now, 0 if unknown.
func (s *Scorer) Typical() time.Duration {
	if s.Calls.Now.n < latencySamples/2 {
		return 0
	}
	return time.Duration(s.Calls.Now.Value() * float64(time.Second))
}

// Forget begins anew, but for the baselines, when a breaker has drawn the
// consequences.
func (s *Scorer) Forget() {
	if s.Errors.n > 0 || s.Calls.Now.n > 0 {
		s.Errors, s.Calls.Now = decayedRatio{}, logMean{}
		s.news, s.checked = true, false
	}
}

// latencies are what is known of the latency to the first byte: of late, and in
// the last hour.
type latencies struct {
	folded        time.Time
	Now, baseline logMean
}

func (l *latencies) add(now time.Time, n int, sum float64) {
	if n == 0 {
		return
	}
	dt := since(&l.folded, now)
	mean := sum / float64(n)
	l.Now.add(dt, latencySpan, n, mean)
	l.baseline.add(dt, baselineSpan, n, mean)
}

// since moves a time to now and returns how much that was, 0 for the first.
func since(last *time.Time, now time.Time) time.Duration {
	dt := max(0, now.Sub(*last))
	if last.IsZero() {
		dt = 0
	}
	*last = now
	return dt
}

// decayedRatio is a ratio of counts that fade with time and with newer counts.
type decayedRatio struct {
	folded    time.Time
	n, marked float64
}

func (r *decayedRatio) add(now time.Time, n, marked int) {
	dt := since(&r.folded, now)
	if r.n > 0 {
		keep := math.Exp(-float64(dt) / float64(errorSpan))
		keep = min(keep, max(0, errorSamples-float64(n))/r.n)
		keep = max(keep, min(1, max(0, errorsAtLeast-float64(n))/r.n))
		r.n *= keep
		r.marked *= keep
	}
	r.n += float64(n)
	r.marked += float64(marked)
}

// fade takes away what a drift has left no trust in: ratios above most count as that,
// and what is not good is reduced to the part left.
func (r *decayedRatio) fade(left, most float64) {
	if r.n > 0 && r.Ratio() > goodErrorRatio {
		r.marked = r.n * (goodErrorRatio + (min(r.Ratio(), max(most, goodErrorRatio))-goodErrorRatio)*left)
	}
}

// Ratio is the marked part, NaN where nothing has been counted.
func (r *decayedRatio) Ratio() float64 { return r.marked / r.n }

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

// fade brings a mean above most, in ln(seconds), closer to that: what it loses of a score,
// which is the ratio of the two, is reduced to the part left.
func (m *logMean) fade(left, most float64) {
	if over := m.sum/m.n - most; m.n > 0 && over > 0 {
		m.sum = m.n * (most - math.Log(1-(1-math.Exp(-over))*left))
	}
}

// Value is the mean in seconds, NaN where there is none.
func (m *logMean) Value() float64 { return math.Exp(m.sum / m.n) }

// StepTally adds up tallies over a step.
type StepTally Tally

// Add adds what happened since the last tick.
func (s *StepTally) Add(t Tally) {
	s.Calls += t.Calls
	s.Failures += t.Failures
	s.Latencies += t.Latencies
	s.LogLatency += t.LogLatency
}

// Sample is the step as the trend looks at it.
func (s *StepTally) Sample() anomaly.Sample {
	sample := anomaly.Sample{Calls: s.Calls, Failures: s.Failures, LatencyCount: s.Latencies}
	if s.Latencies > 0 {
		sample.LogLatency = s.LogLatency / float64(s.Latencies)
	}
	return sample
}

const defaultFailureRatio = 0.5
