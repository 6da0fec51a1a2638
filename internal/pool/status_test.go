package pool

import (
	"fmt"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/target"
)

// BenchmarkStatus measures the status of a pool of 50 endpoints.
func BenchmarkStatus(b *testing.B) {
	p := &Pool{Name: "bench", Members: make(map[endpoint.Key]*PoolMember)}
	p.Outbox = event.NewOutbox(func(event.Event) {}, func(event.Event) {})
	defer p.Outbox.Close()
	p.Loop.start(p)
	defer p.Loop.stop()
	h := &Handler{Pool: p}
	for i := range 50 {
		h.Targets = append(h.Targets, &target.Target{Name: fmt.Sprint(i), Address: "a:80", Priority: 1 + i/10, Weight: 1})
	}
	if err := p.Attach(h, 1); err != nil {
		b.Fatal(err)
	}
	defer p.Detach(h)
	p.Mu.Lock()
	h.Rebuild(time.Now())
	p.Mu.Unlock()
	for _, t := range h.Targets {
		for range 1000 {
			f := begin(b, t.State, time.Now(), time.Second)
			f.latency = 100 * time.Millisecond
			settle(t.State, f, time.Now(), outcome.Success)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if got := p.Status(time.Now()); len(got.Endpoints) != 50 || got.Endpoints[0].Latency == nil {
			b.Fatal("the status is incomplete")
		}
	}
}
