package anomaly

import (
	"math"
	"slices"
	"testing"
	"time"
)

// TestFalseAlarms measures how often a stationary series alarms.
func TestFalseAlarms(t *testing.T) {
	const days = 14
	var total [kinds]int
	var watched float64
	for i, rate := range []float64{1, 10, 200} {
		for j, failures := range []float64{0, 0.001, 0.02} {
			w := newWorld(uint64(100 + 10*i + j))
			w.run(days*day, load{rate: rate, failures: failures, median: 0.5, sigma: llm})
			n := began(w.take())
			watched += days
			for k := range n {
				total[k] += n[k]
				if n[k] > 1 {
					t.Errorf("%v rps, %v failing: %d false alarms of %v in %d days", rate, failures, n[k], Kind(k), days)
				}
			}
		}
	}
	for k, n := range total {
		t.Logf("%v: %d false alarms in %v days of stationary traffic at 1, 10 and 200 rps", Kind(k), n, watched)
		if float64(n)/watched > 0.1 {
			t.Errorf("%v: %d false alarms in %v days, want under 1 in 10 (asked: 1 a day)", Kind(k), n, watched)
		}
	}
}

// TestFalseAlarmsYoung watches many short lives, because a young baseline is the least
// certain. Some have steps correlated by 0.5 and 20 % wide.
func TestFalseAlarmsYoung(t *testing.T) {
	const lives, hours = 60, 2
	for i, rate := range []float64{1, 10, 200} {
		for _, correlation := range []float64{0, 0.5} {
			var total [kinds]int
			for life := range lives {
				w := newWorld(uint64(1000*i + life))
				ar := 0.0
				w.run(hours*time.Hour, load{rate: rate, failures: 0.02, median: 0.5, sigma: llm}, func(l load, _ time.Duration) load {
					if correlation == 0 {
						return l
					}
					ar = correlation*ar + math.Sqrt(1-correlation*correlation)*w.r.NormFloat64()
					l.rate *= math.Exp(0.2 * ar)
					l.median *= math.Exp(0.2 * ar)
					return l
				})
				for k, n := range began(w.take()) {
					total[k] += n
				}
			}
			t.Logf("%v rps, correlation %v: %v false alarms (latency, failure ratio, traffic) in %d lives of %d h", rate, correlation, total, lives, hours)
			for k, n := range total {
				if n > lives*hours/24/2 {
					t.Errorf("%v rps, correlation %v: %d false alarms of %v, want under 1 in 2 days", rate, correlation, n, Kind(k))
				}
			}
		}
	}
}

// TestFalseAlarmsRough adds properties of real traffic that the model lacks.
func TestFalseAlarmsRough(t *testing.T) {
	const days = 10
	l := load{rate: 10, failures: 0.001, median: 0.5, sigma: llm}
	ar := 0.0 // AR(1) noise with variance 1 and correlation 0.5
	tests := []struct {
		name string
		l    load
		// perDay is the largest allowed number of false alarms of one series in a day.
		perDay float64
		at     func(*world) func(load, time.Duration) load
	}{
		{"calls and latency correlated, 20 % and 50 %", load{rate: 200, median: 0.5, sigma: llm}, 0.5, func(w *world) func(load, time.Duration) load {
			return func(l load, _ time.Duration) load {
				ar = 0.5*ar + math.Sqrt(0.75)*w.r.NormFloat64()
				l.rate *= math.Exp(0.2 * ar)
				l.median *= math.Exp(0.5 * ar)
				return l
			}
		}},
		{"a tenth of the steps empty, a tenth double", l, 0.5, func(w *world) func(load, time.Duration) load {
			return func(l load, _ time.Duration) load {
				l.rate *= []float64{0, 2, 1, 1, 1, 1, 1, 1, 1, 1}[w.r.IntN(10)]
				return l
			}
		}},
		{"batches: 50 calls in one step of twenty, else none", load{median: 0.5, sigma: llm}, 0.5, func(w *world) func(load, time.Duration) load {
			return func(l load, _ time.Duration) load {
				if w.r.IntN(20) == 0 {
					l.rate = 5
				}
				return l
			}
		}},
		{"a call a minute, two modes of latency", load{rate: 1. / 60, failures: 0.02, median: 0.005}, 0.5, func(w *world) func(load, time.Duration) load {
			return func(l load, _ time.Duration) load {
				if w.r.IntN(10) == 0 {
					l.median = 2
				}
				return l
			}
		}},
		{"a burst of failures and slowness one step long, every 10 minutes", l, 0, func(*world) func(load, time.Duration) load {
			return func(l load, t time.Duration) load {
				if t%(10*minute) == 0 {
					l.failures, l.median = 0.5, 10
				}
				return l
			}
		}},
		{"failing calls overdispersed: 0 to 4 %", load{rate: 200, failures: 0.02, median: 0.5, sigma: llm}, 0, func(w *world) func(load, time.Duration) load {
			return func(l load, _ time.Duration) load {
				l.failures *= 2 * w.r.Float64()
				return l
			}
		}},
		{"no latency spread, no failures", load{rate: 10, median: 0.5}, 0, func(*world) func(load, time.Duration) load {
			return func(l load, _ time.Duration) load { return l }
		}},
	}
	for i, tt := range tests {
		w := newWorld(uint64(200 + i))
		w.run(days*day, tt.l, tt.at(w))
		n := began(w.take())
		t.Logf("%s: %v false alarms (latency, failure ratio, traffic) in %d days", tt.name, n, days)
		for k, n := range n {
			if float64(n) > tt.perDay*days {
				t.Errorf("%s: %d false alarms of %v in %d days", tt.name, n, Kind(k), days)
			}
		}
	}
}

// TestDailySwing swings traffic and latency by a factor of 3 over a day.
func TestDailySwing(t *testing.T) {
	const days = 4
	for i, rate := range []float64{1, 10, 200} {
		w := newWorld(uint64(300 + i))
		w.run(days*day, load{rate: rate, failures: 0.001, median: 0.5, sigma: llm}, func(l load, t time.Duration) load {
			swing := math.Exp(math.Log(3) / 2 * math.Sin(2*math.Pi*t.Hours()/24))
			l.rate *= swing
			l.median *= swing
			return l
		})
		n := began(w.take())
		t.Logf("%v rps swinging by 3: %v alarms (latency, failure ratio, traffic) in %d days", rate, n, days)
		for k, n := range n {
			if n > 1 {
				t.Errorf("%v rps: %d alarms of %v in %d days", rate, n, Kind(k), days)
			}
		}
	}
}

// TestDelay measures the time from a change to its alarm.
func TestDelay(t *testing.T) {
	const onsets = 200
	base := func(rate float64) load {
		return load{rate: rate, failures: 0.001, median: 0.5, sigma: llm}
	}
	with := func(l load, change func(*load)) load { change(&l); return l }
	slow := func(l *load) { l.median *= 2 }
	tests := []struct {
		name   string
		kind   Kind
		before load
		after  load
		want   time.Duration // largest delay for 95 % of the onsets
	}{
		{"latency doubled at 200 rps", Latency, base(200), with(base(200), slow), minute},
		{"latency doubled at 10 rps", Latency, base(10), with(base(10), slow), minute},
		{"latency doubled at 1 rps", Latency, base(1), with(base(1), slow), 4 * minute},
		{"latency halved at 10 rps", Latency, base(10), with(base(10), func(l *load) { l.median /= 2 }), minute},
		{"5 % failing at 200 rps", FailureRatio, base(200), with(base(200), func(l *load) { l.failures = 0.05 }), minute},
		{"30 % failing at 10 rps", FailureRatio, base(10), with(base(10), func(l *load) { l.failures = 0.3 }), minute},
		{"all failing at 1 rps", FailureRatio, base(1), with(base(1), func(l *load) { l.failures = 1 }), minute},
		{"traffic gone at 200 rps", Traffic, base(200), with(base(200), func(l *load) { l.rate = 0 }), minute},
		{"traffic gone at 10 rps", Traffic, base(10), with(base(10), func(l *load) { l.rate = 0 }), minute},
		{"traffic gone at 1 rps", Traffic, base(1), with(base(1), func(l *load) { l.rate = 0 }), minute},
		{"traffic tripled at 200 rps", Traffic, base(200), with(base(200), func(l *load) { l.rate *= 3 }), minute},
		{"traffic tripled at 10 rps", Traffic, base(10), with(base(10), func(l *load) { l.rate *= 3 }), minute},
		{"traffic tripled at 1 rps", Traffic, base(1), with(base(1), func(l *load) { l.rate *= 3 }), minute + 30*time.Second},
	}
	for i, tt := range tests {
		var delays []time.Duration
		for n := range onsets {
			w := newWorld(uint64(1000*i + n))
			w.run(Warmup*Step+time.Duration(n%20)*4*minute, tt.before)
			w.take()
			onset := w.now
			// The onset is within a step, so one step mixes both loads.
			part := w.r.Float64()
			onset = onset.Add(time.Duration(part * float64(Step)))
			w.add(mixed(w.sample(scaled(tt.before, part)), w.sample(scaled(tt.after, 1-part))))
			w.run(10*minute, tt.after)
			delay := 10 * minute
			for _, c := range w.take() {
				if c.Kind == tt.kind && c.Began {
					delay = c.At.Sub(onset)
					break
				}
			}
			delays = append(delays, delay)
		}
		slices.Sort(delays)
		missed := 0
		for _, d := range delays {
			if d == 10*minute {
				missed++
			}
		}
		p95 := delays[onsets*95/100]
		t.Logf("%s: found after p50 %.0f s, p95 %.0f s, at most %.0f s; %d of %d onsets not found in 10 minutes",
			tt.name, delays[onsets/2].Seconds(), p95.Seconds(), delays[onsets-1].Seconds(), missed, onsets)
		if p95 > tt.want {
			t.Errorf("%s: found after %v, want within %v", tt.name, p95, tt.want)
		}
	}
}

func scaled(l load, part float64) load { l.rate *= part; return l }

// mixed returns the sample of a step that holds both.
func mixed(a, b Sample) Sample {
	s := Sample{Calls: a.Calls + b.Calls, Failures: a.Failures + b.Failures, LatencyCount: a.LatencyCount + b.LatencyCount}
	if s.LatencyCount > 0 {
		s.LogLatency = (a.LogLatency*float64(a.LatencyCount) + b.LogLatency*float64(b.LatencyCount)) / float64(s.LatencyCount)
	}
	return s
}
