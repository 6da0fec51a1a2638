package failover

import (
	"math"
	"math/bits"
	"time"
)

const (
	// verdictsKept is how many attempts relative slowness looks back at, and
	// verdictsSlow how many of them must be slow.
	verdictsKept = 20
	verdictsSlow = verdictsKept / 2

	slowAtLeast       = 100 * time.Millisecond // nothing quicker is slow
	slowTail          = 3                      // times p99
	slowSamples       = 100                    // known latencies from which a limit is made
	slownessSpan      = time.Hour
	slownessDecay     = time.Minute // between decays
	slownessRefresh   = time.Second // between computations of the limit
	defaultSlowFactor = 10
)

// slowness finds an endpoint that takes much longer than it used to (a gray
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
type slowness struct {
	limit    time.Duration // 0: unknown
	verdicts uint32        // newest in the lowest bit, 1 is slow
	held     int           // verdicts for which the limit may not rise, plus 1; 0: it may

	known   histogram // fades over slownessSpan
	pending histogram // slow, and not yet known
	grown   bool      // known has grown since the last refresh
	stale   bool      // the limit does not speak of what is known

	episode episode

	learned   time.Time // known grew last
	decayed   time.Time
	refreshed time.Time
}

// isSlow judges a latency, or how long an attempt has been waiting.
func (s *slowness) isSlow(latency time.Duration) bool { return s.limit > 0 && latency > s.limit }

// judged takes a verdict. It returns true if that makes the endpoint a suspect.
func (s *slowness) judged(slow bool) (began bool) {
	was := s.suspect()
	s.verdicts = s.verdicts << 1 & (1<<verdictsKept - 1)
	if !slow {
		s.episode.inTime++
		if s.verdicts == 0 {
			s.episode.end()
		}
	}
	if slow {
		s.verdicts |= 1
		if s.held == 0 {
			s.held = verdictsKept + 2
		}
	}
	if s.held > 1 {
		s.held--
	}
	return slow && !was && s.suspect()
}

// judgedMany takes the verdicts of attempts whose order is not known.
func (s *slowness) judgedMany(slow, inTime int) (began bool) {
	if n := slow + inTime; n > verdictsKept {
		s.episode.inTime += uint64(inTime)
		slow = (slow*verdictsKept + n/2) / n
		inTime = verdictsKept - slow
		s.episode.inTime -= uint64(inTime) // which are counted below
	}
	for ; inTime > 0; inTime-- {
		s.judged(false)
	}
	for ; slow > 0; slow-- {
		began = s.judged(true) || began
	}
	return began
}

// learn takes the latency of a good answer. While the breaker is not closed, what
// is slow teaches nothing.
func (s *slowness) learn(latency time.Duration, slow, closed bool) {
	switch {
	case !slow:
		s.known.add(latency)
		s.grown = true
	case closed:
		s.pending.add(latency)
	}
}

// suspect tells whether half or more of the last attempts were slow.
func (s *slowness) suspect() bool { return bits.OnesCount32(s.verdicts) >= verdictsSlow }

// opened forgets the verdicts, since the breaker has acted.
func (s *slowness) opened() {
	if s.verdicts != 0 || s.held != 0 {
		s.verdicts, s.held, s.pending = 0, 0, histogram{}
		s.episode.end()
	}
}

// refresh computes the limit, at most once a second; factor 0 turns it off.
func (s *slowness) refresh(now time.Time, factor float64) {
	if factor <= 0 {
		s.limit, s.verdicts = 0, 0
		return
	}
	if s.decayed.IsZero() || now.Before(s.decayed) || now.Before(s.refreshed) {
		s.decayed, s.refreshed = now, time.Time{} // also after a clock that jumped back
	}
	if s.grown {
		s.grown, s.stale, s.learned = false, true, now
	}
	if s.held == 1 && !s.suspect() {
		s.known.merge(&s.pending)
		s.pending = histogram{}
		s.held, s.stale, s.refreshed = 0, true, time.Time{}
	}
	if dt := now.Sub(s.decayed); dt >= slownessDecay {
		s.known.scale(float32(math.Exp(-float64(dt) / float64(slownessSpan))))
		s.decayed, s.stale = now, true
		if now.Sub(s.learned) >= slownessSpan {
			*s = slowness{decayed: now, learned: now}
			return
		}
	}
	if !s.stale || now.Sub(s.refreshed) < slownessRefresh {
		return
	}
	s.stale, s.refreshed = false, now
	limit := s.compute(factor)
	if s.held > 0 && s.limit > 0 && (limit == 0 || limit > s.limit) {
		return
	}
	if s.limit = limit; limit == 0 {
		s.opened()
	}
}

func (s *slowness) compute(factor float64) time.Duration {
	total := s.known.total()
	if total < slowSamples {
		return 0
	}
	p50, p99 := s.known.quantile(0.5, total), s.known.quantile(0.99, total)
	return max(slowAtLeast, time.Duration(factor*float64(p50)), slowTail*p99)
}
