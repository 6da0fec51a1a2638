package ops

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/pool"
	"github.com/apifailover/caddy-failover/internal/sla"
	"github.com/apifailover/caddy-failover/internal/target"
)

// BenchmarkDashboardOf50Endpoints measures the data of the dashboard for a pool of 50 endpoints: the status,
// which it needs each second, the last two minutes, each 10 seconds, and the last hour, for the first viewer.
// A detail is that of one endpoint in its own view.
func BenchmarkDashboardOf50Endpoints(b *testing.B) {
	p, err := pool.Load("crowd")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _, _ = pool.Pools.Delete("crowd") }()
	now := time.Now()
	h := &pool.Handler{Pool: p, Breaker: new(breaker.Defaults(2 * time.Second)), Longest: 2 * time.Second, Logger: zap.NewNop()}
	for i := range 50 {
		name := fmt.Sprintf("e%d.test", i)
		h.Targets = append(h.Targets, &target.Target{Name: name, Address: name + ":80", Priority: 1, Weight: 1})
	}
	if err := p.Attach(h, h); err != nil {
		b.Fatal(err)
	}
	defer p.Detach(h)
	h.GoLive()
	for _, t := range h.Targets {
		series := p.History.Endpoint(t.Name)
		for second := range 3600 {
			var one sla.Batch
			one.Add(sla.Outcome{Latency: time.Duration(second%97+1) * time.Millisecond})
			series.RecordBatch(now.Add(time.Duration(second-3600)*time.Second), &one)
		}
	}
	encode := func(b *testing.B, what func() any) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := json.Marshal(what()); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("snapshot", func(b *testing.B) { encode(b, func() any { return pool.Status(now) }) })
	b.Run("minutes", func(b *testing.B) { encode(b, func() any { return lastMinutes(now, now.Add(-2*time.Minute)) }) })
	b.Run("detail", func(b *testing.B) { encode(b, func() any { return makeDetail(now, p, "e7.test") }) })
	b.Run("hour", func(b *testing.B) { encode(b, func() any { return lastMinutes(now, now.Add(-time.Hour)) }) })
}
