package failover

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/pool"
	"github.com/apifailover/caddy-failover/internal/target"
)

// anomaliesOf are the anomalies of the pool's endpoints since an event, as
// "endpoint kind begins" and "... ends".
func anomaliesOf(pool string, since uint64) (story []string, list []event.Event) {
	for _, e := range event.Latest.Since(since) {
		if e.Kind != event.Anomaly || e.Pool != pool {
			continue
		}
		what := "ends"
		if e.Details["began"] == true {
			what = "begins"
		}
		story = append(story, fmt.Sprintf("%s %s %s", e.Endpoint, e.Reason, what))
		list = append(list, e)
	}
	return story, list
}

func newestEvent() uint64 {
	event.Latest.Mu.Lock()
	defer event.Latest.Mu.Unlock()
	return event.Latest.Newest
}

// TestAnomaliesAreEvents: traffic becomes slower, and in the end stops.
func TestAnomaliesAreEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		since := newestEvent()
		l := newLab(t, &Policy{}, "one:80", "two:80")
		at := func(median time.Duration) {
			l.on("one:80", func(r *http.Request) (*http.Response, error) {
				return after(time.Duration(float64(median)*(0.8+0.4*rand.Float64())), http.StatusOK)(r)
			})
		}
		at(10 * time.Millisecond)
		l.load(2, 20*time.Minute)
		if story, _ := anomaliesOf(t.Name(), since); len(story) > 0 {
			t.Errorf("nothing is unusual yet, and %v", story)
		}
		at(20 * time.Millisecond)
		l.load(2, 3*time.Minute)
		story, list := anomaliesOf(t.Name(), since)
		if !slices.Equal(story, []string{"one:80 latency begins"}) {
			t.Fatalf("latency doubled: %v", story)
		}
		if e := list[0]; e.Details["expected"].(float64) > 0.012 || e.Details["seen"].(float64) < 0.017 {
			t.Errorf("expected and seen: %v", e.Details)
		}
		at(10 * time.Millisecond)
		l.load(2, 10*time.Minute)
		time.Sleep(2 * time.Minute)
		story, _ = anomaliesOf(t.Name(), since)
		if !slices.Equal(story, []string{"one:80 latency begins", "one:80 latency ends", "one:80 traffic begins"}) {
			t.Errorf("back to normal, and then no calls: %v", story)
		}
		time.Sleep(10 * time.Minute)
		if !l.policy.Pool.Loop.Parked.Load() {
			t.Error("the loop of an idle pool goes on")
		}
	})
}

// TestFlappingStaysOutLonger: an endpoint that fails as soon as it is back loses
// more and more of its chances.
func TestFlappingStaysOutLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		since := newestEvent()
		l := newLab(t, &Policy{Breaker: &Breaker{OpenFor: caddy.Duration(2 * time.Second), Step: caddy.Duration(100 * time.Millisecond)}},
			"one:80", "two:80")
		one := l.stateOf("one:80")
		var periods []time.Duration
		for range 5 {
			l.on("one:80", after(time.Millisecond, http.StatusServiceUnavailable))
			l.load(50, 500*time.Millisecond)
			c := copyNow(one)
			if c.breaker.State != breaker.Open {
				t.Fatalf("%v", c.breaker.State)
			}
			periods = append(periods, c.breaker.Until.Sub(c.breaker.Changed))
			l.on("one:80", after(time.Millisecond, http.StatusOK))
			for breakerNow(one) != breaker.Closed {
				l.load(50, 100*time.Millisecond)
			}
		}
		story, _ := anomaliesOf(t.Name(), since)
		if !slices.Contains(story, "one:80 flapping begins") {
			t.Errorf("%v", story)
		}
		t.Logf("out for %v", periods)
		lasted(t, "at first", periods[0], 1600*time.Millisecond, 2400*time.Millisecond)
		if last := periods[len(periods)-1]; last < 5*time.Second {
			t.Errorf("flaps, and is out for %v", last)
		}
		// it is forgiven in time
		l.load(5, 15*time.Minute)
		story, _ = anomaliesOf(t.Name(), since)
		if c := copyNow(one); !slices.Contains(story, "one:80 flapping ends") || c.breaker.Flapping || c.breaker.Relapses > 0 {
			t.Errorf("calm for 15 minutes: %v, %d relapses", story, c.breaker.Relapses)
		}
	})
}

// TestOutageIsNoFlapping: an endpoint that stays down is tried again and again.
func TestOutageIsNoFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		since := newestEvent()
		l := newLab(t, &Policy{Breaker: &Breaker{OpenFor: caddy.Duration(time.Second), OpenMax: caddy.Duration(2 * time.Second)}}, "one:80", "two:80")
		l.on("one:80", after(time.Millisecond, http.StatusServiceUnavailable))
		l.load(50, 2*time.Minute)
		if story, _ := anomaliesOf(t.Name(), since); slices.Contains(story, "one:80 flapping begins") {
			t.Errorf("%v", story)
		}
	})
}

// TestStandbyShare: a part of the calls goes to the reserve, whose failures no
// client sees.
func TestStandbyShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &Policy{StandbyShare: 0.05}, "one:80", "two:80", "three:80")
		s := l.load(200, time.Minute)
		two, three := totalsNow(l.stateOf("two:80")).Attempts, totalsNow(l.stateOf("three:80")).Attempts
		if part := float64(two+three) / float64(s.calls); part < 0.04 || part > 0.06 || two < three/2 || three < two/2 {
			t.Errorf("%d and %d of %d calls", two, three, s.calls)
		}
		l.on("two:80", after(time.Millisecond, http.StatusServiceUnavailable))
		l.on("three:80", func(*http.Request) (*http.Response, error) { return nil, errCut })
		if s := l.load(200, time.Minute); s.failed > 0 {
			t.Errorf("%d calls failed", s.failed)
		}
		// what may not be sent again is not sent to the reserve
		l.stateOf("two:80").ChangeBreaker(func(br *breaker.Breaker) { br.Reset(time.Now()) })
		time.Sleep(time.Second)
		before := totalsNow(l.stateOf("two:80")).Attempts
		for range 500 {
			if status := l.call(http.MethodPost, "/", "").Code; status != http.StatusOK {
				t.Fatalf("status %d", status)
			}
		}
		if n := totalsNow(l.stateOf("two:80")).Attempts - before; n > 0 {
			t.Errorf("%d of 500 POSTs went to the reserve", n)
		}
	})
}

// BenchmarkTick1000 is the control loop's tick for 1,000 endpoints of one tier
// that all have news; rebuilt has to make new tables as well, which is rare.
func BenchmarkTick1000(b *testing.B) {
	for _, rebuilt := range []bool{false, true} {
		b.Run(map[bool]string{false: "steady", true: "rebuilt"}[rebuilt], func(b *testing.B) {
			p := &pool.Pool{Members: make(map[endpoint.Key]*pool.PoolMember)}
			p.Loop.Wake = make(chan struct{}, 1)
			p.Outbox = event.NewOutbox(func(event.Event) {}, func(event.Event) {})
			defer p.Outbox.Close()
			h := &pool.Handler{Pool: p}
			g := &pool.Generation{Handlers: []*pool.Handler{h}}
			g.Breaker.Store((*Breaker)(nil).config(time.Minute))
			h.Generation = g
			for i := range 1000 {
				s := &endpoint.State{Key: endpoint.Key{Name: fmt.Sprint(i), Address: ""}, Owner: p}
				p.Members[s.Key] = &pool.PoolMember{State: s}
				h.Targets = append(h.Targets, &target.Target{
					Name: s.Name, Priority: 1, Weight: 1, State: s, Upstream: &reverseproxy.Upstream{},
				})
			}
			p.Generation.Store(g)
			p.Attached = []*pool.Generation{g}
			now := time.Unix(1e9, 0)
			h.Rebuild(now)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				for _, s := range p.Members {
					for range 3 {
						s.Tally.Calls++
						s.Tally.Latencies++
						s.Tally.LogLatency -= 6
						s.Slowness.Learn(2*time.Millisecond, false, true)
					}
				}
				now = now.Add(pool.TickEvery)
				if rebuilt {
					p.Loop.Poked.Store(true)
				}
				b.StartTimer()
				p.Tick(now)
			}
		})
	}
}
