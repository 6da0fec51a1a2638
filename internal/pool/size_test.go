package pool

import (
	"fmt"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/target"
)

// sizes are numbers of endpoints.
var sizes = []int{3, 30, 300, 3000}

// sized returns a pool of n equal endpoints, and their states. Its loop does not run.
func sized(t testing.TB, n int) (*Pool, []*target.Target) {
	p := New(t.Name())
	t.Cleanup(p.Outbox.Close)
	targets := make([]*target.Target, n)
	for i := range targets {
		address := fmt.Sprintf("10.0.%d.%d:80", i/250, i%250)
		targets[i] = &target.Target{Name: address, Address: address, Priority: 1, Weight: 1}
	}
	handlerOf(t, p, targets...)
	return p, targets
}

// serve makes a call succeed within a millisecond.
func serve(t testing.TB, s *endpoint.State, now time.Time) {
	f := begin(t, s, now, time.Second)
	if !s.Succeeded(f, defaultBreaker(), true) {
		s.SettleAnswer(f, now, defaultBreaker(), outcome.Success, true)
	}
}

// settleDown ticks until the pool is at rest. It returns the time of the next tick, which ends no step
// of the trend.
func settleDown(p *Pool, now time.Time) time.Time {
	for range 20 * restTicks {
		now = now.Add(TickEvery)
		p.Tick(now)
	}
	for p.stepOverLocked(now.Add(TickEvery)) {
		now = now.Add(TickEvery)
		p.Tick(now)
	}
	return now.Add(TickEvery)
}

// restTicks is more ticks than it takes an endpoint to come to rest.
const restTicks = 10

// awakeNow returns how many endpoints a tick would look at.
func awakeNow(p *Pool) int {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	return len(p.awakeLocked())
}

// TestTicksLeaveRestAlone checks that a tick looks only at the endpoints where something happens, in
// pools of any size.
func TestTicksLeaveRestAlone(t *testing.T) {
	for _, n := range sizes {
		p, targets := sized(t, n)
		now := time.Now()
		states := make(map[*endpoint.State]*PoolMember)
		for _, m := range p.Members {
			states[m.State] = m
			serve(t, m.State, now)
		}
		if got := awakeNow(p); got != n {
			t.Errorf("%d endpoints with calls: %d are looked at", n, got)
		}
		now = settleDown(p, now)
		if got := awakeNow(p); got != 0 {
			t.Errorf("%d endpoints at rest: %d are looked at", n, got)
		}
		busy := targets[n/2].State
		hide := func() { // makes a look at another endpoint panic
			for _, one := range targets {
				if one.State != busy {
					states[one.State].State, one.State = nil, nil
				}
			}
		}
		all := make([]*endpoint.State, n)
		for i, one := range targets {
			all[i] = one.State
		}
		show := func() {
			for i, one := range targets {
				one.State = all[i]
				states[all[i]].State = all[i]
			}
		}
		hide()
		p.Tick(now)
		p.endOverdue(now)
		f := begin(t, busy, now, time.Second)
		if got := awakeNow(p); got != 1 {
			t.Errorf("%d endpoints, one with an attempt: %d are looked at", n, got)
		}
		p.Tick(now)
		if inFlight, _ := p.endOverdue(now); inFlight != 1 {
			t.Errorf("%d endpoints: %d attempts in flight, want 1", n, inFlight)
		}
		show()
		settle(busy, f, now, outcome.Success)
		now = settleDown(p, now)
		hide()
		p.Tick(now)
		show()
	}
}

// TestWhatStirs checks that the next tick looks at an endpoint at rest if something begins there.
func TestWhatStirs(t *testing.T) {
	p, targets := sized(t, 3)
	now := time.Now()
	s, cfg := targets[1].State, defaultBreaker()
	serve(t, s, now)
	for _, event := range []struct {
		name string
		is   func()
	}{
		{"nothing", nil},
		{"a call", func() { serve(t, s, now) }},
		{"a failure", func() { settle(s, begin(t, s, now, time.Second), now, outcome.FailedStatus) }},
		{"a failover", func() { s.CountFailover("another", "status") }},
		{"a call recorded late", func() { s.CountCall(outcome.Cancelled, 0) }},
		{"a hold elsewhere", func() { s.For("").HearHold(now.Add(time.Minute), "rate_limited", "another", now) }},
		{"openings elsewhere", func() { s.For("").SetWary(true, now, cfg) }},
		{"an order", func() { s.Obey(api.Order{Action: api.Trip}, now, cfg) }},
		{"its end", func() { s.Obey(api.Order{Action: api.Enable}, now, cfg) }},
		{"a reset", func() { s.Obey(api.Order{Action: api.Reset}, now, cfg) }},
		{"a check", func() {
			s.AskChecks(&endpoint.CheckConfig{Interval: time.Second, FastInterval: time.Second, Passes: 1, Fails: 1}, now, 0)
			s.BeginCheck(now, time.Second)
			check := &endpoint.CheckConfig{Interval: time.Second, FastInterval: time.Second, Passes: 1, Fails: 1}
			s.EndCheck(now, check, cfg, endpoint.CheckResult{Why: "status 500"}, false)
		}},
	} {
		now = settleDown(p, now)
		s.Obey(api.Order{Action: api.Reset}, now, cfg)
		now = settleDown(p, now)
		want := 0
		if event.is != nil {
			event.is()
			want = 1
		}
		if got := awakeNow(p); got != want {
			t.Errorf("%s: %d endpoints are looked at, want %d", event.name, got, want)
		}
	}
}

// BenchmarkTick measures a tick of a pool at rest, with ten calls at one endpoint, and with ten calls at
// each endpoint.
func BenchmarkTick(b *testing.B) {
	for _, bench := range []struct {
		name string
		busy func(n int) int // endpoints with calls
	}{
		{"rest", func(int) int { return 0 }},
		{"one", func(int) int { return 1 }},
		{"all", func(n int) int { return n }},
	} {
		for _, n := range sizes {
			b.Run(fmt.Sprintf("%s/%d", bench.name, n), func(b *testing.B) {
				p, targets := sized(b, n)
				now := time.Now()
				for _, one := range targets {
					serve(b, one.State, now)
				}
				tick := func() {
					now = now.Add(TickEvery)
					p.Tick(now)
				}
				for range 20 {
					tick()
				}
				b.ReportAllocs()
				b.ResetTimer()
				for range b.N {
					if busy := bench.busy(n); busy > 0 {
						b.StopTimer()
						for _, one := range targets[:busy] {
							for range 10 {
								serve(b, one.State, now)
							}
						}
						b.StartTimer()
					}
					tick()
				}
			})
		}
	}
}

// BenchmarkWatch measures a look at three attempts in flight.
func BenchmarkWatch(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p, targets := sized(b, n)
			now := time.Now()
			for i := range 3 {
				begin(b, targets[i].State, now, time.Second)
			}
			for range 20 {
				now = now.Add(TickEvery)
				p.Tick(now)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				now = now.Add(watchAtMost)
				p.endOverdue(now)
			}
		})
	}
}

// BenchmarkRebuild measures a rebuild of the routing tables.
func BenchmarkRebuild(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p, _ := sized(b, n)
			now := time.Now()
			b.ReportAllocs()
			for range b.N {
				p.Rebuild(now)
			}
		})
	}
}
