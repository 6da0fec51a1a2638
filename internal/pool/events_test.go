package pool

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/apifailover/caddy-failover/internal/event"
)

// newTestPool returns a pool that is in no registry. Its loop does not run.
func newTestPool(name string) *Pool {
	p := New(name)
	p.Loop.Wake = make(chan struct{}, 1)
	return p
}

// TestEventsAreFolded checks that the first event of a kind goes out at once, and that those of the next
// second go out as one.
func TestEventsAreFolded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s := event.Latest.Subscribe(^uint64(0))
		defer s.Close()
		p := newTestPool("folding")
		began := time.Now()
		step := func(wait time.Duration, emits int, want ...int) {
			t.Helper()
			time.Sleep(wait)
			for i := range emits {
				p.Emit(event.Event{Kind: event.Failover, Endpoint: "a", To: "b", Reason: "reset", Details: map[string]any{"attempt": i}})
			}
			synctest.Wait()
			var got []int
			for len(s.Events) > 0 {
				e := <-s.Events
				if e.Pool != "folding" || e.ID == 0 || e.At.IsZero() {
					t.Errorf("after %v: incomplete: %+v", time.Since(began), e)
				}
				got = append(got, e.Count)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("after %v: events count %v, want %v", time.Since(began), got, want)
			}
		}
		step(0, 1, 1)                    // at once
		step(500*time.Millisecond, 7)    // held back
		step(501*time.Millisecond, 2, 7) // a second after the first
		step(time.Second, 0, 2)          // the rest
		step(time.Second, 0)             // nothing is left
		step(10*time.Millisecond, 3, 1)  // the next one goes out at once
		p.Emit(event.Event{Kind: event.Failover, Endpoint: "a", To: "c", Reason: "reset"})
		step(0, 0, 1) // another destination
		p.Emit(event.Event{Kind: event.EndpointHeld, Endpoint: "a", Count: 5})
		step(0, 0, 5) // an event that stands for five
		p.Outbox.Close()
		step(0, 0, 2) // the end sends what was held back
		p.Emit(event.Event{Kind: event.Failover})
		step(time.Minute, 0) // nothing goes out after the end
	})
}

// TestEventsAreLogged checks the level and the fields of events in the log.
func TestEventsAreLogged(t *testing.T) {
	p := newTestPool("logged")
	core, logs := observer.New(zap.DebugLevel)
	g := &Generation{logger: zap.New(core)}
	p.generation.Store(g)
	p.Emit(event.Event{Kind: event.Failover, Endpoint: "a", To: "b", Reason: "reset", Details: map[string]any{"attempt": 1}})
	p.Emit(event.Event{Kind: event.AllDown})
	p.Emit(event.Event{Kind: event.BreakerClosed, Endpoint: "a"})
	p.Outbox.Close()
	var got []string
	for _, entry := range logs.All() {
		m := entry.ContextMap()
		got = append(got, fmt.Sprint(entry.Level, " ", entry.Message, " ", m["pool"], " ", m["endpoint"], " ", m["to"], " ", m["reason"], " ", m["attempt"], " ", m["count"]))
	}
	want := []string{
		"warn failover logged a b reset 1 1",
		"error all_down logged <nil> <nil> <nil> <nil> 1",
		"info breaker_closed logged a <nil> <nil> <nil> 1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
