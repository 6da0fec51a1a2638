package anomaly

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"
	"time"
	"unsafe"
)

// story lists the kind of each change and whether the anomaly began, ended or settled.
func story(got []Change) []string {
	s := []string{}
	for _, c := range got {
		switch {
		case c.Began:
			s = append(s, c.Kind.String()+" begins")
		case c.Settled:
			s = append(s, c.Kind.String()+" settles")
		default:
			s = append(s, c.Kind.String()+" ends")
		}
	}
	return s
}

func expect(t *testing.T, what string, got []Change, want ...string) {
	t.Helper()
	if s := story(got); !slices.Equal(s, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// near reports whether the values of c are within 15 % of expected and seen.
func near(c Change, expected, seen float64) bool {
	close := func(a, b float64) bool { return math.Abs(a-b) <= 0.15*b+1e-9 }
	return close(c.Expected, expected) && close(c.Seen, seen)
}

// isOn reports whether an anomaly of kind k has started and not ended.
func isOn(d *Detector, k Kind) bool {
	if k == Flapping {
		return d.flaps.on
	}
	return int(k) < kinds && d.series[k].dir != 0
}

var usual = load{rate: 10, failures: 0.02, median: 0.5, sigma: llm}

func TestBeginsAndEndsOnce(t *testing.T) {
	tests := []struct {
		kind           Kind
		change         func(*load)
		expected, seen float64
	}{
		{Latency, func(l *load) { l.median = 1 }, 0.5, 1},
		{Latency, func(l *load) { l.median = 0.05 }, 0.5, 0.05},
		{FailureRatio, func(l *load) { l.failures = 0.5 }, 0.02, 0.5},
		{Traffic, func(l *load) { l.rate = 0 }, 10, 0},
		{Traffic, func(l *load) { l.rate = 100 }, 10, 100},
	}
	for i, tt := range tests {
		w := newWorld(uint64(i))
		w.run(2*time.Hour, usual)
		expect(t, "before", w.take())
		other := usual
		tt.change(&other)
		w.run(20*minute, other)
		if !isOn(&w.d, tt.kind) {
			t.Errorf("%v: not on while it lasts", tt.kind)
		}
		back := w.now
		w.run(2*time.Hour, usual)
		got := w.take()
		expect(t, "during and after", got, tt.kind.String()+" begins", tt.kind.String()+" ends")
		if len(got) != 2 || isOn(&w.d, tt.kind) {
			continue
		}
		expected := tt.expected
		if tt.kind == FailureRatio { // 2 % of 6,000 calls: known to 18 % (2 sigma)
			expected = got[0].Expected
			if expected < 0.01 || expected > 0.03 {
				t.Errorf("%v: expected %v, want about %v", tt.kind, expected, tt.expected)
			}
		}
		if c := got[1]; !near(c, expected, tt.seen) {
			t.Errorf("%v: ended with %+v, want %v and %v", tt.kind, c, expected, tt.seen)
		}
		if took := got[1].At.Sub(back); took < minute/2 || took > 3*minute {
			t.Errorf("%v: ended %v after it was over", tt.kind, took)
		}
	}
}

func TestLastingChangeSettles(t *testing.T) {
	w := newWorld(1)
	w.run(time.Hour, usual)
	other := usual
	other.median, other.failures = 2, 0.3
	w.run(5*time.Hour, other)
	got := w.take()
	slices.SortFunc(got, func(a, b Change) int { return int(a.Kind) - int(b.Kind) })
	expect(t, "worse for 5 hours", got, "latency begins", "latency settles", "failure_ratio begins", "failure_ratio settles")
	for i := 0; i+1 < len(got); i += 2 {
		if d := got[i+1].At.Sub(got[i].At); d != forget*Step {
			t.Errorf("%v settled after %v", got[i].Kind, d)
		}
	}

	other.failures = 0.02
	w.run(5*time.Hour, other)
	expect(t, "fewer failures", w.take())
	other.failures = 0.3
	w.run(10*minute, other)
	expect(t, "improvement was learnt", w.take(), "failure_ratio begins")
}

func TestWarmupSurvivesColdStart(t *testing.T) {
	w := newWorld(1)
	cold := usual
	cold.median, cold.failures, cold.rate = 10, 0.8, 1
	w.run(2*minute, cold)
	w.run(30*minute, usual)
	expect(t, "after a cold start", w.take())
	w.run(5*minute, cold)
	got := story(w.take())
	slices.Sort(got)
	if want := []string{"failure_ratio begins", "latency begins", "traffic begins"}; !slices.Equal(got, want) {
		t.Errorf("as bad again: %v, want %v", got, want)
	}
}

func TestGaps(t *testing.T) {
	none := load{}
	for _, rate := range []float64{0.02, 0.1, 10, 200} {
		l := usual
		l.rate = rate
		steady := rate >= 1
		drop := func(want ...string) []string {
			if !steady {
				return nil
			}
			return want
		}

		w := newWorld(1)
		w.run(6*time.Hour, l)
		w.run(30*minute, none)
		w.run(2*time.Hour, l)
		expect(t, "half an hour without calls", w.take(), drop("traffic begins", "traffic ends")...)
		w.run(8*time.Hour, none)
		expect(t, "a night without calls", w.take(), drop("traffic begins", "traffic settles")...)
		l.rate, l.median = 3*rate, 1
		w.run(6*time.Hour, l)
		expect(t, "back after the night, different", w.take())
		w.now = w.now.Add(20 * time.Hour)
		l.rate, l.median = rate, 0.2
		w.run(6*time.Hour, l)
		expect(t, "back after 20 hours without Add", w.take())
		w.now = w.now.Add(-time.Hour)
		w.run(time.Hour, l)
		expect(t, "clock back by an hour", w.take())
		for range 100 {
			w.run(minute, l)
			w.now = w.now.Add(time.Duration(w.r.IntN(60)-30) * time.Second)
		}
		expect(t, "clock jumping about", w.take())
		w.now = time.Time{}
		w.run(minute, l)
		w.now = start.AddDate(500, 0, 0)
		w.run(time.Hour, l)
		expect(t, "year 1, then 2525", w.take())
	}
}

func TestGapEndsAnomaly(t *testing.T) {
	w := newWorld(1)
	w.run(time.Hour, usual)
	slow := usual
	slow.median = 5
	w.run(10*minute, slow)
	expect(t, "slow", w.take(), "latency begins")
	w.now = w.now.Add(2 * time.Hour)
	w.run(time.Hour, slow)
	expect(t, "a gap longer than what is remembered", w.take(), "latency settles")
}

// TestFailover moves traffic to another endpoint. Fewer or more calls change how precisely
// latency and failures are known, and must not raise an alarm.
func TestFailover(t *testing.T) {
	for i, rates := range [][2]float64{{1, 200}, {200, 1}, {10, 200}, {0.1, 100}} {
		for seed := range uint64(10) {
			w := newWorld(100*uint64(i) + seed)
			ar := 0.0
			wobble := func(l load, _ time.Duration) load { // shared by all calls of a step
				ar = 0.5*ar + math.Sqrt(0.75)*w.r.NormFloat64()
				l.median *= math.Exp(0.2 * ar)
				return l
			}
			l := usual
			l.rate = rates[0]
			w.run(12*time.Hour, l, wobble)
			l.rate = rates[1]
			w.run(4*time.Hour, l, wobble)
			if n := began(w.take()); n[Latency] > 0 || n[FailureRatio] > 0 {
				t.Errorf("%v rps, seed %d: %v alarms (latency, failure ratio, traffic)", rates, seed, n)
			}
		}
	}
}

func TestNonsenseIsIgnored(t *testing.T) {
	w := newWorld(1)
	w.run(time.Hour, usual)
	for i := range 100 {
		s := w.sample(usual)
		s.LogLatency = []float64{math.NaN(), math.Inf(1), math.Inf(-1)}[i%3]
		w.add(s)
		s = w.sample(usual)
		s.LatencyCount = -s.LatencyCount
		w.add(s)
	}
	w.run(time.Hour, usual)
	expect(t, "latency that is none", w.take())
	for range 20 {
		w.add(Sample{Calls: -5, Failures: -7, LatencyCount: -1})
	}
	expect(t, "negative calls are none", w.take(), "traffic begins")
	w.run(minute, usual)
	w.take()
	for range 20 {
		w.add(Sample{Calls: 100, Failures: 1000})
	}
	got := w.take()
	expect(t, "more failures than calls", got, "failure_ratio begins")
	if len(got) == 1 && got[0].Seen != 1 {
		t.Errorf("seen %v, want 1", got[0].Seen)
	}
}

func TestKindString(t *testing.T) {
	for k, want := range []string{"latency", "failure_ratio", "traffic", "flapping", "Kind(4)"} {
		if got := Kind(k).String(); got != want {
			t.Errorf("Kind %d: %q, want %q", k, got, want)
		}
	}
}

// TestSize checks the size that the package comment states.
func TestSize(t *testing.T) {
	if got := unsafe.Sizeof(Detector{}); got != 1088 {
		t.Errorf("a Detector is %d bytes", got)
	}
}

func TestAddDoesNotAllocate(t *testing.T) {
	w := newWorld(1)
	w.got = make([]Change, 0, 1000)
	w.run(time.Hour, usual)
	if n := testing.AllocsPerRun(1000, func() { w.run(Step, usual) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzDetector checks for any input that output values are finite and in range, and that
// starts and ends of each kind alternate.
func FuzzDetector(f *testing.F) {
	calm := make([]byte, 0, 1200)
	for i := range 100 {
		calm = append(calm, 0, 0, 100, 2, 100, byte(i%3), 0, 0)
	}
	for range 20 {
		calm = append(calm, 0, 0, 0, 0, 0, 0, 0, 0)
	}
	for range 30 {
		calm = append(calm, 0, 0, 100, 90, 100, 60, 0, 0)
	}
	f.Add(calm)
	f.Add([]byte{1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add(append(slices.Clone(calm), 5, 200, 255, 255, 255, 255, 255, 255, 6, 7, 4, 3, 3, 3, 3, 3))
	f.Fuzz(func(t *testing.T, data []byte) {
		var d Detector
		var on [kinds + 1]bool
		var got []Change
		now := start
		check := func() {
			for _, c := range got {
				if c.Began == on[c.Kind] {
					t.Fatalf("%+v, but on is %v", c, on[c.Kind])
				}
				on[c.Kind] = c.Began
				for _, v := range []float64{c.Expected, c.Seen} {
					if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 || c.Kind == FailureRatio && v > 1 {
						t.Fatalf("%+v", c)
					}
				}
				if !c.At.Equal(now) || c.Settled && c.Began {
					t.Fatalf("%+v at %v", c, now)
				}
			}
			for k := range on {
				if isOn(&d, Kind(k)) != on[k] {
					t.Fatalf("On(%v) is %v", Kind(k), !on[k])
				}
			}
			if d.Flapping(now) && !on[Flapping] {
				t.Fatal("flapping before it began")
			}
		}
		for len(data) >= 8 {
			op, b := data[0], data[:8]
			data = data[8:]
			s := Sample{Calls: int(b[2]), Failures: int(b[3]), LatencyCount: int(b[4]), LogLatency: float64(int8(b[5])) / 8}
			step, repeat := Step, 1
			switch op % 8 {
			case 1:
				now = now.Add(time.Duration(b[1]) * time.Second)
				got = d.StateChanged(got[:0], now)
				check()
				continue
			case 2:
				repeat = int(b[1])
			case 3:
				step = time.Duration(int8(b[1])) * time.Minute
			case 4:
				s.LogLatency = []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64}[b[1]%4]
			case 5:
				s.Calls <<= b[1] % 64
				s.LatencyCount <<= b[6] % 64
				s.Failures <<= b[7] % 64
			case 6:
				step = time.Duration(binary.LittleEndian.Uint64(b))
			case 7:
				s.Calls, s.Failures = -s.Calls, s.Failures-128
			}
			for range repeat {
				now = now.Add(step)
				got = d.Add(got[:0], now, s)
				check()
			}
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	w := newWorld(1)
	samples := make([]Sample, 1024)
	for i := range samples {
		samples[i] = w.sample(usual)
	}
	var d Detector
	got := make([]Change, 0, 4)
	now := start
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		now = now.Add(Step)
		got = d.Add(got[:0], now, samples[i%len(samples)])
	}
}
