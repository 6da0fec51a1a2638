// Package anomaly says when a series of 10 s samples stops looking like its own
// past. A [Detector] watches one endpoint: its latency, failure ratio, traffic
// and the flapping of its breaker. No threshold is set by hand: what is normal
// is learnt.
//
// Each series is compared with a baseline and fed to a two-sided CUSUM (Page
// 1954). The baseline is learnt in a warm-up of [Warmup] informative steps, then
// follows the series with a time constant of as many steps, and stands still
// while an anomaly is on. A step counts for at most 3.5 standard deviations, so
// no single step, however wild, is an anomaly: it takes four (40 s) of a large
// change, more of a small one. Changes below about 10 % of the level are noise
// by definition, and so is drift as slow as a day's swing of three times.
//
// Improvement of the failure ratio is learnt, not reported. Traffic is judged
// only while it is steady (see [Traffic]).
//
// A Detector is 1,088 bytes, allocates nothing, starts no goroutine and reads no
// clock.
package anomaly

import (
	"math"
	"strconv"
	"time"
)

const (
	// Step is the time that one [Sample] covers.
	Step = 10 * time.Second

	// Warmup is how many informative steps (10 minutes of traffic) a series is
	// watched before it is judged. A step without calls informs about neither
	// latency nor failures.
	Warmup = blocks * blockSteps

	// forget is how many steps without information make a baseline worthless, and
	// how many an anomaly can last before it is the new normal: one hour.
	forget = 360

	// pause is how many steps without information end a suspicion, and how many
	// without a call make an endpoint idle: 5 minutes.
	pause = 30
)

// Sample is what happened at one endpoint in one [Step]. Values that make no
// sense (negative counts, more failures than calls, a latency that is not
// finite) are ignored or brought into range.
type Sample struct {
	Calls    int // that ended in this step
	Failures int // of Calls

	// LogLatency is the mean of ln(first-byte latency in seconds), that is the
	// log of the step's geometric mean. It is valid where LatencyCount > 0.
	LogLatency   float64
	LatencyCount int
}

// Kind is what an anomaly is about.
type Kind uint8

const (
	// Latency: the geometric mean of first-byte latency rose or fell. Unit: seconds.
	Latency Kind = iota
	// FailureRatio: failures per call rose. Unit: ratio, 0 to 1.
	FailureRatio
	// Traffic: calls surged or dropped. Unit: calls per second. Judged only while
	// the calls of a step vary by less than about half of their mean, or no more
	// than chance (Poisson) explains. An endpoint without a call for 5 minutes is
	// idle, and what comes after it is learnt anew: it is no surge.
	Traffic
	// Flapping: more than 4 changes of state in 5 minutes. Unit: changes.
	Flapping

	kinds = int(Flapping) // that are series
)

// String returns latency, failure_ratio, traffic or flapping.
func (k Kind) String() string {
	switch k {
	case Latency:
		return "latency"
	case FailureRatio:
		return "failure_ratio"
	case Traffic:
		return "traffic"
	case Flapping:
		return "flapping"
	}
	return "Kind(" + strconv.Itoa(int(k)) + ")"
}

// Change is the beginning or the end of an anomaly. Of each kind they
// alternate, a beginning first. Expected and Seen are in the kind's unit.
type Change struct {
	Kind  Kind
	Began bool

	// Settled: it ended because it lasted an hour, not because the series came
	// back. What is seen is the new normal, learnt from here on.
	Settled bool

	// Expected is the baseline when the anomaly began; of Flapping, the most
	// changes that are normal.
	Expected float64

	// Seen is the mean since the change set in (estimated), up to now or, in an
	// end, up to where the series came back. Of Flapping, the changes in the
	// last 5 minutes, counted up to 8.
	Seen float64

	At time.Time
}

// Detector watches one endpoint. The zero value is ready for use and knows
// nothing yet. It is not safe for concurrent use.
type Detector struct {
	series [kinds]series
	flaps  flapping
	last   time.Time // of the latest Add
}

// Add takes the sample of the step that ends at now, and appends to dst the
// anomalies that begin or end with it. It is to be called every [Step], calls or
// none. It allocates only if dst is too short: at most 4 changes are appended.
//
// now tells how long the step was: one outside half to one and a half Steps (a
// late tick, a clock that jumped either way) says nothing about traffic. Time
// that passed without Add is time without information.
func (d *Detector) Add(dst []Change, now time.Time, s Sample) []Change {
	missed, regular := d.advance(now)
	if missed > 0 {
		for k := range d.series {
			dst = d.series[k].idle(dst, Kind(k), now, missed)
		}
	}

	latency := &d.series[Latency]
	if n := float64(s.LatencyCount); n > 0 && !math.IsNaN(s.LogLatency) && !math.IsInf(s.LogLatency, 0) {
		x := clamp(s.LogLatency, -maxLogLatency, maxLogLatency)
		dst = latency.observe(dst, Latency, now, observation{x: x, weight: n, seen: x})
	} else {
		dst = latency.idle(dst, Latency, now, 1)
	}

	ratio := &d.series[FailureRatio]
	if n := float64(s.Calls); n > 0 {
		x := clamp(float64(s.Failures)/n, 0, 1)
		dst = ratio.observe(dst, FailureRatio, now, observation{x: x, weight: n, seen: x})
	} else {
		dst = ratio.idle(dst, FailureRatio, now, 1)
	}

	traffic := &d.series[Traffic]
	if n := float64(max(0, s.Calls)); regular && traffic.counts(n) {
		dst = traffic.observe(dst, Traffic, now, observation{x: anscombe(n), weight: 1, seen: n / Step.Seconds()})
	} else {
		dst = traffic.idle(dst, Traffic, now, 1)
	}

	return d.flaps.expire(dst, now)
}

// StateChanged takes a change of the breaker's state at now, and appends to dst
// what follows from it for [Flapping].
func (d *Detector) StateChanged(dst []Change, now time.Time) []Change {
	return d.flaps.add(dst, now)
}

// Flapping reports whether the endpoint is flapping at now. It may turn false
// up to a [Step] before Add says so.
func (d *Detector) Flapping(now time.Time) bool { return d.flaps.active(now) }

// On reports whether an anomaly of kind k has begun and not ended.
func (d *Detector) On(k Kind) bool {
	if k == Flapping {
		return d.flaps.on
	}
	return int(k) < kinds && d.series[k].dir != 0
}

// advance moves the detector's time to now. missed is how many whole steps
// passed without Add; regular, whether this step is about one Step long.
func (d *Detector) advance(now time.Time) (missed int, regular bool) {
	last := d.last
	d.last = now
	if last.IsZero() {
		return 0, false
	}
	elapsed := clamp(now.Sub(last), 0, (forget+1)*Step)
	regular = elapsed >= Step/2 && elapsed <= Step*3/2
	return max(0, int((elapsed+Step/2)/Step)-1), regular
}

func clamp[T float64 | time.Duration](x, low, high T) T { return min(max(x, low), high) }
