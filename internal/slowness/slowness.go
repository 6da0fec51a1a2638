// Package slowness detects an endpoint that is much slower than it used to be.
package slowness

import (
	"math"
	"math/bits"
	"time"
)

const (
	// verdictsKept is the number of latest verdicts that count.
	verdictsKept = 20
	// verdictsSlow slow verdicts among them make an endpoint a suspect.
	verdictsSlow = verdictsKept / 2

	slowAtLeast   = 100 * time.Millisecond // no shorter latency is slow
	slowTail      = 3                      // factor for p99
	slownessSpan  = time.Hour              // latencies decay with this time constant
	slownessDecay = time.Minute            // time between decays
	// MinKnown is the number of known latencies that a new limit needs.
	MinKnown  = 100
	keepKnown = MinKnown / 4 // number that keeps a limit while latencies decay
	// RefreshEvery is the shortest time between two computations of the limit.
	RefreshEvery = time.Second
	// DefaultFactor is the default factor for the median.
	DefaultFactor = 10
)

// Detector detects an endpoint that takes much longer than it used to (a gray failure, or
// one that hangs), long before any timeout. Each attempt gets a verdict. It is slow if the
// first byte of its response takes longer than
//
//	limit = max(100 ms, factor × p50, 3 × p99)
//
// over the last hour. An attempt that has waited longer than that is slow too, so it counts
// before it ends. An endpoint with half of its last 20 verdicts slow is a suspect.
//
// Slow latencies must not raise the limit before they are judged. They are pending until 20
// more verdicts have made no suspect, and the limit does not rise until then. If the breaker
// opens, the Detector drops them. If an endpoint has had no latency in time for an hour, the
// Detector forgets everything and learns its latency anew.
//
// The zero value has no limit, so nothing is slow. The endpoint's mutex guards it.
type Detector struct {
	Limit    time.Duration // 0 if unknown
	Verdicts uint32        // newest in the lowest bit; 1 is slow
	Held     int           // 1 + verdicts until the limit may rise; 0 if it may

	Known   Histogram // decays with time constant slownessSpan
	Pending Histogram // slow latencies not yet in Known
	grown   bool      // Known has grown since the last refresh
	stale   bool      // the limit is older than Known

	Episode episode

	learned   time.Time // last growth of Known
	decayed   time.Time
	refreshed time.Time
}

// IsSlow reports whether a latency, or the time that an attempt has waited, is slow.
func (s *Detector) IsSlow(latency time.Duration) bool { return s.Limit > 0 && latency > s.Limit }

// Judged counts a verdict. It returns true if that makes the endpoint a suspect.
func (s *Detector) Judged(slow bool) (began bool) {
	was := s.Suspect()
	s.Verdicts = s.Verdicts << 1 & (1<<verdictsKept - 1)
	if !slow {
		s.Episode.inTime++
		if s.Verdicts == 0 {
			s.Episode.end()
		}
	}
	if slow {
		s.Verdicts |= 1
		if s.Held == 0 {
			s.Held = verdictsKept + 2
		}
	}
	if s.Held > 1 {
		s.Held--
	}
	return slow && !was && s.Suspect()
}

// JudgedMany counts verdicts whose order is unknown. It returns true if they make the endpoint a
// suspect.
func (s *Detector) JudgedMany(slow, inTime int) (began bool) {
	if n := slow + inTime; n > verdictsKept {
		s.Episode.inTime += uint64(inTime)
		slow = (slow*verdictsKept + n/2) / n
		inTime = verdictsKept - slow
		s.Episode.inTime -= uint64(inTime) // counted below
	}
	for ; inTime > 0; inTime-- {
		s.Judged(false)
	}
	for ; slow > 0; slow-- {
		began = s.Judged(true) || began
	}
	return began
}

// Learn adds the latency of a success. It ignores a slow one unless the breaker is closed.
func (s *Detector) Learn(latency time.Duration, slow, closed bool) {
	switch {
	case !slow:
		s.Known.Add(latency)
		s.grown = true
	case closed:
		s.Pending.Add(latency)
	}
}

// Suspect reports whether at least half of the last 20 verdicts are slow.
func (s *Detector) Suspect() bool { return bits.OnesCount32(s.Verdicts) >= verdictsSlow }

// Opened clears the verdicts, because the breaker has opened.
func (s *Detector) Opened() {
	if s.Verdicts != 0 || s.Held != 0 {
		s.Verdicts, s.Held, s.Pending = 0, 0, Histogram{}
		s.Episode.end()
	}
}

// Settled reports whether Refresh has nothing to do until the next verdict or latency, except
// decay, which can wait.
func (s *Detector) Settled(factor float64) bool {
	return !s.Suspect() && (factor <= 0 || !s.grown && !s.stale && s.Held != 1)
}

// Refresh updates the limit, at most once a second. Factor 0 turns detection off.
func (s *Detector) Refresh(now time.Time, factor float64) {
	if factor <= 0 {
		s.Limit, s.Verdicts = 0, 0
		return
	}
	if s.decayed.IsZero() || now.Before(s.decayed) || now.Before(s.refreshed) {
		s.decayed, s.refreshed = now, time.Time{} // the first time, or the clock jumped back
	}
	if s.grown {
		s.grown, s.stale, s.learned = false, true, now
	}
	if s.Held == 1 && !s.Suspect() {
		s.Known.Merge(&s.Pending)
		s.Pending = Histogram{}
		s.Held, s.stale, s.refreshed = 0, true, time.Time{}
	}
	if dt := now.Sub(s.decayed); dt >= slownessDecay {
		s.Known.scale(float32(math.Exp(-float64(dt) / float64(slownessSpan))))
		s.decayed, s.stale = now, true
		if now.Sub(s.learned) >= slownessSpan {
			*s = Detector{decayed: now, learned: now}
			return
		}
	}
	if !s.stale || now.Sub(s.refreshed) < RefreshEvery {
		return
	}
	s.stale, s.refreshed = false, now
	limit := s.compute(factor)
	if s.Held > 0 && s.Limit > 0 && (limit == 0 || limit > s.Limit) {
		return
	}
	if s.Limit = limit; limit == 0 {
		s.Opened()
	}
}

// compute returns the limit by the known latencies; 0 if they are too few.
func (s *Detector) compute(factor float64) time.Duration {
	total := s.Known.Total()
	if total < MinKnown && (s.Limit == 0 || total < keepKnown) {
		return 0
	}
	p50, p99 := s.Known.Quantile(0.5, total), s.Known.Quantile(0.99, total)
	return max(slowAtLeast, time.Duration(factor*float64(p50)), slowTail*p99)
}
