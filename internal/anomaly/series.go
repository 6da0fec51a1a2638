package anomaly

import (
	"math"
	"time"
)

// series is one series of an endpoint. Its states:
//
//	learning  the baseline is not ready: nothing is judged
//	normal    dir = 0: judged, and the baseline follows
//	anomalous dir = 1 (above) or -1 (below): the baseline stands still
//
//	learning  → normal     after Warmup observations
//	normal    → anomalous  a sum reaches the threshold
//	anomalous → normal     the series is back: the sum back reaches quiet
//	anomalous → learning   it lasted forget steps
//	normal    → learning   idle for forget steps; the failure ratio fell; traffic
//	                       idle for pause steps
type series struct {
	base     baseline
	up, down cusum
	back     cusum // while anomalous
	during   cusum // while anomalous: what was seen, without what is in back
	age      int32 // of the anomaly, in steps
	silent   int32 // steps without information; of traffic, without calls
	dir      int8
}

// observation is what one step says about a series.
type observation struct {
	x      float64 // in the scale that the baseline is kept in
	weight float64 // how many calls x is a mean of
	seen   float64 // in the scale that means are reported from: ln(seconds), ratio, calls per second
}

// observe takes one step.
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
		*s = series{} // better than it was
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

// idle takes n steps that say nothing.
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

// counts takes the calls of a step of traffic, and reports whether they are an
// observation: steps before the first call are not, nor is being idle.
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

// anomalous takes one step while an anomaly is on.
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
