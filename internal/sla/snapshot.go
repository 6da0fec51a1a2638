package sla

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"time"
)

// Snapshot is an immutable copy of a [History].
type Snapshot struct {
	saved        time.Time
	since, until int64 // hours covered, [since, until); until is forever if it reaches up to saved
	seq          uint64
	names        []string // names of failover destinations
	pool         record
	endpoints    map[string]record
}

// Saved returns the time of the snapshot.
func (s *Snapshot) Saved() time.Time { return s.saved }

// part returns the part of s in the hours [since, until).
func (s *Snapshot) part(since, until int64) *Snapshot {
	p := &Snapshot{saved: s.saved, since: since, until: until, seq: s.seq, names: s.names, endpoints: map[string]record{}}
	p.pool = s.pool.part(since, until)
	for name, r := range s.endpoints {
		p.endpoints[name] = r.part(since, until)
	}
	return p
}

// join returns the contents of s and o together. o must be the later one. Hours that both
// cover count twice.
func (s *Snapshot) join(o *Snapshot) *Snapshot {
	j := &Snapshot{saved: o.saved, since: s.since, until: o.until, seq: o.seq, names: slices.Clone(s.names), endpoints: map[string]record{}}
	numbers := make([]uint64, len(o.names))
	for i, name := range o.names {
		n := slices.Index(j.names, name)
		if n < 0 && len(j.names) < maxNames {
			n, j.names = len(j.names), append(j.names, name)
		}
		numbers[i] = uint64(max(n, 0))
	}
	j.pool = s.pool.join(&o.pool, numbers)
	for name, r := range s.endpoints {
		if _, both := o.endpoints[name]; !both {
			j.endpoints[name] = r
		}
	}
	for name, r := range o.endpoints {
		earlier := s.endpoints[name]
		j.endpoints[name] = earlier.join(&r, numbers)
	}
	return j
}

// The format is magic, version, fields, and the CRC-32C of all that in 4 bytes, little
// endian. Numbers are varints. A length precedes each text and the steps of each level. The
// size of the input bounds all memory that decoding takes.
const (
	magic   = "CFSLA"
	version = 1

	crcSize = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrDamaged is wrapped by the errors of [Decode] for input that [Snapshot.Encode] did not
// write or that changed since.
var ErrDamaged = errors.New("damaged snapshot")

// Encode returns the snapshot in the format that [Decode] reads. Times have millisecond
// precision.
func (s *Snapshot) Encode() []byte {
	b := append([]byte(magic), version)
	b = binary.AppendUvarint(b, uint64(unixMilli(s.saved)))
	b = binary.AppendUvarint(b, uint64(s.since))
	b = binary.AppendUvarint(b, uint64(s.until))
	b = binary.AppendUvarint(b, s.seq)
	b = binary.AppendUvarint(b, uint64(len(s.names)))
	for _, name := range s.names {
		b = appendText(b, name)
	}
	b = s.pool.encode(b)
	b = binary.AppendUvarint(b, uint64(len(s.endpoints)))
	for _, name := range slices.Sorted(maps.Keys(s.endpoints)) {
		r := s.endpoints[name]
		b = r.encode(appendText(b, name))
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func (r *record) encode(b []byte) []byte {
	for i := range r.rings {
		ring := &r.rings[i]
		size := 0
		for _, block := range ring.blocks {
			size += len(block.data) + binary.MaxVarintLen64
		}
		steps := make([]byte, 0, size)
		var last int64
		for index, step := range ring.all(0, forever) {
			steps = binary.AppendUvarint(steps, uint64(index-last))
			steps = binary.AppendUvarint(steps, uint64(len(step)))
			steps = append(steps, step...)
			last = index
		}
		b = append(binary.AppendUvarint(b, uint64(len(steps))), steps...)
	}
	b = binary.AppendUvarint(b, uint64(len(r.incidents)))
	for _, in := range r.incidents {
		b = binary.AppendUvarint(b, uint64(unixMilli(in.Start)))
		end := uint64(0) // 0 if open, else 1 + its duration in ms
		if !in.End.IsZero() {
			end = 1 + uint64(max(0, unixMilli(in.End)-unixMilli(in.Start)))
		}
		b = binary.AppendUvarint(b, end)
		b = appendText(b, in.Cause)
		b = binary.AppendUvarint(b, in.Calls)
	}
	return b
}

// Decode reads the output of [Snapshot.Encode]. The snapshot does not refer to b. Errors
// wrap [ErrDamaged].
func Decode(b []byte) (*Snapshot, error) {
	body := len(b) - crcSize
	switch {
	case body < len(magic)+1 || string(b[:len(magic)]) != magic:
		return nil, fmt.Errorf("decoding history: %w: no %s header", ErrDamaged, magic)
	case b[len(magic)] != version:
		return nil, fmt.Errorf("decoding history: %w: version %d, want %d", ErrDamaged, b[len(magic)], version)
	case binary.LittleEndian.Uint32(b[body:]) != crc32.Checksum(b[:body], castagnoli):
		return nil, fmt.Errorf("decoding history: %w: checksum does not match", ErrDamaged)
	}
	r := reader{b: b[len(magic)+1 : body]}
	s := r.snapshot()
	if r.bad || len(r.b) > 0 {
		return nil, fmt.Errorf("decoding history: %w: malformed", ErrDamaged)
	}
	return s, nil
}

func (r *reader) snapshot() *Snapshot {
	s := &Snapshot{saved: r.time(), since: r.hour(), until: r.hour(), seq: r.uvarint(), endpoints: map[string]record{}}
	n := r.uvarint()
	if n == 0 || n > maxNames {
		r.fail()
	}
	for i := uint64(0); i < n && !r.bad; i++ {
		s.names = append(s.names, r.text())
	}
	s.pool = r.record(n)
	n = r.uvarint()
	if n > maxEndpoints {
		r.fail()
	}
	for i := uint64(0); i < n && !r.bad; i++ {
		name := r.text()
		if _, twice := s.endpoints[name]; twice {
			r.fail()
		}
		s.endpoints[name] = r.record(uint64(len(s.names)))
	}
	return s
}

// record reads the record of one series. Failover destinations must be below names.
func (r *reader) record(names uint64) (rec record) {
	for i := range levels {
		rec.rings[i] = r.ring(&levels[i], names)
	}
	n := r.uvarint()
	if n > maxIncidents {
		r.fail()
	}
	for i := uint64(0); i < n && !r.bad; i++ {
		in := Incident{Start: r.time()}
		if lasted := r.uvarint(); lasted > maxMilli {
			r.fail()
		} else if lasted > 0 {
			in.End = milliTime(min(unixMilli(in.Start)+int64(lasted-1), maxMilli))
		} else if i != n-1 {
			r.fail() // only the last can be open
		}
		in.Cause = r.text()
		in.Calls = r.count()
		if len(in.Cause) > maxCause {
			r.fail()
		}
		rec.incidents = append(rec.incidents, in)
	}
	return rec
}

func (r *reader) ring(l *level, names uint64) (out ring) {
	steps := reader{b: r.bytes(r.uvarint())}
	var t tally
	index, highest := int64(0), l.indexAt(maxMilli)
	for first := true; len(steps.b) > 0; first = false {
		distance := steps.uvarint()
		step := steps.bytes(steps.uvarint())
		if steps.bad || distance > uint64(highest-index) || (distance == 0 && !first) || len(step) > maxHead+l.room {
			r.fail()
			return ring{}
		}
		index += int64(distance)
		t.reset()
		if t.add(step, nil, true) != nil || t.Down > l.duration() {
			r.fail()
			return ring{}
		}
		for _, m := range t.moves {
			if m.to >= names {
				r.fail()
				return ring{}
			}
		}
		out.appendStep(l, index, step)
	}
	return out
}

func (r *reader) text() string { return string(r.bytes(r.uvarint())) }

func (r *reader) time() time.Time {
	ms := r.uvarint()
	if ms > maxMilli {
		r.fail()
		return time.Time{}
	}
	return milliTime(int64(ms))
}

func (r *reader) hour() int64 {
	h := r.uvarint()
	if h > forever {
		r.fail()
		return 0
	}
	return int64(h)
}
