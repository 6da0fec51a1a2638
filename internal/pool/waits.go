package pool

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
)

// WaitEnd says how a call's wait for an endpoint ended.
type WaitEnd uint8

const (
	LetIn    WaitEnd = iota // an endpoint took the call
	TimeOver                // the call had waited as long as it may
	Left                    // the client left
	waitEnds
)

// waitStats count waits since the pool was made. The zero value is empty.
type waitStats struct {
	turnedAway atomic.Uint64

	mu      sync.Mutex
	ends    [waitEnds]uint64
	buckets [len(WaitBounds) + 1]uint64
	sum     time.Duration
}

// WaitBounds are the upper bounds of the histogram of waits. A further bucket counts longer waits.
var WaitBounds = [...]time.Duration{
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second,
	2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute,
}

func (w *waitStats) add(waited time.Duration, how WaitEnd) {
	i := 0
	for i < len(WaitBounds) && waited > WaitBounds[i] {
		i++
	}
	w.mu.Lock()
	w.ends[how]++
	w.buckets[i]++
	w.sum += waited
	w.mu.Unlock()
}

// WaitMeasures count the waits for an endpoint since the pool was made. A call whose attempt failed
// may wait again, and counts again.
type WaitMeasures struct {
	Now                               int64 // calls that wait
	LetIn, TimeOver, Left, TurnedAway uint64
	Buckets                           [len(WaitBounds) + 1]uint64
	Sum                               time.Duration
	Longest                           time.Duration // the time of the first call in the queue, since its beginning
}

// Measure returns the counts of waits.
func (q *Queue) Measure(now time.Time) (m WaitMeasures) {
	m.Now = q.count.Load()
	m.TurnedAway = q.stats.turnedAway.Load()
	q.mu.Lock()
	if first := q.places.Front(); first != nil {
		m.Longest = max(0, now.Sub(first.Value.(*Place).since))
	}
	q.mu.Unlock()
	s := &q.stats
	s.mu.Lock()
	defer s.mu.Unlock()
	m.LetIn, m.TimeOver, m.Left = s.ends[LetIn], s.ends[TimeOver], s.ends[Left]
	m.Buckets, m.Sum = s.buckets, s.sum
	return m
}

// status returns the waits for the API; nil if no call has ever waited.
func (q *Queue) status(now time.Time) *api.WaitingStatus {
	m := q.Measure(now)
	if m.Now == 0 && m.LetIn+m.TimeOver+m.Left+m.TurnedAway == 0 {
		return nil
	}
	return &api.WaitingStatus{
		Calls:      m.Now,
		Longest:    api.Tidy(m.Longest.Seconds()),
		LetIn:      m.LetIn,
		TimeOver:   m.TimeOver,
		Left:       m.Left,
		TurnedAway: m.TurnedAway,
	}
}
