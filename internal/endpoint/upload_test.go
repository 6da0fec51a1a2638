package endpoint

import (
	"testing"
	"time"
)

// pausedTrip is an attempt with an upload that waits for its client, unless sends is set.
type pausedTrip struct {
	trip
	sends bool
}

func (f *pausedTrip) Uploads() bool        { return true }
func (f *pausedTrip) WaitsForClient() bool { return !f.sends }
func (f *pausedTrip) WaitedFor(now time.Time) time.Duration {
	if f.sends {
		return now.Sub(f.began)
	}
	return 0
}

// TestPausedUploadsMakeRoom fills an endpoint with uploads, some of which wait for their clients. A tenth of
// a second later, as many attempts must be let in as uploads wait, and no more.
func TestPausedUploadsMakeRoom(t *testing.T) {
	const limit = 10
	bounds := &Bounds{AtOnce: limit}
	r := newStateRun(t, defaultBreaker())
	admitted := func() bool {
		return r.s.Acquire(&trip{began: r.now, idle: true}, r.now, r.cfg, bounds, AdmitNormally)
	}
	for i := range limit {
		if !r.s.Acquire(&pausedTrip{trip{began: r.now}, i < 4}, r.now, r.cfg, bounds, AdmitNormally) {
			t.Fatal("an upload is refused although there is room")
		}
	}
	if admitted() {
		t.Error("an attempt is let in at once although the endpoint is full")
	}
	r.now = r.now.Add(pausedSoon)
	for i := range limit - 4 {
		if !admitted() {
			t.Fatalf("attempt %d is refused", i)
		}
	}
	r.now = r.now.Add(relieveEvery)
	if admitted() {
		t.Error("an attempt is let in instead of an upload that goes on")
	}
}
