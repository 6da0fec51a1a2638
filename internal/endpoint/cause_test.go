package endpoint

import (
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// told keeps the events of a state.
type told struct {
	heedless
	events []event.Event
}

func (o *told) Emit(e event.Event) { o.events = append(o.events, e) }

// fail makes an attempt that fails for a reason.
func (r *stateRun) fail(o outcome.Outcome, what string) {
	r.t.Helper()
	a := r.begin(AdmitAnyway)
	if a == nil {
		r.t.Fatal("no attempt")
	}
	r.s.SettleFor(what, a, r.now, r.cfg, o, true, NoDoubt)
}

// TestWhyABreakerOpened checks that the event of an opening and the status have the cause, its request
// and its number.
func TestWhyABreakerOpened(t *testing.T) {
	cfg := breaker.Defaults(time.Minute)
	r := newStateRun(t, &cfg)
	owner := new(told)
	r.s.Owner = owner
	r.fail(outcome.FailedReset, "connection reset by peer")
	for range 4 {
		r.now = r.now.Add(time.Second)
		r.fail(outcome.FailedStatus, "503")
	}
	if len(owner.events) != 1 {
		t.Fatalf("events: %+v", owner.events)
	}
	e := owner.events[0]
	for name, want := range map[string]any{"cause": "503", "method": "POST", "path": "/v1/chat", "failures": uint64(4)} {
		if e.Details[name] != want {
			t.Errorf("%s is %v, want %v", name, e.Details[name], want)
		}
	}
	status := r.s.Status(r.now, r.cfg)
	if c := status.Cause; c == nil || c.What != "503" || c.Method != "POST" || c.Path != "/v1/chat" || c.Outcome != "status" || c.Count != 4 || !c.At.Equal(r.now) {
		t.Errorf("cause: %+v", status.Cause)
	}
	r.now = r.now.Add(time.Second)
	r.fail(outcome.FailedTimeout, "timeout after 2s")
	status = r.s.Status(r.now, r.cfg)
	if f := status.LastFailure; f == nil || f.What != "timeout after 2s" || f.Outcome != "timeout" || f.Count != 1 {
		t.Errorf("last failure: %+v", f)
	}
	r.s.ChangeBreaker(func(b *breaker.Breaker) { b.Reset(r.now) })
	if status = r.s.Status(r.now, r.cfg); status.Cause != nil || status.LastFailure != nil {
		t.Errorf("closed: cause %+v, last failure %+v", status.Cause, status.LastFailure)
	}
	r.s.ChangeBreaker(func(b *breaker.Breaker) { b.Force(r.now, breaker.ForcedOpen) })
	if status = r.s.Status(r.now, r.cfg); status.Cause != nil {
		t.Errorf("tripped: cause %+v", status.Cause)
	}
}

// TestHowOften checks that old failures no longer count, and that only the latest kinds are kept.
func TestHowOften(t *testing.T) {
	var c causes
	now := epoch
	add := func(what string, closed bool) uint64 {
		c.add(Cause{What: what}, now, closed)
		return c.latest().often()
	}
	for i := range uint64(10) {
		if n := add("503", true); n != i+1 {
			t.Errorf("failure %d counts as %d", i+1, n)
		}
	}
	now = now.Add(oftenWithin)
	if n := add("503", true); n != 11 {
		t.Errorf("just after: %d", n)
	}
	now = now.Add(2 * oftenWithin)
	if n := add("503", true); n != 1 {
		t.Errorf("long after: %d", n)
	}
	now = now.Add(time.Hour)
	if n := add("503", false); n != 2 {
		t.Errorf("while it is open: %d", n)
	}
	for _, what := range []string{"a", "b", "c", "d"} {
		now = now.Add(time.Second)
		add(what, true)
	}
	if c.of(Cause{What: "503"}) != nil || c.of(Cause{What: "a"}) == nil || c.latest().What != "d" {
		t.Errorf("kept: %+v", c.list)
	}
	now = now.Add(-time.Hour) // the clock jumps back
	if n := add("d", true); n != 1 {
		t.Errorf("the clock jumped back: %d", n)
	}
}

// TestWhyHeldAndSlow checks the causes of holds and of openings by slowness.
func TestWhyHeldAndSlow(t *testing.T) {
	cfg := breaker.Defaults(time.Minute)
	r := newStateRun(t, &cfg)
	owner := new(told)
	r.s.Owner = owner
	r.fail(outcome.RateLimited, "429")
	if len(owner.events) != 1 || owner.events[0].Kind != event.EndpointHeld || owner.events[0].Details["cause"] != "429" || owner.events[0].Details["path"] != "/v1/chat" {
		t.Errorf("held: %+v", owner.events)
	}
	cfg.SlowRatio, cfg.SlowAfter, cfg.MinRequests = 0.5, time.Second, 2
	r = newStateRun(t, &cfg)
	r.s.Owner, owner.events = owner, nil
	for range 2 {
		a := r.begin(AdmitNormally)
		a.began, a.latency = r.now.Add(-2*time.Second), 2*time.Second
		r.s.Settle(a, r.now, r.cfg, outcome.Success, true, NoDoubt)
	}
	if len(owner.events) != 1 || owner.events[0].Reason != breaker.ReasonSlow || owner.events[0].Details["cause"] != "no response within 1s" || owner.events[0].Details["path"] != "/v1/chat" {
		t.Errorf("slow: %+v", owner.events)
	}
	if c := r.s.Status(r.now, r.cfg).Cause; c == nil || c.Outcome != "" {
		t.Errorf("the cause of an opening by slowness: %+v", c)
	}
}

// TestATransitionAndAHoldAreBothEvents checks a tick that causes both.
func TestATransitionAndAHoldAreBothEvents(t *testing.T) {
	cfg := breaker.Defaults(time.Minute)
	r := newStateRun(t, &cfg)
	owner := new(told)
	r.s.Owner = owner
	limited := r.begin(AdmitNormally)
	for range 5 {
		r.fail(outcome.FailedReset, "connection reset by peer")
	}
	if len(owner.events) != 1 {
		t.Fatalf("events: %+v", owner.events)
	}
	limited.RetryAfter = time.Minute
	r.now = r.now.Add(time.Minute) // the open period is over, and nothing has ticked
	r.s.Settle(limited, r.now.Add(-time.Second), r.cfg, outcome.RateLimited, true, Doubted)
	_, _, news := r.s.Tick(r.now, r.cfg)
	kinds := map[string]int{}
	for _, e := range news {
		kinds[e.Kind]++
	}
	if len(news) != 2 || kinds[event.EndpointHeld] != 1 || kinds[event.BreakerRecovering] != 1 {
		t.Errorf("events: %+v", news)
	}
}
