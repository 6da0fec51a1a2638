package sla

import (
	"maps"
	"math"
	"slices"
	"time"
)

// Step holds the counts of a step of a chart.
type Step struct {
	Start time.Time
	Counts
	P50, P95 time.Duration // latency of successes, 0 if unknown
	Timed    uint64        // successes with a known latency
	Slow     uint64        // of these, slower than the target
}

// Steps returns the counts in [from, to) in steps of the given length, oldest first and
// without steps that have no counts. Steps begin at multiples of their length in Unix time.
// It uses the coarsest records whose length divides the step's. A target of 0 leaves Slow at
// 0. The cost is about 10 µs for each record.
func (s *Series) Steps(now, from, to time.Time, step, target time.Duration) []Step {
	r := s.record(now)
	return stepsOf([]*record{&r}, now, from, to, step, target)
}

// stepsOf returns the steps of several records, added up.
func stepsOf(records []*record, now, from, to time.Time, step, target time.Duration) []Step {
	if step <= 0 {
		return nil
	}
	n := levelFor(now, from)
	for i := n + 1; i < len(levels); i++ {
		if step%levels[i].duration() == 0 {
			n = i
		}
	}
	l := &levels[n]
	scale := max(1, int64(step/time.Second)/l.step)
	tallies := make(map[int64]*tally)
	for _, r := range records {
		for index, encoded := range r.rings[n].all(l.firstAt(from), l.firstAt(to)) {
			t := tallies[index/scale]
			if t == nil {
				t = new(tally)
				tallies[index/scale] = t
			}
			_ = t.add(encoded, nil, true) // steps from outside were checked when they were decoded
		}
	}
	list := make([]Step, 0, len(tallies))
	for _, at := range slices.Sorted(maps.Keys(tallies)) {
		t := tallies[at]
		q := t.latency.quantiles(0.5, 0.95)
		one := Step{Start: l.timeOf(at * scale), Counts: t.Counts, P50: q[0], P95: q[1], Timed: t.latency.count()}
		if target > 0 {
			one.Slow = t.latency.slower(target)
		}
		list = append(list, one)
	}
	return list
}

// stepFor returns the length of at most n steps that cover a span and consist of whole
// records.
func stepFor(now, from time.Time, span time.Duration, n int) time.Duration {
	step := span / time.Duration(n)
	finest := levelFor(now, from)
	for i := len(levels) - 1; i >= finest; i-- {
		if d := levels[i].duration(); step >= d || i == finest {
			return max(d, (step+d-1)/d*d)
		}
	}
	return levels[finest].duration()
}

// BudgetPoint is what was left of the error budgets at a time. 1 is the whole budget and 0
// none; below 0 it is overspent. NaN stands for a budget without an objective.
type BudgetPoint struct {
	At                    time.Time
	Availability, Latency float64
}

// BudgetOverTime returns how the objective's window that ends at now has spent its error
// budgets, in at most n points, oldest first. The budgets are those of all events of the
// window, so the last point is what is left now. It returns nil without an objective or
// without calls.
func (o Objective) BudgetOverTime(s *Series, now time.Time, n int) []BudgetPoint {
	o = o.withDefaults()
	if o.Availability <= 0 && o.latencyRatio() <= 0 || n <= 0 {
		return nil
	}
	from := now.Add(-o.Window)
	step := stepFor(now, from, o.Window, n)
	return o.budgetOf(s.Steps(now, from, now.Add(time.Millisecond), step, o.LatencyTarget), from, now, step)
}

// budgetOf returns how steps have spent the error budgets of a range.
func (o Objective) budgetOf(steps []Step, from, to time.Time, step time.Duration) []BudgetPoint {
	var calls, timed uint64
	for i := range steps {
		calls += steps[i].Calls
		timed += steps[i].Timed
	}
	if calls == 0 {
		return nil
	}
	var failed, slow uint64
	points := make([]BudgetPoint, 0, len(steps)+1)
	points = append(points, BudgetPoint{from.UTC(), budgetLeft(o.Availability, 0, calls), budgetLeft(o.latencyRatio(), 0, timed)})
	for i := range steps {
		failed += steps[i].Failures.Total()
		slow += steps[i].Slow
		points = append(points, BudgetPoint{
			At:           earliest(steps[i].Start.Add(step), to.UTC()),
			Availability: budgetLeft(o.Availability, failed, calls),
			Latency:      budgetLeft(o.latencyRatio(), slow, timed),
		})
	}
	return points
}

// budgetLeft returns the part of an error budget that is left; NaN without an objective.
func budgetLeft(objective float64, bad, events uint64) float64 {
	if objective <= 0 {
		return math.NaN()
	}
	return attain(objective, bad, events).BudgetLeft
}
