package sla

import (
	"sync"
	"time"
)

// Series is the history of one endpoint or of a pool. The zero value is empty and ready for
// use. All methods are safe for concurrent use. Each series has its own mutex, held only
// while it counts or copies.
//
// Time never moves back within a series. If the clock jumps back by up to 10 minutes,
// outcomes count in the newest step until the clock has caught up. If it jumps back
// further, time restarts there: finished steps later than the new time are dropped, and the
// counts of open steps move to the new time.
type Series struct {
	mu  sync.Mutex
	rec recorder // guarded by mu
}

// Record counts one outcome. It allocates only when a step ends, every 10 s.
func (s *Series) Record(now time.Time, o Outcome) {
	s.mu.Lock()
	s.rec.record(now, o)
	s.mu.Unlock()
}

// SetDown records that the endpoint (for a pool: every endpoint) went down or came back up at
// now, and why it went down. The time between counts as down and becomes an [Incident].
// Repeating the current state only advances time. The cause has no effect when it comes back up.
func (s *Series) SetDown(now time.Time, down bool, cause string) {
	s.mu.Lock()
	s.rec.setDown(now, down, cause)
	s.mu.Unlock()
}

// Advance closes the finished steps. Call it about every minute ([Keeper.Save] does). If
// neither it nor a recording method is called for more than a day, only the last day of
// that gap can count as down.
func (s *Series) Advance(now time.Time) {
	s.mu.Lock()
	s.rec.advance(unixMilli(now))
	s.mu.Unlock()
}

// Counts returns the counts of the steps that begin in [from, to). It uses the shortest
// steps that the series still has at from.
func (s *Series) Counts(now, from, to time.Time) Counts {
	var t tally
	r := s.record(now)
	r.sum(&t, levelFor(now, from), from, to, false)
	return t.Counts
}

// record returns everything recorded up to now.
func (s *Series) record(now time.Time) record {
	s.mu.Lock()
	r := s.rec.clone()
	s.mu.Unlock()
	return r.finish(unixMilli(now))
}

func (s *Series) failovers(now time.Time, to, n uint64) {
	s.mu.Lock()
	s.rec.failovers(now, to, n)
	s.mu.Unlock()
}

func (s *Series) restore(now, saved time.Time, from record, names []uint64) {
	s.mu.Lock()
	s.rec.restore(now, saved, from, names)
	s.mu.Unlock()
}

// lastStep returns the newest minute in which anything was recorded, or -1 if there is
// none.
func (s *Series) lastStep() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.rec.rings[minutes].last()
	for i := range s.rec.open[:minutes+1] {
		if !s.rec.open[i].empty() {
			last = max(last, s.rec.index[minutes])
		}
	}
	return last
}
