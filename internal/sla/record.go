package sla

import (
	"slices"
	"time"
)

// record is what a series recorded up to some time. It is never changed.
type record struct {
	rings     [len(levels)]ring
	incidents []Incident // by start, one that is not over last
}

// sum adds to t the steps of level l that begin in [from, to), with latencies if
// sketch is set.
func (r *record) sum(t *tally, l int, from, to time.Time, sketch bool) {
	for _, step := range r.rings[l].all(levels[l].firstAt(from), levels[l].firstAt(to)) {
		// A step that came from outside was checked when it was decoded.
		_ = t.add(step, nil, sketch)
	}
}

// part returns the steps and the ends of incidents in [since, until), both in
// hours since 1970. It shares nothing that changes with r.
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

// join returns what r and o recorded together, of which o is the later. The
// destinations of o's failovers are numbered as in names.
func (r *record) join(o *record, names []uint64) (j record) {
	for i := range levels {
		j.rings[i] = mergeRings(&levels[i], &r.rings[i], &o.rings[i], forever, names)
	}
	for _, in := range mergeIncidents(r.incidents, o.incidents) {
		j.incidents = appendIncident(j.incidents, in)
	}
	return j
}

// forever is an hour after all others.
const forever = maxMilli

// mergeRings returns the steps of a and b, without those of b after last. The
// destinations of b's failovers are numbered as in names (nil: as they are).
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
