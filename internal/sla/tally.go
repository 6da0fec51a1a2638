package sla

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"
)

// maxMoves is the number of failover destinations that a step keeps apart. Destination 0
// counts all others.
const maxMoves = 8

// move counts calls that failed over to one endpoint.
type move struct {
	to uint64 // number of the endpoint's name; 0 stands for all others
	n  uint64
}

// tally holds the counts of one step, or of all steps of a range.
type tally struct {
	Counts
	moves   []move
	latency latencies
}

func (t *tally) reset() {
	t.Counts = Counts{}
	t.moves = t.moves[:0]
	t.latency.reset()
}

// clone returns a copy that shares nothing with t.
func (t *tally) clone() tally {
	c := *t
	c.moves = slices.Clone(t.moves)
	return c
}

func (t *tally) empty() bool {
	return t.Calls == 0 && t.Cancelled == 0 && t.Down == 0 && len(t.moves) == 0
}

func (t *tally) record(o Outcome) {
	switch {
	case o.Kind == Success:
		t.Calls++
		if o.Latency > 0 {
			t.latency.record(o.Latency)
		}
	case o.Kind.Failed():
		t.Calls++
		t.Failures[o.Kind-Dial]++
	case o.Kind == Cancelled:
		t.Cancelled++
	}
}

// addMoves counts n failovers to an endpoint. It keeps at most limit destinations and one
// for all others.
func (t *tally) addMoves(to, n uint64, limit int) {
	for i := range t.moves {
		if t.moves[i].to == to {
			t.moves[i].n += n
			return
		}
	}
	if to != 0 && len(t.moves) >= limit {
		t.addMoves(0, n, limit)
		return
	}
	t.moves = append(t.moves, move{to, n})
}

// merge adds the counts of o, except its time down.
func (t *tally) merge(o *tally) {
	t.Calls += o.Calls
	t.Cancelled += o.Cancelled
	for i, n := range o.Failures {
		t.Failures[i] += n
	}
	for _, m := range o.moves {
		t.addMoves(m.to, m.n, maxMoves)
	}
	t.latency.merge(&o.latency)
}

// A step is encoded as varints: flags, calls, one value for each flag in this order, then
// the sketch up to the end. The lowest firstKinds bits are the kinds of failure that the
// format had at first, and the bits after the following flags are the later kinds:
const (
	firstKinds   = int(AllDown)
	hasCancelled = 1 << (firstKinds + iota - 1)
	hasDown      // in ms
	hasMoves     // their number, then each destination and its count
	hasSketch    // see appendSketch
	allFlags     = 1<<(failureKinds+4) - 1
)

// flagOf is the bit of a kind of failure, which is counted from Dial.
func flagOf(i int) uint64 {
	if i < firstKinds {
		return 1 << i
	}
	return 1 << (i + 4)
}

// maxCount is the largest count in a step. Sums over all steps of many histories stay far
// below overflow.
const maxCount = 1 << 40

// maxHead is the largest size of a step without its sketch.
const maxHead = 3 + 6*(failureKinds+3) + 1 + (maxMoves+1)*(3+6)

// encode appends the encoded step to dst. Its sketch takes at most room bytes.
func (t *tally) encode(dst []byte, room int) []byte {
	var flags uint64
	for i, n := range t.Failures {
		if n > 0 {
			flags |= flagOf(i)
		}
	}
	if t.Cancelled > 0 {
		flags |= hasCancelled
	}
	if t.Down >= time.Millisecond {
		flags |= hasDown
	}
	if len(t.moves) > 0 {
		flags |= hasMoves
	}
	if t.latency.lo < t.latency.hi {
		flags |= hasSketch
	}
	dst = binary.AppendUvarint(dst, flags)
	dst = binary.AppendUvarint(dst, t.Calls)
	for _, n := range t.Failures[:firstKinds] {
		if n > 0 {
			dst = binary.AppendUvarint(dst, n)
		}
	}
	if flags&hasCancelled != 0 {
		dst = binary.AppendUvarint(dst, t.Cancelled)
	}
	if flags&hasDown != 0 {
		dst = binary.AppendUvarint(dst, uint64(t.Down.Milliseconds()))
	}
	if flags&hasMoves != 0 {
		dst = binary.AppendUvarint(dst, uint64(len(t.moves)))
		for _, m := range t.moves {
			dst = binary.AppendUvarint(dst, m.to)
			dst = binary.AppendUvarint(dst, m.n)
		}
	}
	for _, n := range t.Failures[firstKinds:] {
		if n > 0 {
			dst = binary.AppendUvarint(dst, n)
		}
	}
	if flags&hasSketch != 0 {
		dst = t.latency.appendSketch(dst, room)
	}
	return dst
}

// appendSketch appends a shift, the index of the first group, and the count of each group
// of 2^shift bins. After a count of 0 comes the number of further zeros. The shift is the
// smallest that fits in room bytes. This is a uniform collapse (UDDSketch, Epicoco et al.
// 2020): all quantiles lose some accuracy, and none loses all of it.
func (l *latencies) appendSketch(dst []byte, room int) []byte {
	start := len(dst)
	for shift := 0; ; shift++ {
		dst = append(dst[:start], byte(shift))
		dst = binary.AppendUvarint(dst, uint64(l.lo>>shift))
		zeros := 0
		for g := l.lo >> shift; g<<shift < l.hi && len(dst)-start <= room; g++ {
			var n uint64
			for _, c := range l.bins[g<<shift : min((g+1)<<shift, numBins)] {
				n += c
			}
			if n == 0 {
				zeros++
				continue
			}
			if zeros > 0 {
				dst = binary.AppendUvarint(append(dst, 0), uint64(zeros-1))
				zeros = 0
			}
			dst = binary.AppendUvarint(dst, n)
		}
		if len(dst)-start <= room {
			return dst
		}
	}
}

var errStep = errors.New("malformed step")

// add adds an encoded step, with its latencies if sketch is set. names maps its failover
// destinations; nil keeps them. A malformed step returns an error and leaves t undefined.
func (t *tally) add(step []byte, names []uint64, sketch bool) error {
	r := reader{b: step}
	flags, calls := r.uvarint(), r.count()
	if flags > allFlags {
		return errStep
	}
	t.Calls += calls
	failed := t.addFailures(&r, flags, 0, firstKinds)
	if flags&hasCancelled != 0 {
		t.Cancelled += r.count()
	}
	if flags&hasDown != 0 {
		ms := r.uvarint()
		if ms > uint64(time.Hour/time.Millisecond) {
			return errStep
		}
		t.Down += time.Duration(ms) * time.Millisecond
	}
	if flags&hasMoves != 0 {
		n, named := r.uvarint(), 0
		if n > maxMoves+1 {
			return errStep
		}
		for range n {
			to, calls := r.uvarint(), r.count()
			if to != 0 {
				named++
			}
			if to > maxNames || named > maxMoves {
				return errStep
			}
			if names != nil {
				if to >= uint64(len(names)) {
					return errStep
				}
				to = names[to]
			}
			t.addMoves(to, calls, maxNames)
		}
	}
	failed += t.addFailures(&r, flags, firstKinds, failureKinds)
	if r.bad || failed > calls {
		return errStep
	}
	if flags&hasSketch == 0 {
		if len(r.b) > 0 {
			return errStep
		}
		return nil
	}
	if !sketch {
		return nil
	}
	return t.latency.addSketch(r.b, calls-failed)
}

// addFailures adds the counts of the kinds of failure from..to-1, and returns their sum.
func (t *tally) addFailures(r *reader, flags uint64, from, to int) (sum uint64) {
	for i := from; i < to; i++ {
		if flags&flagOf(i) != 0 {
			n := r.count()
			t.Failures[i] += n
			sum += n
		}
	}
	return sum
}

// addSketch adds encoded bins. Their counts must add up to at most limit. It splits the
// count of a group evenly among its bins.
func (l *latencies) addSketch(b []byte, limit uint64) error {
	r := reader{b: b}
	shift := uint(r.byte())
	first := r.uvarint()
	if r.bad || shift > 8 || first > numBins>>shift || len(r.b) == 0 {
		return errStep
	}
	i, width := int(first)<<shift, 1<<shift
	lo, hi := i, i
	for len(r.b) > 0 {
		n := r.uvarint()
		if n == 0 {
			zeros := r.uvarint()
			if r.bad || zeros >= numBins {
				return errStep
			}
			i += (int(zeros) + 1) * width
			continue
		}
		if i >= numBins || n > limit {
			return errStep
		}
		limit -= n
		hi = min(i+width, numBins)
		if shift == 0 {
			l.bins[i] += n
		} else {
			parts := uint64(hi - i)
			for j := i; j < hi; j++ {
				part := n / parts
				l.bins[j] += part
				n, parts = n-part, parts-1
			}
		}
		i += width
	}
	if r.bad || lo == hi {
		return errStep
	}
	if l.lo == l.hi {
		l.lo, l.hi = lo, hi
	} else {
		l.lo, l.hi = min(l.lo, lo), max(l.hi, hi)
	}
	return nil
}
