package sla

import (
	"slices"
	"time"
)

// record holds everything that a series recorded up to some time. It is immutable.
type record struct {
	rings     [len(levels)]ring
	incidents []Incident // by start; an open one comes last
}

// sum adds the steps of level l that begin in [from, to) to t, with latencies if sketch is
// set.
func (r *record) sum(t *tally, l int, from, to time.Time, sketch bool) {
	for _, step := range r.rings[l].all(levels[l].firstAt(from), levels[l].firstAt(to)) {
		// Steps from outside were checked when they were decoded.
		_ = t.add(step, nil, sketch)
	}
}

// part returns the steps in the hours [since, until) and the incidents that end in them.
// Hours count from 1970. The part shares nothing mutable with r.
func (r *record) part(since, until int64) record {
	p := record{}
	for i := range levels {
		scale := levels[hours].step / levels[i].step
		for index, step := range r.rings[i].all(since*scale, until*scale) {
			p.rings[i].appendStep(&levels[i], index, step)
		}
	}
	for _, in := range r.incidents {
		end := int64(forever)
		if !in.End.IsZero() {
			end = levels[hours].indexAt(unixMilli(in.End))
		}
		if (end >= since && end < until) || (end == forever && until == forever) {
			p.incidents = append(p.incidents, in)
		}
	}
	return p
}

// join returns the records of r and o together. o must be the later one. names maps o's
// failover destinations to r's.
func (r *record) join(o *record, names []uint64) (j record) {
	for i := range levels {
		j.rings[i] = mergeRings(&levels[i], &r.rings[i], &o.rings[i], forever, names)
	}
	for _, in := range mergeIncidents(r.incidents, o.incidents) {
		j.incidents = appendIncident(j.incidents, in)
	}
	return j
}

// forever is later than every hour.
const forever = maxMilli

// mergeRings returns the steps of a and b, without those of b after last. names maps b's
// failover destinations to a's; nil keeps them.
func mergeRings(l *level, a, b *ring, last int64, names []uint64) ring {
	type step struct {
		index int64
		data  []byte
		names []uint64
	}
	var steps []step
	for index, data := range a.all(0, forever) {
		steps = append(steps, step{index, data, nil})
	}
	for index, data := range b.all(0, last+1) {
		steps = append(steps, step{index, data, names})
	}
	slices.SortStableFunc(steps, func(x, y step) int { return int(x.index - y.index) })

	var out ring
	var t tally
	for _, s := range steps {
		if s.names == nil && s.index != out.last() {
			out.appendStep(l, s.index, s.data)
			continue
		}
		t.reset()
		if t.add(s.data, s.names, true) == nil {
			out.append(l, s.index, &t)
		}
	}
	return out
}
