// Package slowness finds an endpoint that is much slower than it used to be.
package slowness

import (
	"math"
	"math/bits"
	"time"
)

const (
	// verdictsKept is how many attempts relative slowness looks back at, and
	// VerdictsSlow how many of them must be slow.
	verdictsKept = 20
	// VerdictsSlow slow verdicts of the last ones make an endpoint a suspect.
	VerdictsSlow = verdictsKept / 2

	slowAtLeast   = 100 * time.Millisecond // nothing quicker is slow
	slowTail      = 3                      // times p99
	MinKnown      = 100                    // known latencies from which a limit is made
	slownessSpan  = time.Hour
	slownessDecay = time.Minute // between decays
	RefreshEvery  = time.Second // between computations of the limit
	// DefaultFactor times the median an attempt must take to be slow, unless a pool says otherwise.
	DefaultFactor = 10
)

// Detector finds an endpoint that takes much longer than it used to (a gray
// failure, or one that hangs) long before any timeout. Each attempt gets a
// verdict: it is slow if the first byte of its answer took longer than
//
//	limit = max(100 ms, factor × p50, 3 × p99)
//
// of the last hour, or if it has been waiting for longer than that by now; so
// it need not end to be evidence. Half of the last 20 verdicts make a suspect.
//
// What is slow must not become the measure of slowness before it has been
// judged: slow latencies wait until 20 more verdicts have not made a suspect,
// and the limit does not rise until then. They are forgotten if the breaker
// opens. An endpoint that has not been in time once for an hour is not known any
// longer, and whatever it does then is its new normal.
//
// The zero value knows nothing, and nothing is slow to it. It is guarded by its
// endpoint's mutex; recording takes a few nanoseconds.
type Detector struct {
	Limit    time.Duration // 0: unknown
	Verdicts uint32        // newest in the lowest bit, 1 is slow
	Held     int           // verdicts for which the limit may not rise, plus 1; 0: it may

	Known   Histogram // fades over slownessSpan
	Pending Histogram // slow, and not yet known
	grown   bool      // known has grown since the last refresh
	stale   bool      // the limit does not speak of what is known

	Episode episode

	learned   time.Time // known grew last
	decayed   time.Time
	refreshed time.Time
}

// IsSlow judges a latency, or how long an attempt has been waiting.
func (s *Detector) IsSlow(latency time.Duration) bool { return s.Limit > 0 && latency > s.Limit }

// Judged takes a verdict. It returns true if that makes the endpoint a suspect.
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

// JudgedMany takes the verdicts of attempts whose order is not known.
func (s *Detector) JudgedMany(slow, inTime int) (began bool) {
	if n := slow + inTime; n > verdictsKept {
		s.Episode.inTime += uint64(inTime)
		slow = (slow*verdictsKept + n/2) / n
		inTime = verdictsKept - slow
		s.Episode.inTime -= uint64(inTime) // which are counted below
	}
	for ; inTime > 0; inTime-- {
		s.Judged(false)
	}
	for ; slow > 0; slow-- {
		began = s.Judged(true) || began
	}
	return began
}

// Learn takes the latency of a good answer. While the breaker is not closed, what
// is slow teaches nothing.
func (s *Detector) Learn(latency time.Duration, slow, closed bool) {
	switch {
	case !slow:
		s.Known.Add(latency)
		s.grown = true
	case closed:
		s.Pending.Add(latency)
	}
}

// Suspect tells whether half or more of the last attempts were slow.
func (s *Detector) Suspect() bool { return bits.OnesCount32(s.Verdicts) >= VerdictsSlow }

// Opened forgets the verdicts, since the breaker has acted.
func (s *Detector) Opened() {
	if s.Verdicts != 0 || s.Held != 0 {
		s.Verdicts, s.Held, s.Pending = 0, 0, Histogram{}
		s.Episode.end()
	}
}

// Refresh computes the limit, at most once a second; factor 0 turns it off.
func (s *Detector) Refresh(now time.Time, factor float64) {
	if factor <= 0 {
		s.Limit, s.Verdicts = 0, 0
		return
	}
	if s.decayed.IsZero() || now.Before(s.decayed) || now.Before(s.refreshed) {
		s.decayed, s.refreshed = now, time.Time{} // also after a clock that jumped back
	}
	if s.grown {
		s.grown, s.stale, s.learned = false, true, now
	}
	if s.Held == 1 && !s.Suspect() {
		s.Known.merge(&s.Pending)
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

func (s *Detector) compute(factor float64) time.Duration {
	total := s.Known.Total()
	if total < MinKnown {
		return 0
	}
	p50, p99 := s.Known.Quantile(0.5, total), s.Known.Quantile(0.99, total)
	return max(slowAtLeast, time.Duration(factor*float64(p50)), slowTail*p99)
}
