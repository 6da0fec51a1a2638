package endpoint

import (
	"testing"
	"time"
)

// pausedTrip is an attempt that waits for its client to send on.
type pausedTrip struct {
	trip
	sends bool // the client does
}

func (f *pausedTrip) Uploads() bool        { return true }
func (f *pausedTrip) WaitsForClient() bool { return !f.sends }
func (f *pausedTrip) WaitedFor(now time.Time) time.Duration {
	if f.sends {
		return now.Sub(f.began)
	}
	return 0
}

// TestPausedUploadsMakeRoom fills an endpoint with uploads, some of which wait for their
// clients: others take their slots a tenth of a second later, and no more of them.
func TestPausedUploadsMakeRoom(t *testing.T) {
	const limit = 10
	bounds := &Bounds{AtOnce: limit}
	r := newStateRun(t, defaultBreaker())
	admitted := func() bool {
		return r.s.Acquire(&trip{began: r.now, idle: true}, r.now, r.cfg, bounds, AdmitNormally)
	}
	for i := range limit {
		if !r.s.Acquire(&pausedTrip{trip{began: r.now}, i < 4}, r.now, r.cfg, bounds, AdmitNormally) {
			t.Fatal("not admitted where there is room")
		}
	}
	if admitted() {
		t.Error("admitted at once where there is no room")
	}
	r.now = r.now.Add(pausedSoon)
	for i := range limit - 4 {
		if !admitted() {
			t.Fatalf("attempt %d is refused", i)
		}
	}
	r.now = r.now.Add(relieveEvery)
	if admitted() {
		t.Error("admitted in the place of an upload that goes on")
	}
}
