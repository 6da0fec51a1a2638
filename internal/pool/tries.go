package pool

import (
	"sync"
	"time"

	"github.com/apifailover/caddy-failover/internal/endpoint"
)

// tries bound the attempts beyond the retry budget of calls that pause and then try an endpoint
// again, because without the attempt such a call waits in vain. There is one every PollAllIn, and
// two more for each that goes well, so that calls go on soon after an endpoint's return.
type tries struct {
	mu   sync.Mutex
	next time.Time // when there may be one although the latest has not gone well
	room int       // how many there may be at once, at most mostTries
}

// mostTries bounds the attempts that endpoints get at once before one of them has ended.
const mostTries = 100

// MayTry takes the right to an attempt beyond the budget, and reports whether there was one.
func (q *Queue) MayTry(now time.Time) bool {
	t := &q.tries
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.room > 0:
		t.room--
	case now.Before(t.next):
		return false
	default:
		t.next = now.Add(endpoint.PollAllIn)
	}
	return true
}

// Tried notes whether an attempt after a pause went well.
func (q *Queue) Tried(well bool) {
	t := &q.tries
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.room = min(t.room+2, mostTries); !well {
		t.room = 0
	}
}
