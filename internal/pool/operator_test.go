package pool

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/target"
)

// TestOrdersEndByThemselves checks that orders end after their time, and only they.
func TestOrdersEndByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pool{Name: "bubble", Members: make(map[endpoint.Key]*PoolMember)}
		p.Outbox = event.NewOutbox(func(event.Event) {}, func(event.Event) {})
		defer p.Outbox.Close()
		p.Loop.start(p)
		defer p.Loop.stop()
		h := &Handler{Pool: p}
		h.Targets = []*target.Target{
			{Name: "one", Address: "one:80", Priority: 1, Weight: 1},
			{Name: "two", Address: "two:80", Priority: 2, Weight: 1},
		}
		if err := p.Attach(h, 1); err != nil {
			t.Fatal(err)
		}
		defer p.Detach(h)
		order := func(c api.Order) api.EndpointStatus {
			t.Helper()
			answer, err := p.Operate("one", c, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			return answer.Status
		}
		one := func() api.EndpointStatus {
			synctest.Wait()
			return p.Status(time.Now()).Endpoints[0]
		}
		weight, priority := 4.0, 2

		order(api.Order{Action: api.Drain, Lasts: time.Minute})
		order(api.Order{Action: api.Set, Weight: api.Change[float64]{Made: true, Value: &weight}, Lasts: 2 * time.Minute})
		if e := order(api.Order{Action: api.Set, Priority: api.Change[int]{Made: true, Value: &priority}}); e.Weight != 4 || e.Priority != 2 || e.Traffic != 0 {
			t.Errorf("all at once: %+v", e)
		}
		if part := h.Targets[0].State.For("").Available(time.Now(), h.BreakerConfig()); part != 0 {
			t.Errorf("a drained endpoint counts as %v available", part)
		}
		time.Sleep(time.Minute - time.Second)
		if e := one(); !e.Draining {
			t.Errorf("a second before: %+v", e)
		}
		time.Sleep(2 * time.Second)
		if e := one(); e.Draining || e.Operator != nil || e.Traffic != 0.8 || e.Weight != 4 {
			t.Errorf("a second after: %+v", e)
		}
		time.Sleep(time.Minute)
		if e := one(); e.Weight != 1 || e.Traffic != 0.5 || e.Priority != 2 || e.Override.Weight != nil || e.Override.Priority == nil {
			t.Errorf("after two minutes: %+v", e)
		}

		// The end of an order does not end the order that replaced it.
		order(api.Order{Action: api.Drain, Lasts: time.Minute})
		time.Sleep(30 * time.Second)
		order(api.Order{Action: api.Drain, Lasts: time.Minute})
		time.Sleep(45 * time.Second)
		if e := one(); !e.Draining {
			t.Errorf("the first drain ended the second: %+v", e)
		}
		time.Sleep(30 * time.Second)
		if e := one(); e.Draining {
			t.Errorf("the second drain goes on: %+v", e)
		}
		order(api.Order{Action: api.Trip, Lasts: time.Minute})
		order(api.Order{Action: api.Trip})
		time.Sleep(time.Hour)
		if e := one(); e.State != "forced_open" {
			t.Errorf("a trip without end has ended: %+v", e)
		}
		order(api.Order{Action: api.Enable, Lasts: time.Minute})
		time.Sleep(2 * time.Minute)
		if e := one(); e.State != "closed" || e.Operator != nil {
			t.Errorf("forced closed for a minute, after two: %+v", e)
		}
		if _, err := p.Operate("three", api.Order{Action: api.Drain}, time.Now()); err == nil ||
			err.Error() != `pool "bubble" has no endpoint "three"; it has "one", "two"` {
			t.Errorf("an unknown endpoint: %v", err)
		}
		order(api.Order{Action: api.Drain, Lasts: time.Minute}) // its timer ends with the pool, or the bubble fails
	})
}

// TestOrdersKeepDynamicEndpoints checks that a drained endpoint that DNS no longer names is still drained
// when it comes back.
func TestOrdersKeepDynamicEndpoints(t *testing.T) {
	p := &Pool{Name: "dynamic", Members: make(map[endpoint.Key]*PoolMember)}
	p.Outbox = event.NewOutbox(func(event.Event) {}, func(event.Event) {})
	defer p.Outbox.Close()
	p.Loop.start(p)
	defer p.Loop.stop()
	h := &Handler{Pool: p, Dynamic: &DynamicTargets{Known: make(map[string]*target.Target)}}
	h.NewTarget = func(address string) *target.Target {
		return &target.Target{Name: address, Address: address, Priority: 1, Weight: 1}
	}
	if err := p.Attach(h, 1); err != nil {
		t.Fatal(err)
	}
	defer p.Detach(h)
	now := time.Now()
	upstreams := func(addresses ...string) (set reverseproxy.UpstreamPool) {
		for _, address := range addresses {
			set = append(set, &reverseproxy.Upstream{Dial: address})
		}
		return set
	}
	h.TableFor(upstreams("a:80", "b:80", "c:80"), now)
	if _, err := p.Operate("a:80", api.Order{Action: api.Drain}, now); err != nil {
		t.Fatal(err)
	}
	h.TableFor(upstreams("c:80"), now)
	later := now.Add(endpoint.ForgetSeen + time.Minute)
	p.Mu.Lock()
	p.forgetLocked(later)
	p.Mu.Unlock()
	names := func() (names []string) {
		for _, e := range p.Status(later).Endpoints {
			names = append(names, e.Name)
		}
		slices.Sort(names)
		return names
	}
	if got := names(); slices.Contains(got, "b:80") || !slices.Contains(got, "a:80") {
		t.Fatalf("the pool knows %q", got)
	}
	table := h.TableFor(upstreams("a:80", "b:80"), later)
	if table.Share(0) != 0 || table.Share(1) != 1 {
		t.Errorf("back again: parts %v and %v", table.Share(0), table.Share(1))
	}
}
