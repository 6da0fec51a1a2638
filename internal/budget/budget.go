// Package budget keeps retries and hedges to a part of the calls.
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

// Rules say how many retries a pool may make over the last 10 seconds:
// ratio·calls + floor a second.
type Rules struct{ Ratio, Floor float64 }

// Budget keeps retries from becoming a storm. Calls are counted with one
// atomic addition; only a retry takes the lock. The zero value is ready.
//
// The span slides by a second; marks are taken lazily, by retries and by the
// control loop, also when it parks, so the counts cover 10 to 11 seconds.
type Budget struct {
	Calls  atomic.Int64
	Denied atomic.Int64

	mu      sync.Mutex
	retries int64
	marks   [int(budgetSpan/budgetMark) + 1]mark
	oldest  int
	count   int
}

type mark struct {
	begun, at      time.Time // at is later where the pool fell asleep after that
	calls, retries int64
}

// Call counts a call and returns how many there have been.
func (b *Budget) Call() int64 { return b.Calls.Add(1) }

// Take asks for one retry.
func (b *Budget) Take(now time.Time, rules *Rules) bool {
	b.mu.Lock()
	b.markLocked(now)
	since := b.sinceLocked(now)
	calls := float64(b.Calls.Load() - since.calls)
	retries := float64(b.retries - since.retries)
	ok := retries+1 <= rules.Ratio*calls+rules.Floor*budgetSpan.Seconds()
	if ok {
		b.retries++
	}
	b.mu.Unlock()
	if !ok {
		b.Denied.Add(1)
	}
	return ok
}

// GiveBack returns a retry that was not made after all.
func (b *Budget) GiveBack() {
	b.mu.Lock()
	b.retries--
	b.mu.Unlock()
}

// Rate is how many calls a second there were over the last 10 seconds.
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
	// no marks are taken, and no calls made, while the pool is idle
	over := min(budgetSpan, max(budgetMark, now.Sub(since.at)))
	return float64(b.Calls.Load()-since.calls) / over.Seconds()
}

// Tick keeps the marks going while there are no retries.
func (b *Budget) Tick(now time.Time) {
	b.mu.Lock()
	b.markLocked(now)
	b.mu.Unlock()
}

// Rest notes the counts as they are when the pool falls asleep, so that they are
// old when it wakes up.
func (b *Budget) Rest(now time.Time) {
	b.mu.Lock()
	b.markLocked(now)
	newest := &b.marks[(b.oldest+b.count-1)%len(b.marks)]
	*newest = mark{newest.begun, now, b.Calls.Load(), b.retries}
	b.mu.Unlock()
}

// markLocked notes the counts once a second.
func (b *Budget) markLocked(now time.Time) {
	if b.count > 0 {
		newest := b.marks[(b.oldest+b.count-1)%len(b.marks)]
		if now.Sub(newest.begun) < budgetMark {
			return // also while a clock that jumped back catches up
		}
	}
	if b.count == len(b.marks) {
		b.oldest = (b.oldest + 1) % len(b.marks)
		b.count--
	}
	b.marks[(b.oldest+b.count)%len(b.marks)] = mark{now, now, b.Calls.Load(), b.retries}
	b.count++
}

// sinceLocked is the mark at which the span begins: the newest that is at least
// a span old, else the beginning.
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
