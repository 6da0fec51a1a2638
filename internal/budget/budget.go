// Package budget limits retries and hedges to a part of the calls.
package budget

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	budgetSpan = 10 * time.Second
	budgetMark = time.Second
)

// Rules limit the retries of a pool over the last 10 seconds to Ratio × calls + Floor × 10.
// Floor is in retries per second.
type Rules struct{ Ratio, Floor float64 }

// Budget limits retries. Counting a call is one atomic addition; only a retry takes the
// mutex. The zero value is ready for use. All methods are safe for concurrent use.
//
// The span slides by a second. Retries and the control loop, also when it parks, take marks
// of the counts, so the counts cover 10 to 11 seconds.
type Budget struct {
	Calls  atomic.Int64
	Denied atomic.Int64

	mu      sync.Mutex
	retries int64
	moves   int64
	marks   [int(budgetSpan/budgetMark) + 1]mark
	oldest  int
	count   int
}

type mark struct {
	begun, at      time.Time // at is later than begun if the pool went to sleep in between
	calls, retries int64
	moves          int64
}

// Call counts a call and returns the number of calls so far.
func (b *Budget) Call() int64 { return b.Calls.Add(1) }

// Take reports whether a retry is allowed, and counts it if so.
func (b *Budget) Take(now time.Time, rules *Rules) bool {
	b.mu.Lock()
	b.markLocked(now)
	since := b.sinceLocked(now)
	return b.takeAndUnlock(&b.retries, since.retries, since.calls, rules)
}

// TakeMove reports whether a call may move on from a response, and counts it if so. Moves
// have their own budget with the same rules as retries.
func (b *Budget) TakeMove(now time.Time, rules *Rules) bool {
	b.mu.Lock()
	b.markLocked(now)
	since := b.sinceLocked(now)
	return b.takeAndUnlock(&b.moves, since.moves, since.calls, rules)
}

func (b *Budget) takeAndUnlock(count *int64, before, callsBefore int64, rules *Rules) bool {
	calls := float64(b.Calls.Load() - callsBefore)
	ok := float64(*count-before)+1 <= rules.Ratio*calls+rules.Floor*budgetSpan.Seconds()
	if ok {
		*count++
	}
	b.mu.Unlock()
	if !ok {
		b.Denied.Add(1)
	}
	return ok
}

// GiveBack returns a retry that was not made.
func (b *Budget) GiveBack() {
	b.mu.Lock()
	b.retries--
	b.mu.Unlock()
}

// GiveBackMove returns a move that was not made.
func (b *Budget) GiveBackMove() {
	b.mu.Lock()
	b.moves--
	b.mu.Unlock()
}

// Rate returns the calls per second over the last 10 seconds.
func (b *Budget) Rate(now time.Time) float64 {
	b.mu.Lock()
	since := b.sinceLocked(now)
	if since.at.IsZero() && b.count > 0 {
		since = b.marks[b.oldest] // younger than the span
	}
	b.mu.Unlock()
	if since.at.IsZero() {
		return 0
	}
	// An idle pool takes no marks and has no calls.
	over := min(budgetSpan, max(budgetMark, now.Sub(since.at)))
	return float64(b.Calls.Load()-since.calls) / over.Seconds()
}

// Tick takes marks while there are no retries.
func (b *Budget) Tick(now time.Time) {
	b.mu.Lock()
	b.markLocked(now)
	b.mu.Unlock()
}

// Rest records the counts at the time when the pool goes to sleep, so that they are old
// when it wakes up.
func (b *Budget) Rest(now time.Time) {
	b.mu.Lock()
	b.markLocked(now)
	newest := &b.marks[(b.oldest+b.count-1)%len(b.marks)]
	*newest = mark{newest.begun, now, b.Calls.Load(), b.retries, b.moves}
	b.mu.Unlock()
}

// markLocked takes a mark once a second.
func (b *Budget) markLocked(now time.Time) {
	if b.count > 0 {
		newest := b.marks[(b.oldest+b.count-1)%len(b.marks)]
		if now.Sub(newest.begun) < budgetMark {
			return // also after the clock jumped back, until it has caught up
		}
	}
	if b.count == len(b.marks) {
		b.oldest = (b.oldest + 1) % len(b.marks)
		b.count--
	}
	b.marks[(b.oldest+b.count)%len(b.marks)] = mark{now, now, b.Calls.Load(), b.retries, b.moves}
	b.count++
}

// sinceLocked returns the mark at which the span starts: the newest that is at least a span
// old, else the zero mark.
func (b *Budget) sinceLocked(now time.Time) mark {
	var since mark
	for i := range b.count {
		m := b.marks[(b.oldest+i)%len(b.marks)]
		if now.Sub(m.at) < budgetSpan {
			break
		}
		since = m
	}
	return since
}
