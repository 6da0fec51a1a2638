package endpoint

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// noting is an owner that keeps the state's events.
type noting struct {
	heedless
	events []event.Event
}

func (n *noting) Emit(e event.Event) { n.events = append(n.events, e) }

// TestTransitionsAreEvents checks the event of each transition of a breaker.
func TestTransitionsAreEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		owner := new(noting)
		cfg := new(breaker.Defaults(time.Minute))
		s := &State{Key: Key{"one", "one:80"}, Owner: owner}
		do := func(o outcome.Outcome, retryAfter time.Duration) {
			a := &trip{began: time.Now(), idle: true}
			a.RetryAfter = retryAfter
			if !s.Acquire(a, time.Now(), cfg, nil, AdmitNormally) {
				t.Fatalf("no attempt in state %v", s.own.breaker.State)
			}
			s.Settle(a, time.Now(), cfg, o, true, NoDoubt)
		}
		expect := func(kind, reason string) event.Event {
			t.Helper()
			if len(owner.events) == 0 {
				t.Fatalf("no event, want %s", kind)
			}
			e := owner.events[0]
			owner.events = owner.events[1:]
			if e.Kind != kind || e.Reason != reason || e.Endpoint != "one" {
				t.Fatalf("got %+v, want %s because of %s", e, kind, reason)
			}
			return e
		}
		for range 5 {
			do(outcome.FailedReset, 0)
		}
		e := expect(event.BreakerOpened, breaker.ReasonConsecutive)
		if until := e.Details["until"].(time.Time); until.Sub(e.At) < 4*time.Second {
			t.Errorf("open until %v after %v", until, e.At)
		}
		time.Sleep(6 * time.Second)
		if changed, _, e := s.Tick(time.Now(), cfg); !changed || e == nil {
			t.Fatalf("tick: changed %v, event %+v", changed, e)
		} else {
			owner.Emit(e[0])
		}
		expect(event.BreakerRecovering, breaker.ReasonPeriodOver)
		do(outcome.Success, 0)
		for steps := 0; s.own.breaker.State == breaker.Recovering && steps < 50; steps++ {
			time.Sleep(cfg.Step)
			do(outcome.Success, 0)
			if _, _, e := s.Tick(time.Now(), cfg); e != nil {
				owner.Emit(e[0])
			}
		}
		expect(event.BreakerClosed, breaker.ReasonRecovered)
		do(outcome.RateLimited, 30*time.Second)
		e = expect(event.EndpointHeld, "rate_limited")
		if e.Details["seconds"] != 30.0 {
			t.Errorf("held: %+v", e)
		}
		s.ChangeBreaker(func(b *breaker.Breaker) { b.Force(time.Now(), breaker.ForcedOpen) })
		expect(event.BreakerOpened, breaker.ReasonOperator)
		s.ChangeBreaker(func(b *breaker.Breaker) {}) // nothing
		if len(owner.events) > 0 {
			t.Errorf("more events: %+v", owner.events)
		}
	})
}

// TestHoldEnds checks that the tick at the end of a hold changes the routing tables, and no other tick.
func TestHoldEnds(t *testing.T) {
	cfg := new(breaker.Defaults(time.Minute))
	s := &State{Key: Key{"one", "one:80"}, Owner: heedless{}}
	now := time.Now()
	a := &trip{began: now, idle: true}
	a.RetryAfter = time.Second
	s.Acquire(a, now, cfg, nil, AdmitNormally)
	s.Settle(a, now, cfg, outcome.RateLimited, true, NoDoubt)
	for _, step := range []struct {
		after   time.Duration
		changed bool
	}{{500 * time.Millisecond, false}, {time.Second, true}, {2 * time.Second, false}} {
		if changed, _, _ := s.Tick(now.Add(step.after), cfg); changed != step.changed {
			t.Errorf("after %v: changed is %v", step.after, changed)
		}
	}
}
