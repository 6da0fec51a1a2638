package pool

import (
	"fmt"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/endpoint"
)

// BenchmarkChecker is what the schedule of 100 endpoints with a check each second
// costs, without the requests.
func BenchmarkChecker(b *testing.B) {
	p := &Pool{Members: make(map[endpoint.Key]*PoolMember)}
	g := &Generation{}
	g.Breaker.Store(defaultBreaker())
	p.generation.Store(g)
	now := time.Unix(1e9, 0)
	cfg := &endpoint.CheckConfig{Interval: 30 * time.Second, FastInterval: 2 * time.Second, Passes: 2, Fails: 2}
	for i := range 100 {
		s := &endpoint.State{Key: endpoint.Key{Name: fmt.Sprint(i), Address: ""}, Owner: p}
		s.AskChecks(cfg, now, time.Hour)
		p.Members[s.Key] = &PoolMember{State: s}
		p.checker.plan = append(p.checker.plan, checked{state: s, cfg: cfg})
	}
	b.ReportAllocs()
	for range b.N {
		p.checker.startDue(p, now)
	}
}
