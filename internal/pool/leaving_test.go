package pool

import (
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/sla"
	"github.com/apifailover/caddy-failover/internal/target"
)

// TestWhatEndsAfterAnEndpointHasLeftIsCounted checks that attempts in flight at an endpoint that a reload
// removes count in the pool's calls, the history and the failovers.
func TestWhatEndsAfterAnEndpointHasLeftIsCounted(t *testing.T) {
	p := newTestPool("left")
	defer p.Outbox.Close()
	one, two := &target.Target{Name: "one", Address: "one:80", Weight: 1}, &target.Target{Name: "two", Address: "two:80", Weight: 1}
	old, now := handlerOf(t, p, one, two), time.Now()
	p.Tick(now)
	good, bad := begin(t, one.State, now, time.Second), begin(t, one.State, now, time.Second)
	next := &Handler{Pool: p, Targets: []*target.Target{{Name: "two", Address: "two:80", Weight: 1}}, Terms: old.Terms, Logger: old.Logger}
	if err := p.Attach(next, next); err != nil {
		t.Fatal(err)
	}
	next.GoLive()
	p.Detach(old)
	if p.memberLocked(one.State) != nil {
		t.Fatal("the endpoint is still in the pool")
	}
	p.Tick(now.Add(TickEvery))

	cfg := next.BreakerConfig()
	if one.State.Busy.Load() != 2 {
		t.Fatalf("%d in flight", one.State.Busy.Load())
	}
	one.State.SettleAnswer(good, now, cfg, outcome.Success, true)
	one.State.CountFailover("two", "reset")
	one.State.Settle(bad, now, cfg, outcome.FailedReset, true, endpoint.NoDoubt)
	p.Tick(now.Add(2 * TickEvery))
	one.State.CountCall(outcome.FailedReset, 0) // the request's goroutine is a little later
	p.Tick(now.Add(3 * TickEvery))

	if got, want := counts(p, t, ""), (sla.Counts{Calls: 2, Failures: failed(sla.Reset, 1)}); got != want {
		t.Errorf("the pool: %+v, want %+v", got, want)
	}
	if got := p.calls.Counts(); got.Calls != 2 || got.Failures.Total() != 1 {
		t.Errorf("calls: %+v", got)
	}
	if got, want := counts(p, t, "one"), (sla.Counts{Calls: 2, Failures: failed(sla.Reset, 1)}); got != want {
		t.Errorf("the endpoint: %+v, want %+v", got, want)
	}
	for i := range 5 {
		p.Tick(now.Add(time.Duration(4+i) * TickEvery))
	}
	if n := len(p.leaving.all()); n != 0 {
		t.Errorf("the pool still folds %d endpoints that have left", n)
	}
}

// agreeing are terms that agree with all others.
type agreeing struct{}

func (agreeing) AgreesWith(Terms) error { return nil }

// TestADynamicHandlerHidesNoOutage checks that a pool is down if all known endpoints are out, although
// another handler has had no request yet, and so has no endpoint.
func TestADynamicHandlerHidesNoOutage(t *testing.T) {
	p := newTestPool("hidden")
	defer p.Outbox.Close()
	one := &target.Target{Name: "one", Address: "one:80", Weight: 1}
	h := handlerOf(t, p, one)
	h.Terms = agreeing{}
	dynamic := &Handler{Pool: p, Terms: h.Terms, Logger: h.Logger, Dynamic: &DynamicTargets{Known: make(map[string]*target.Target)}}
	if err := p.Attach(dynamic, h); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	p.Tick(now)
	for _, first := range []bool{true, false} {
		if p.Status(now).Down {
			t.Fatal("down before anything has failed")
		}
		for i := 0; !isOpen(one.State, now); i++ {
			if i > 10 {
				t.Fatal("it does not open")
			}
			settle(one.State, begin(t, one.State, now, time.Second), now, outcome.FailedReset)
		}
		p.Poke()
		p.Tick(now)
		if !p.Status(now).Down || !p.down.Load() {
			t.Errorf("the pool is not down (first %v)", first)
		}
		one.State.ChangeBreaker(func(b *breaker.Breaker) { b.Reset(now) })
		p.Poke()
		p.Tick(now)
		p.generation.Load().handlers[0], p.generation.Load().handlers[1] = p.generation.Load().handlers[1], p.generation.Load().handlers[0]
	}
}
