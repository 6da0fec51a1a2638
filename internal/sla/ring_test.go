package sla

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/DataDog/sketches-go/ddsketch/store"
)

// TestQuantiles compares quantiles with those of ddsketch and with exact ones.
func TestQuantiles(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var l latencies
	sketch := ddsketch.NewDDSketch(binMapping, store.NewDenseStore(), store.NewDenseStore())
	var all []float64
	for range 20000 {
		d := time.Duration(math.Exp(r.NormFloat64()*1.2-1) * float64(time.Second))
		d = min(max(d, time.Millisecond), time.Hour)
		l.record(d)
		if err := sketch.Add(d.Seconds()); err != nil {
			t.Fatal(err)
		}
		all = append(all, d.Seconds())
	}
	slices.Sort(all)
	qs := []float64{0, 0.01, 0.5, 0.9, 0.95, 0.99, 1}
	theirs, err := sketch.GetValuesAtQuantiles(qs)
	if err != nil {
		t.Fatal(err)
	}
	for i, got := range l.quantiles(qs...) {
		if math.Abs(got.Seconds()-theirs[i]) > 1e-9 {
			t.Errorf("q %v: %v, ddsketch says %v", qs[i], got.Seconds(), theirs[i])
		}
		exact := all[int(qs[i]*float64(len(all)-1))]
		if off := math.Abs(got.Seconds()-exact) / exact; off > accuracy+1e-9 {
			t.Errorf("q %v: %v, exact %v, off by %.2f %%", qs[i], got.Seconds(), exact, 100*off)
		}
	}
	if got := new(latencies).quantiles(0.5); got[0] != 0 {
		t.Errorf("empty: %v", got)
	}
}

func TestBinOf(t *testing.T) {
	for _, tt := range []struct {
		d    time.Duration
		want int
	}{{1, 0}, {100 * time.Microsecond, 0}, {math.MaxInt64, numBins - 1}, {time.Second, -firstBin}} {
		if got := binOf(tt.d); got != tt.want {
			t.Errorf("binOf(%v) = %d, want %d", tt.d, got, tt.want)
		}
	}
	if high := binMapping.LowerBound(firstBin + numBins - 1); high < 3600 {
		t.Errorf("the last bin begins at %v s, want an hour or more", high)
	}
}

func TestSlower(t *testing.T) {
	var l latencies
	for _, ms := range []int{1, 10, 100, 1000, 10000} {
		l.record(time.Duration(ms) * time.Millisecond)
	}
	for _, tt := range []struct {
		target time.Duration
		want   uint64
	}{{500 * time.Microsecond, 5}, {50 * time.Millisecond, 3}, {5 * time.Second, 1}, {time.Minute, 0}} {
		if got := l.slower(tt.target); got != tt.want {
			t.Errorf("slower than %v: %d, want %d", tt.target, got, tt.want)
		}
	}
}

func TestStepEncoding(t *testing.T) {
	step := func(fill func(*tally)) tally {
		var s tally
		fill(&s)
		return s
	}
	tests := []struct {
		name string
		t    tally
		size int // largest size
	}{
		{"empty", tally{}, 2},
		{"one success", step(func(s *tally) { s.record(ok(time.Second)) }), 7},
		{"failures", step(func(s *tally) {
			for k := range Cancelled + 1 {
				for range k {
					s.record(fail(k))
				}
			}
		}), 20},
		{"down", tally{Counts: Counts{Down: 10 * time.Second}}, 5},
		{"moves", tally{moves: []move{{1, 5}, {0, 1 << 30}}}, 12},
		{"gaps", step(func(s *tally) { s.record(ok(time.Millisecond)); s.record(ok(time.Minute)); s.record(ok(1)) }), 16},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := tt.t.encode(nil, 144)
			if len(b) > tt.size {
				t.Errorf("%d bytes, want %d at most", len(b), tt.size)
			}
			var got tally
			if err := got.add(b, nil, true); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tt.t) {
				t.Errorf("came back as %+v, was %+v", got.Counts, tt.t.Counts)
			}
		})
	}
}

// TestSketchCollapse checks that a sketch with too little room becomes coarser and loses no
// counts.
func TestSketchCollapse(t *testing.T) {
	var full latencies
	for i := range numBins {
		full.add(i, uint64(1+i*i))
	}
	for _, room := range []int{16, 64, 144, 192, 480, 2000} {
		b := full.appendSketch(nil, room)
		if len(b) > room {
			t.Errorf("room %d: %d bytes", room, len(b))
		}
		var got latencies
		if err := got.addSketch(b, math.MaxUint64); err != nil {
			t.Fatal(err)
		}
		if got.count() != full.count() {
			t.Errorf("room %d: %d counted, want %d", room, got.count(), full.count())
		}
		factor := math.Pow((1+accuracy)/(1-accuracy), float64(int(1)<<b[0]))
		for i, q := range got.quantiles(0.05, 0.5, 0.95, 0.99) {
			want := full.quantiles(0.05, 0.5, 0.95, 0.99)[i]
			if r := q.Seconds() / want.Seconds(); r > factor || r < 1/factor {
				t.Errorf("room %d, shift %d: quantile %d is %v, was %v", room, b[0], i, q, want)
			}
		}
	}
}

// indices returns the indices of a ring's steps and the calls of each.
func indices(r *ring) map[int64]uint64 {
	m := map[int64]uint64{}
	for index, step := range r.all(0, forever) {
		var t tally
		if t.add(step, nil, true) != nil {
			return nil
		}
		m[index] += t.Calls
	}
	return m
}

func calls(n uint64) *tally { return &tally{Counts: Counts{Calls: n}} }

func TestRing(t *testing.T) {
	l := &level{step: 10, keep: 11, block: 3, room: 144}
	var r ring
	if r.last() != -1 {
		t.Errorf("last of an empty ring is %d", r.last())
	}
	want := map[int64]uint64{}
	for i := int64(1); i <= 40; i++ {
		r.append(l, i*i, calls(uint64(i)))
		r.append(l, i*i, calls(100)) // the same step again, as after a restart
		want[i*i] = uint64(i) + 100
		if n := len(indices(&r)); n != r.steps || n > l.keep+2*l.block || (i > 11 && n < l.keep) {
			t.Fatalf("%d steps, said to be %d", n, r.steps)
		}
	}
	for index, n := range indices(&r) {
		if want[index] != n {
			t.Errorf("step %d: %d calls, want %d", index, n, want[index])
		}
	}
	if got := r.last(); got != 1600 {
		t.Errorf("last %d, want 1600", got)
	}

	copied := r.clone()
	before := indices(&copied)
	r.append(l, 1600, calls(1000))
	r.append(l, 2000, calls(1))
	r.cut(39 * 39)
	r.append(l, 39*39, calls(7))
	if after := indices(&copied); !reflect.DeepEqual(after, before) {
		t.Errorf("a copy changed from %v to %v", before, after)
	}
	if got := indices(&r); got[39*39] != 7 || got[38*38] != 138 || got[1600] != 0 || r.steps != len(got) {
		t.Errorf("after the cut: %v", got)
	}
	r.cut(0)
	if !reflect.DeepEqual(r.steps, 0) || len(indices(&r)) != 0 {
		t.Errorf("after cutting all: %v", indices(&r))
	}
}

func TestRingRange(t *testing.T) {
	var r ring
	for i := range int64(100) {
		r.append(&levels[hours], 2*i, calls(1))
	}
	for _, tt := range []struct{ from, to, want int64 }{{0, 1000, 100}, {0, 0, 0}, {10, 20, 5}, {11, 21, 5}, {198, 199, 1}, {199, 500, 0}, {20, 10, 0}, {47, 49, 1}} {
		var n int64
		for index := range r.all(tt.from, tt.to) {
			if index < tt.from || index >= tt.to {
				t.Errorf("[%d, %d): got %d", tt.from, tt.to, index)
			}
			n++
		}
		if n != tt.want {
			t.Errorf("[%d, %d): %d steps, want %d", tt.from, tt.to, n, tt.want)
		}
	}
}
