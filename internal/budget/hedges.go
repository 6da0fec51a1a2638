package budget

import "sync"

// maxSaved is the largest number of hedges that can be saved up.
const maxSaved = 20

// Hedges limits hedges to a part of the calls: each call saves up a fraction of a hedge.
// The zero value is ready for use. All methods are safe for concurrent use.
type Hedges struct {
	mu     sync.Mutex
	saved  float64
	counts int64 // calls counted so far
}

// Take reports whether a hedge is allowed, and uses it up if so. calls is the number of
// calls ever; ratio is the part of them that may be hedged, 0 to 1.
func (b *Hedges) Take(calls int64, ratio float64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.saved = min(maxSaved, b.saved+ratio*float64(calls-b.counts))
	b.counts = calls
	if b.saved < 1 {
		return false
	}
	b.saved--
	return true
}

// GiveBack returns a hedge that was not made.
func (b *Hedges) GiveBack() {
	b.mu.Lock()
	b.saved++
	b.mu.Unlock()
}
