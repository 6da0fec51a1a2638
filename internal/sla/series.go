package sla

import (
	"sync"
	"time"
)

// Series is the history of one endpoint, or of a pool. The zero value is empty
// and ready for use. All methods may be called at once; each series has a lock of
// its own, which is held for as long as it takes to count or to copy.
//
// Time only moves on. A clock that jumped back by up to 10 minutes counts into
// the newest step until it has caught up. When it jumped back further, time
// starts again there: steps that are over and later than now are dropped, what was
// counted in those that are not over counts as of now.
type Series struct {
	mu  sync.Mutex
	rec recorder // guarded by mu
}

// Record counts one outcome. It allocates only where a step ends, every 10 s.
func (s *Series) Record(now time.Time, o Outcome) {
	s.mu.Lock()
	s.rec.record(now, o)
	s.mu.Unlock()
}

// SetDown says that the endpoint (of a pool: every endpoint) went down or came
// back up at now, and why. The time between is counted as down and kept as an
// [Incident]. Saying again what is known already changes nothing but the time, and
// neither does the cause of coming up.
func (s *Series) SetDown(now time.Time, down bool, cause string) {
	s.mu.Lock()
	s.rec.setDown(now, down, cause)
	s.mu.Unlock()
}

// Advance ends the steps that are over. Call it about every minute ([Keeper] does
// when it saves): more than a day in which nothing is called is not counted as
// down.
func (s *Series) Advance(now time.Time) {
	s.mu.Lock()
	s.rec.advance(unixMilli(now))
	s.mu.Unlock()
}

// Counts returns what was counted in the steps that begin in [from, to). Their
// length is the shortest with which the series reaches back from now to from.
func (s *Series) Counts(now, from, to time.Time) Counts {
	var t tally
	r := s.record(now)
	r.sum(&t, levelFor(now, from), from, to, false)
	return t.Counts
}

// Quantiles returns the latency of successes at each quantile (0 to 1) over the
// steps that [Series.Counts] would take, 0 where there was none.
func (s *Series) Quantiles(now, from, to time.Time, qs ...float64) []time.Duration {
	var t tally
	r := s.record(now)
	r.sum(&t, levelFor(now, from), from, to, true)
	return t.latency.quantiles(qs...)
}

// Incidents returns those of which some part is in [from, to), by start.
func (s *Series) Incidents(from, to time.Time) []Incident {
	s.mu.Lock()
	defer s.mu.Unlock()
	var in []Incident
	for _, i := range s.rec.incidents {
		if i.overlaps(from, to) {
			in = append(in, i)
		}
	}
	return in
}

// Down reports whether the series is down.
func (s *Series) Down() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rec.down
}

// record returns what was recorded up to now.
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

// lastStep is the newest step of minutes in which anything was recorded, -1 if
// there is none.
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
