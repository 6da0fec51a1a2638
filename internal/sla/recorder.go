package sla

import "time"

const (
	// tolerance is how far a clock may jump back, in steps of 10 s, before time
	// starts again at what it shows.
	tolerance = 60

	// maxGap is how much time without any call is credited to being down: a day.
	maxGap = 24 * 3600
)

// recorder is a Series without its lock: what has happened, in steps of each
// level. Only open[seconds] is recorded into. When its step is over it is added
// to open[minutes], which is added to open[hours] in turn; time down is counted
// in each level by itself, since it goes on where nothing is recorded. Its copies
// are made by clone.
type recorder struct {
	open  [len(levels)]tally // of the steps that are not over
	index [len(levels)]int64 // of those
	rings [len(levels)]ring  // the steps that are over
	begun bool               // index is set

	incidents []Incident
	down      bool
	credited  [len(levels)]int64 // ms up to which being down is counted
	streak    uint64             // failures since the last success
}

// clone returns a copy that shares nothing that changes with r.
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
	r.open[seconds].moved(to, n, maxMoves)
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

// advance moves time to ms: it ends the steps that are over.
//
// A clock that jumped back by up to 10 minutes counts into the newest step until
// it has caught up. One that jumped back further was wrong before, so time starts
// again: steps that are over and later than that of now are dropped, and those that
// are not over become those of now.
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

// restart sets the open steps to those of ms, and drops the steps after them. One
// of the same time that is over stays so: the two are merged in the end.
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

// end ends the open step of level i, and leaves an empty one.
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

// gap adds the steps between the open one of level i and next, all of which were
// down. It ends as the first of the steps after which time down is credited.
func (r *recorder) gap(i int, next int64) {
	l := &levels[i]
	t := tally{Counts: Counts{Down: l.duration()}}
	for index := max(r.index[i]+1, next-min(int64(l.keep), maxGap/l.step)); index < next; index++ {
		r.rings[i].append(l, index, &t)
	}
	r.credited[i] = next * l.step * 1000
}

// finish ends the open steps as of ms, and returns what was recorded. The
// recorder is of no use afterwards.
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

// restore adds what an earlier process recorded. Its steps later than now are
// dropped, and an incident that was not over ends at saved.
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
