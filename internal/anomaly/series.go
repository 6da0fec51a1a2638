package anomaly

import (
	"math"
	"time"
)

// series is one series of an endpoint. Its states are:
//
//	learning  the baseline is not ready: nothing is judged
//	normal    dir = 0: steps are judged, and the baseline follows
//	anomalous dir = 1 (above) or -1 (below): the baseline stands still
//
//	learning  → normal     after Warmup observations
//	normal    → anomalous  a sum reaches the threshold
//	anomalous → normal     the series came back: the sum back reaches quiet
//	anomalous → learning   the anomaly lasted forget steps
//	normal    → learning   idle for forget steps; the failure ratio fell; traffic
//	                       idle for pause steps
type series struct {
	base     baseline
	up, down cusum
	back     cusum // sum towards the baseline, while anomalous
	during   cusum // mean during the anomaly, without the values in back
	age      int32 // age of the anomaly, in steps
	silent   int32 // steps without information; for traffic, without calls
	dir      int8
}

// observation is the information of one step about a series.
type observation struct {
	x      float64 // value in the baseline's scale
	weight float64 // number of calls in the mean x
	seen   float64 // value in the scale of reports: ln(seconds), ratio, calls per second
}

// observe adds one step.
func (s *series) observe(dst []Change, kind Kind, now time.Time, o observation) []Change {
	if s.dir == 0 && s.silent >= pause && kind != Traffic {
		s.up, s.down = cusum{}, cusum{}
		s.base.last = 0
		if s.silent >= forget {
			s.base = baseline{}
		}
	}
	if kind != Traffic {
		s.silent = 0
	}
	if !s.base.ready() {
		s.base.warm(kind, o.x, o.weight)
		return dst
	}

	e, floor := s.base.deviation(kind, o.x, o.weight)
	z := clamp(e/s.base.sigma(floor), -maxZ, maxZ)
	if s.dir != 0 {
		return s.anomalous(dst, kind, now, o, z)
	}
	suspicious := max(s.up.sum, s.down.sum) > suspicion
	if kind == Traffic && !suspicious && !s.base.steady() {
		s.up, s.down = cusum{}, cusum{}
		s.base.follow(kind, o.x, o.weight, e, floor, 1)
		return dst
	}

	s.up.add(z-slack, o.seen, o.weight)
	s.down.add(-z-slack, o.seen, o.weight)
	switch {
	case s.up.sum >= threshold:
		return s.begin(dst, kind, now, 1, s.up)
	case s.down.sum >= threshold && kind == FailureRatio:
		*s = series{} // learn the improvement
		return dst
	case s.down.sum >= threshold:
		return s.begin(dst, kind, now, -1, s.down)
	}
	part := 1.0
	if suspicious {
		part = 0.25
	}
	s.base.follow(kind, o.x, o.weight, e, floor, part)
	return dst
}

// idle adds n steps without information.
func (s *series) idle(dst []Change, kind Kind, now time.Time, n int) []Change {
	s.silent = min(forget, s.silent+int32(n))
	if s.dir != 0 {
		return s.aged(dst, kind, now, n)
	}
	if kind == Traffic && s.silent >= pause {
		*s = series{silent: s.silent}
	}
	return dst
}

// counts adds the calls of a step of traffic, and reports whether they are an observation.
// Steps before the first call and steps of an idle endpoint are none.
func (s *series) counts(calls float64) bool {
	if calls > 0 {
		s.silent = 0
		return true
	}
	if s.dir == 0 && (s.base.steps == 0 || s.silent+1 >= pause) {
		return false
	}
	s.silent = min(forget, s.silent+1)
	return true
}

func (s *series) begin(dst []Change, kind Kind, now time.Time, dir int8, since cusum) []Change {
	s.up, s.down, s.back = cusum{}, cusum{}, cusum{}
	s.dir, s.age, s.during = dir, 0, since
	s.base.last = 0
	return append(dst, s.change(kind, now, true, false))
}

// anomalous adds one step during an anomaly.
func (s *series) anomalous(dst []Change, kind Kind, now time.Time, o observation, z float64) []Change {
	before := s.back
	s.back.add(min(slack-float64(s.dir)*z, 2*slack), o.seen, o.weight)
	if s.back.sum <= 0 {
		s.during.note(before.seen, before.weight)
		s.during.note(o.seen, o.weight)
	}
	if s.back.sum >= quiet {
		dst = append(dst, s.change(kind, now, false, false))
		s.dir, s.back, s.during = 0, cusum{}, cusum{}
		return dst
	}
	return s.aged(dst, kind, now, 1)
}

// aged makes the anomaly n steps older, and ends it if it has become normal.
func (s *series) aged(dst []Change, kind Kind, now time.Time, n int) []Change {
	s.age += int32(n)
	if s.age < forget {
		return dst
	}
	dst = append(dst, s.change(kind, now, false, true))
	*s = series{silent: s.silent}
	return dst
}

func (s *series) change(kind Kind, now time.Time, began, settled bool) Change {
	expected, seen := s.base.mean, s.during.seen
	switch kind {
	case Latency:
		expected, seen = math.Exp(expected), math.Exp(seen)
	case Traffic:
		expected = unanscombe(expected) / Step.Seconds()
	}
	return Change{Kind: kind, Began: began, Settled: settled, Expected: expected, Seen: seen, At: now}
}
