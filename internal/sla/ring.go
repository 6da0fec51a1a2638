package sla

import (
	"encoding/binary"
	"iter"
	"slices"
	"sort"
	"time"
)

// level is one length of steps, and how many steps of that length are kept.
type level struct {
	step  int64 // in seconds
	keep  int   // smallest number of steps kept: those of span and the open one
	block int   // steps in a block
	room  int   // bytes for the sketch of one step
}

// levels are the lengths of steps, finest first. Each is a multiple of the one before.
// Steps begin at multiples of their length in Unix time, so the steps of all instances line
// up.
var levels = [...]level{
	{step: 10, keep: 1081, block: 60, room: 144},
	{step: 60, keep: 4321, block: 60, room: 192},
	{step: 3600, keep: 961, block: 24, room: 480},
}

const (
	seconds = iota // index of the level of 10 s
	minutes
	hours
)

func (l *level) span() time.Duration {
	return time.Duration(int64(l.keep-1)*l.step) * time.Second
}

func (l *level) duration() time.Duration { return time.Duration(l.step) * time.Second }

// indexAt returns the step that contains ms, in Unix milliseconds.
func (l *level) indexAt(ms int64) int64 { return ms / (l.step * 1000) }

// firstAt returns the first step that begins at t or later. The steps that begin in [a, b)
// are those from firstAt(a) to before firstAt(b), so adjacent ranges share no step.
func (l *level) firstAt(t time.Time) int64 {
	return l.indexAt(unixMilli(t) + l.step*1000 - 1)
}

func (l *level) timeOf(index int64) time.Time { return time.Unix(index*l.step, 0).UTC() }

// levelFor returns the finest level that reaches back from now to from.
func levelFor(now, from time.Time) int {
	for i := range levels {
		if now.Sub(from) <= levels[i].span() {
			return i
		}
	}
	return len(levels) - 1
}

// maxMilli keeps times and indices far from overflow. It is in the year 37648.
const maxMilli = 1 << 50

// unixMilli returns t in Unix milliseconds, clamped to [0, maxMilli].
func unixMilli(t time.Time) int64 { return min(max(t.UnixMilli(), 0), maxMilli) }

func milliTime(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// ring holds the latest non-empty steps of one level by ascending index. Steps are encoded
// in blocks, which leaves few pointers for the garbage collector. The contents of a block
// never change, so a copy of a ring can be read while the original grows. The zero value is
// empty.
type ring struct {
	blocks []block
	steps  int
}

// block is a run of steps. Each step is preceded by two varints: its distance from the step
// before it (from first, for the first step) and its size.
type block struct {
	first, last int64 // index
	steps       int
	data        []byte
}

// clone returns a copy that can be changed and read independently of r.
func (r *ring) clone() ring {
	c := ring{blocks: slices.Clone(r.blocks), steps: r.steps}
	if n := len(c.blocks); n > 0 {
		c.blocks[n-1].data = slices.Clip(c.blocks[n-1].data)
	}
	return c
}

// last returns the index of the newest step, or -1 if there is none.
func (r *ring) last() int64 {
	if n := len(r.blocks); n > 0 {
		return r.blocks[n-1].last
	}
	return -1
}

// append adds the counts of a step that is not before the newest step. If it is the newest
// step, for example after a restart, the two are merged.
func (r *ring) append(l *level, index int64, t *tally) {
	var buf [1024]byte
	if index == r.last() {
		merged := t.clone()
		if !merged.addStep(r.cutLast(), l) {
			merged = *t
		}
		r.appendStep(l, index, merged.encode(buf[:0], l.room))
		return
	}
	r.appendStep(l, index, t.encode(buf[:0], l.room))
}

// addStep merges an encoded step into t, and reports whether the sum fits in one step.
func (t *tally) addStep(step []byte, l *level) bool {
	var o tally
	if o.add(step, nil, true) != nil || t.Calls+o.Calls > maxCount || t.Cancelled+o.Cancelled > maxCount {
		return false
	}
	t.merge(&o)
	t.Down = min(t.Down+o.Down, l.duration())
	for _, m := range t.moves {
		if m.n > maxCount {
			return false
		}
	}
	return true
}

// appendStep adds an encoded step that is after the newest step.
func (r *ring) appendStep(l *level, index int64, step []byte) {
	n := len(r.blocks)
	if n == 0 || r.blocks[n-1].steps >= l.block {
		if n > 0 {
			r.blocks[n-1].data = exact(r.blocks[n-1].data)
		}
		for n > 0 && r.steps-r.blocks[0].steps >= l.keep-1 {
			r.steps -= r.blocks[0].steps
			r.blocks = slices.Delete(r.blocks, 0, 1)
			n--
		}
		r.blocks = append(r.blocks, block{first: index, last: index})
		n++
	}
	b := &r.blocks[n-1]
	b.data = binary.AppendUvarint(b.data, uint64(index-b.last))
	b.data = binary.AppendUvarint(b.data, uint64(len(step)))
	b.data = append(b.data, step...)
	b.last = index
	b.steps++
	r.steps++
}

func exact(b []byte) []byte { return append(make([]byte, 0, len(b)), b...) }

// cutLast removes the newest step and returns it.
func (r *ring) cutLast() []byte {
	var step []byte
	for _, s := range r.all(r.last(), r.last()+1) {
		step = slices.Clone(s)
	}
	r.cut(r.last())
	return step
}

// cut drops the steps from index on.
func (r *ring) cut(index int64) {
	n := sort.Search(len(r.blocks), func(i int) bool { return r.blocks[i].last >= index })
	if n == len(r.blocks) {
		return
	}
	b := r.blocks[n]
	kept := block{first: b.first, last: b.first}
	for i, size := range b.ends() {
		if i >= index {
			break
		}
		kept.last, kept.data = i, b.data[:size:size]
		kept.steps++
	}
	for _, b := range r.blocks[n:] {
		r.steps -= b.steps
	}
	clear(r.blocks[n:])
	r.blocks = r.blocks[:n]
	if kept.steps > 0 {
		r.blocks = append(r.blocks, kept)
		r.steps += kept.steps
	}
}

// ends yields the index of each step and the offset in data at which it ends.
func (b *block) ends() iter.Seq2[int64, int] {
	return func(yield func(int64, int) bool) {
		r, index := reader{b: b.data}, b.first
		for len(r.b) > 0 {
			index += int64(r.uvarint())
			r.bytes(r.uvarint())
			if !yield(index, len(b.data)-len(r.b)) {
				return
			}
		}
	}
}

// all yields the steps in [from, to) by ascending index. Do not change them.
func (r *ring) all(from, to int64) iter.Seq2[int64, []byte] {
	return func(yield func(int64, []byte) bool) {
		first := sort.Search(len(r.blocks), func(i int) bool { return r.blocks[i].last >= from })
		for _, b := range r.blocks[first:] {
			in, index := reader{b: b.data}, b.first
			for len(in.b) > 0 {
				index += int64(in.uvarint())
				step := in.bytes(in.uvarint())
				if index >= to {
					return
				}
				if index >= from && !yield(index, step) {
					return
				}
			}
		}
	}
}
