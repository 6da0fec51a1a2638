package soak

import (
	"sync/atomic"
	"time"
)

const (
	stallIs    = 400 * time.Millisecond // the shortest one that counts
	stallLasts = 15 * time.Second       // how long a stall can be the reason of failures
)

// stalls notes when the machine stood still: other work kept this process from running, and so
// perhaps the endpoints and the instances. Then also an endpoint that is well is out. It is safe
// for concurrent use.
type stalls struct {
	latest atomic.Int64 // Unix nanoseconds
	count  atomic.Int64
}

// watch notes stalls until quit.
func (s *stalls) watch(quit chan struct{}) {
	const every = stallIs / 8
	last := time.Now()
	for {
		select {
		case <-quit:
			return
		case <-time.After(every):
		}
		now := time.Now()
		s.note(now.Sub(last)-every, now)
		last = now
	}
}

// note notes a delay that ended at now.
func (s *stalls) note(delay time.Duration, now time.Time) {
	if delay >= stallIs {
		s.latest.Store(now.UnixNano())
		s.count.Add(1)
	}
}

// explains reports whether a stall may be why a request has failed.
func (s *stalls) explains(now time.Time) bool {
	return now.Sub(time.Unix(0, s.latest.Load())) < stallLasts
}
