package sla

import "time"

const (
	// tolerance is how far a clock may jump back, in steps of 10 s. After a longer jump,
	// time restarts at the clock's new value.
	tolerance = 60

	// maxGap is how much time without any call can count as down, in seconds: a day.
	maxGap = 24 * 3600
)

// recorder is a Series without its lock. It counts in steps of each level. Outcomes go into
// open[seconds] only. When that step is over it is added to open[minutes], which in turn is
// added to open[hours]. Each level counts its time down separately, because time down grows
// even when nothing is recorded. Copy a recorder with clone.
type recorder struct {
	open  [len(levels)]tally // open steps
	index [len(levels)]int64 // index of each open step
	rings [len(levels)]ring  // finished steps
	begun bool               // index is set

	incidents []Incident
	down      bool
	credited  [len(levels)]int64 // time up to which down time is counted, in Unix ms
	streak    uint64             // failures since the last success
}

// clone returns a copy that shares nothing mutable with r.
func (r *recorder) clone() recorder {
	c := *r
	for i := range levels {
		c.open[i] = r.open[i].clone()
		c.rings[i] = r.rings[i].clone()
	}
	c.incidents = append([]Incident(nil), r.incidents...)
	return c
}

func (r *recorder) record(now time.Time, o Outcome) {
	r.advance(unixMilli(now))
	r.open[seconds].record(o)
	switch {
	case o.Kind == Success:
		r.streak = 0
	case o.Kind.Failed():
		r.streak++
		if r.down {
			r.incidents[len(r.incidents)-1].Calls++
		}
	}
}

func (r *recorder) recordBatch(now time.Time, b *Batch) {
	r.advance(unixMilli(now))
	r.open[seconds].merge(&b.tally)
	if b.succeeded {
		r.streak = b.streak
	} else {
		r.streak += b.streak
	}
	if failed := b.tally.Failures.Total(); failed > 0 && r.down {
		r.incidents[len(r.incidents)-1].Calls += failed
	}
}

func (r *recorder) failovers(now time.Time, to, n uint64) {
	r.advance(unixMilli(now))
	r.open[seconds].addMoves(to, n, maxMoves)
}

func (r *recorder) setDown(now time.Time, down bool, cause string) {
	ms := unixMilli(now)
	r.advance(ms)
	if down == r.down {
		return
	}
	at := milliTime(ms)
	r.down = down
	if down {
		for i := range levels {
			r.credited[i] = ms
		}
		r.incidents = appendIncident(r.incidents, Incident{Start: at, Cause: clip(cause, maxCause), Calls: r.streak})
		return
	}
	for i := range levels {
		r.credit(i, ms)
	}
	last := &r.incidents[len(r.incidents)-1]
	last.End = latest(at, last.Start)
}

// credit counts the time down up to ms in the open step of level i.
func (r *recorder) credit(i int, ms int64) {
	if d := ms - r.credited[i]; d > 0 {
		r.open[i].Down = min(r.open[i].Down+time.Duration(d)*time.Millisecond, levels[i].duration())
		r.credited[i] = ms
	}
}

// advance moves time to ms and closes the steps that are over.
//
// If the clock jumped back by up to 10 minutes, outcomes count in the newest step until the
// clock has caught up. After a longer jump the earlier time was wrong, so time restarts:
// finished steps later than ms are dropped, and the open steps become those of ms.
func (r *recorder) advance(ms int64) {
	now := levels[seconds].indexAt(ms)
	if now == r.index[seconds] && r.begun {
		return
	}
	switch back := r.index[seconds] - now; {
	case !r.begun:
		r.begun = true
		r.restart(ms)
		return
	case back > tolerance:
		r.restart(ms)
		return
	case back > 0:
		return
	}
	for i := range levels {
		l := &levels[i]
		next := l.indexAt(ms)
		if next == r.index[i] {
			return
		}
		r.end(i)
		if r.down {
			r.gap(i, next)
		}
		r.index[i] = next
	}
}

// restart sets the open steps to those of ms and drops the steps after them. A finished
// step with the same index stays; closing the open step merges the two.
func (r *recorder) restart(ms int64) {
	for i := range levels {
		r.index[i] = levels[i].indexAt(ms)
		r.rings[i].cut(r.index[i] + 1)
		r.credited[i] = ms
	}
	now := milliTime(ms)
	kept := r.incidents[:0]
	for i, in := range r.incidents {
		if r.down && i == len(r.incidents)-1 && in.Start.After(now) {
			in.Start = now
		}
		if !in.Start.After(now) {
			if in.End.After(now) {
				in.End = now
			}
			kept = append(kept, in)
		}
	}
	r.incidents = kept
}

// end closes the open step of level i and leaves an empty one.
func (r *recorder) end(i int) {
	t := &r.open[i]
	if r.down {
		r.credit(i, (r.index[i]+1)*levels[i].step*1000)
	}
	if t.empty() {
		return
	}
	if i+1 < len(levels) {
		r.open[i+1].merge(t)
	}
	r.rings[i].append(&levels[i], r.index[i], t)
	t.reset()
}

// gap appends the steps between the open step of level i and next, all of them down. The
// open step must be closed. Down time counts from next on.
func (r *recorder) gap(i int, next int64) {
	l := &levels[i]
	t := tally{Counts: Counts{Down: l.duration()}}
	for index := max(r.index[i]+1, next-min(int64(l.keep), maxGap/l.step)); index < next; index++ {
		r.rings[i].append(l, index, &t)
	}
	r.credited[i] = next * l.step * 1000
}

// finish closes the open steps at ms and returns the record. Do not use the recorder
// afterwards.
func (r *recorder) finish(ms int64) record {
	if r.begun {
		r.advance(ms)
		for i := range levels {
			if r.down {
				r.credit(i, min(ms, (r.index[i]+1)*levels[i].step*1000))
			}
		}
		down := r.down
		r.down = false
		for i := range levels {
			r.end(i)
		}
		r.down = down
	}
	return record{rings: r.rings, incidents: r.incidents}
}

// restore adds what an earlier process recorded. It drops steps later than now, and ends
// open incidents at saved.
func (r *recorder) restore(now, saved time.Time, from record, names []uint64) {
	ms := unixMilli(now)
	r.advance(ms)
	for i := range levels {
		r.rings[i] = mergeRings(&levels[i], &r.rings[i], &from.rings[i], r.index[i], names)
	}
	open := r.incidents
	r.incidents = nil
	ended := make([]Incident, 0, len(from.incidents))
	for _, in := range from.incidents {
		if in.Start.After(now) {
			continue
		}
		if in.End.IsZero() {
			in.End = latest(saved, in.Start)
		}
		ended = append(ended, in)
	}
	for _, in := range mergeIncidents(ended, open) {
		r.incidents = appendIncident(r.incidents, in)
	}
}
