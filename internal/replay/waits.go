package replay

import (
	"sync/atomic"
	"time"
)

// waits measures how long an attempt has waited for its client's body. Any goroutine may read it.
type waits struct {
	began   time.Time    // when the attempt began; set before anything is read
	past    atomic.Int64 // nanoseconds of all finished waits
	current atomic.Int64 // when the current wait began: nanoseconds after began plus one; 0: no wait
}

// begin begins a wait for the client; end ends it.
func (w *waits) begin(now time.Time) { w.current.Store(int64(now.Sub(w.began)) + 1) }

func (w *waits) end(now time.Time) {
	if since := w.current.Swap(0); since != 0 {
		w.past.Add(max(0, int64(now.Sub(w.began))-(since-1)))
	}
}

// Waited returns how long the attempt has waited, without the current wait.
func (w *waits) Waited() time.Duration { return time.Duration(w.past.Load()) }

// WaitedBy returns how long the attempt has waited until now, including the current wait.
func (w *waits) WaitedBy(now time.Time) time.Duration {
	waited := w.past.Load()
	if since := w.current.Load(); since != 0 {
		waited += max(0, int64(now.Sub(w.began))-(since-1))
	}
	return time.Duration(waited)
}

// Waiting reports whether the attempt waits now.
func (w *waits) Waiting() bool { return w.current.Load() != 0 }

// WaitsFor reports whether the current wait has lasted at least atLeast.
func (w *waits) WaitsFor(now time.Time, atLeast time.Duration) bool {
	since := w.current.Load()
	return since != 0 && int64(now.Sub(w.began))-(since-1) >= int64(atLeast)
}
