// Package anomaly detects when a series of 10 s samples stops looking like its own past. A
// [Detector] watches one endpoint: its latency, failure ratio, traffic, and the flapping of
// its breaker. It needs no thresholds, because it learns what is normal.
//
// Each series is compared with a baseline, and the deviations feed a two-sided CUSUM (Page
// 1954). The baseline is learnt in a warm-up of [Warmup] informative steps. Then it follows
// the series with a time constant of as many steps, and stands still during an anomaly. A
// step counts for at most 3.5 standard deviations, so no single step is an anomaly, however
// extreme. A large change needs four steps (40 s), a small one more. Changes below about 10
// % of the level count as noise, and so does drift as slow as a daily swing by a factor of
// three.
//
// The detector learns an improvement of the failure ratio without reporting it. It judges
// traffic only while traffic is steady (see [Traffic]).
//
// A Detector takes 1,088 bytes, allocates nothing, starts no goroutine and reads no clock.
package anomaly

import (
	"math"
	"strconv"
	"time"
)

const (
	// Step is the time that one [Sample] covers.
	Step = 10 * time.Second

	// Warmup is the number of informative steps (10 minutes of traffic) before a series is
	// judged. A step without calls has no information about latency or failures.
	Warmup = blocks * blockSteps

	// forget is the number of steps without information after which a baseline is
	// worthless. An anomaly that lasts as long, one hour, becomes the new normal.
	forget = 360

	// pause is the number of steps without information that end a suspicion. An endpoint
	// without a call for as long, 5 minutes, is idle.
	pause = 30
)

// Sample holds the results of one endpoint in one [Step]. The detector ignores invalid
// values (negative counts, more failures than calls, a latency that is not finite) or
// clamps them to their range.
type Sample struct {
	Calls    int // calls that ended in this step
	Failures int // failed calls among Calls

	// LogLatency is the mean of ln(first-byte latency in seconds): the log of the step's
	// geometric mean. It is valid if LatencyCount is above 0.
	LogLatency   float64
	LatencyCount int
}

// Kind is the measure in which an anomaly shows.
type Kind uint8

const (
	// Latency is a rise or fall of the geometric mean of first-byte latency, in seconds.
	Latency Kind = iota
	// FailureRatio is a rise of failures per call, 0 to 1.
	FailureRatio
	// Traffic is a surge or drop of calls, in calls per second. It is judged only while the
	// calls of a step vary by less than about half of their mean, or no more than chance
	// (Poisson) explains. An endpoint without a call for 5 minutes is idle. Traffic after
	// that is learnt anew and is no surge.
	Traffic
	// Flapping is more than 4 changes of state in 5 minutes, in changes.
	Flapping

	kinds = int(Flapping) // kinds that have a series
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

// Change is the start or the end of an anomaly. Starts and ends of one kind alternate; a
// start comes first. Expected and Seen are in the kind's unit.
type Change struct {
	Kind  Kind
	Began bool

	// Settled reports that the anomaly ended because it lasted an hour, not because the
	// series came back. Its values are the new normal and are learnt from here on.
	Settled bool

	// Expected is the baseline at the start of the anomaly. For Flapping it is the largest
	// normal number of changes.
	Expected float64

	// Seen is the mean since the estimated start of the change. It covers the time up to
	// now or, when an anomaly ends, up to the return of the series. For Flapping it is the
	// number of changes in the last 5 minutes, at most 8.
	Seen float64

	At time.Time
}

// Detector watches one endpoint. The zero value has learnt nothing and is ready for use. It
// is not safe for concurrent use.
type Detector struct {
	series [kinds]series
	flaps  flapping
	last   time.Time // time of the latest Add
}

// Add takes the sample of the step that ends at now, and appends the anomalies that start
// or end with it to dst. Call it every [Step], with or without calls. It appends at most 4
// changes, and allocates only if dst is too short.
//
// The time since the last Add is the length of the step. A step shorter than half a Step or
// longer than one and a half (a late tick, a clock that jumped) says nothing about traffic.
// Time without Add is time without information.
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

// StateChanged takes a change of the breaker's state at now, and appends to dst any change
// of [Flapping] that follows.
func (d *Detector) StateChanged(dst []Change, now time.Time) []Change {
	return d.flaps.add(dst, now)
}

// Flapping reports whether the endpoint is flapping at now. It may turn false up to a
// [Step] before Add reports the end.
func (d *Detector) Flapping(now time.Time) bool { return d.flaps.active(now) }

// advance moves the detector's time to now. missed is the number of whole steps that passed
// without Add. regular reports whether this step is about one Step long.
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
