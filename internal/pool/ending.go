package pool

import (
	"sync"
	"time"
)

// ending is the time by which all waits for an endpoint end, because the process does. The zero value has none.
type ending struct {
	mu    sync.Mutex
	by    time.Time
	known chan struct{} // closed when by is set
}

// EndBy makes all waits end by a time.
func (q *Queue) EndBy(by time.Time) {
	e := &q.ending
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.by.IsZero() {
		e.by = by
		close(e.known)
	}
}

// EndsBy returns the time of EndBy, zero if there is none yet, and a channel that is closed when there is one.
func (q *Queue) EndsBy() (by time.Time, known <-chan struct{}) {
	e := &q.ending
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.by, e.known
}
