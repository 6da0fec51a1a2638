package budget

import "sync"

// Burst is how many hedges can be saved up.
const Burst = 20

// Hedges keeps hedges to a part of calls: each call saves up a part of one. The
// zero value is ready.
type Hedges struct {
	mu     sync.Mutex
	saved  float64
	counts int64 // calls that have been counted
}

// Take asks for one hedge, given how many calls there have been ever, and the part of them that may be hedged, 0 to 1.
func (b *Hedges) Take(calls int64, ratio float64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.saved = min(Burst, b.saved+ratio*float64(calls-b.counts))
	b.counts = calls
	if b.saved < 1 {
		return false
	}
	b.saved--
	return true
}

// GiveBack returns a hedge that was not made after all.
func (b *Hedges) GiveBack() {
	b.mu.Lock()
	b.saved++
	b.mu.Unlock()
}
