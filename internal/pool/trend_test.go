package pool

import (
	"fmt"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/target"
)

// BenchmarkTick1000 is the control loop's tick for 1,000 endpoints of one tier
// that all have news; rebuilt has to make new tables as well, which is rare.
func BenchmarkTick1000(b *testing.B) {
	for _, rebuilt := range []bool{false, true} {
		b.Run(map[bool]string{false: "steady", true: "rebuilt"}[rebuilt], func(b *testing.B) {
			p := newTestPool("bench")
			defer p.Outbox.Close()
			var targets []*target.Target
			for i := range 1000 {
				targets = append(targets, &target.Target{Name: fmt.Sprint(i), Priority: 1, Weight: 1, Upstream: &reverseproxy.Upstream{}})
			}
			handlerOf(b, p, targets...)
			now := time.Now()
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				for _, s := range p.Members {
					for range 3 {
						settle(s.State, begin(b, s.State, now, time.Second), now, outcome.Success)
					}
				}
				now = now.Add(TickEvery)
				if rebuilt {
					p.Loop.Poked.Store(true)
				}
				b.StartTimer()
				p.Tick(now)
			}
		})
	}
}
