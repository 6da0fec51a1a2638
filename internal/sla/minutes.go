package sla

import "time"

// Minute holds the counts of one minute.
type Minute struct {
	Start time.Time
	Counts
	P50, P95 time.Duration // latency of successes, 0 if unknown
}

// Minutes returns the minutes that begin in [from, to) and have any counts, oldest first.
// The current minute holds its counts up to now. The cost is about 10 µs for each minute.
func (s *Series) Minutes(now, from, to time.Time) []Minute {
	r := s.record(now)
	l := &levels[minutes]
	var list []Minute
	var t tally
	for index, step := range r.rings[minutes].all(l.firstAt(from), l.firstAt(to)) {
		t.reset()
		if t.add(step, nil, true) != nil {
			continue // steps from outside were checked when they were decoded
		}
		q := t.latency.quantiles(0.5, 0.95)
		list = append(list, Minute{Start: l.timeOf(index), Counts: t.Counts, P50: q[0], P95: q[1]})
	}
	return list
}
