package anomaly

import (
	"math"
	"math/rand/v2"
	"time"
)

const (
	day    = 24 * time.Hour
	minute = time.Minute
)

var start = time.Date(2025, 3, 1, 0, 0, 0, 0, time.UTC)

// load describes an endpoint under simulated traffic: Poisson calls, which all fail with
// the same probability, and independent log-normal latencies.
type load struct {
	rate     float64 // calls per second
	failures float64 // ratio
	median   float64 // latency, seconds
	sigma    float64 // of ln(latency)
}

// llm is the sigma of a latency whose p99 is 10 times its p50.
var llm = math.Log(10) / 2.3263

// world runs a Detector through simulated time and keeps the changes that it reports.
type world struct {
	d   Detector
	r   *rand.Rand
	now time.Time
	got []Change
}

func newWorld(seed uint64) *world {
	return &world{r: rand.New(rand.NewPCG(seed, 1)), now: start}
}

// run simulates d of time. at, if any, changes the load as time passes.
func (w *world) run(d time.Duration, l load, at ...func(load, time.Duration) load) {
	for t := time.Duration(0); t < d; t += Step {
		now := l
		for _, f := range at {
			now = f(now, t)
		}
		w.add(w.sample(now))
	}
}

func (w *world) add(s Sample) {
	w.now = w.now.Add(Step)
	w.got = w.d.Add(w.got, w.now, s)
}

func (w *world) sample(l load) Sample {
	mean := l.rate * Step.Seconds()
	bad := poisson(w.r, mean*l.failures)
	s := Sample{Failures: bad, Calls: bad + poisson(w.r, mean*(1-l.failures))}
	if s.Calls > 0 { // draw the mean of n normals at once
		s.LatencyCount = s.Calls
		s.LogLatency = math.Log(l.median) + l.sigma/math.Sqrt(float64(s.Calls))*w.r.NormFloat64()
	}
	return s
}

// take returns the changes since the last take.
func (w *world) take() []Change {
	got := w.got
	w.got = nil
	return got
}

// began counts the anomalies that started, by series.
func began(got []Change) (n [kinds]int) {
	for _, c := range got {
		if c.Began && int(c.Kind) < kinds {
			n[c.Kind]++
		}
	}
	return n
}

// poisson draws exactly, by multiplication (Knuth) or transformed rejection (PTRS, Hörmann
// 1993).
func poisson(r *rand.Rand, mean float64) int {
	if mean < 10 {
		n, limit := -1, math.Exp(-mean)
		for p := 1.0; p > limit || n < 0; n++ {
			p *= r.Float64()
		}
		return n
	}
	b := 0.931 + 2.53*math.Sqrt(mean)
	a := -0.059 + 0.02483*b
	for {
		u := r.Float64() - 0.5
		v := 1 - r.Float64()
		us := 0.5 - math.Abs(u)
		k := math.Floor((2*a/us+b)*u + mean + 0.43)
		if us >= 0.07 && v <= 0.9277-3.6224/(b-2) {
			return int(k)
		}
		if k < 0 || us < 0.013 && v > us {
			continue
		}
		lg, _ := math.Lgamma(k + 1)
		if math.Log(v)+math.Log(1.1239+1.1328/(b-3.4))-math.Log(a/(us*us)+b) <= k*math.Log(mean)-mean-lg {
			return int(k)
		}
	}
}
