package pool

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/fleet"
	"github.com/apifailover/caddy-failover/internal/fleettest"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/quota"
	"github.com/apifailover/caddy-failover/internal/target"
)

// An edge is a pool of an instance in a fleet.
type edge struct {
	*Pool
	t    *testing.T
	node *fleet.Node
	h    *Handler
	stop func()
}

// newEdge starts an instance with the endpoints one and two, and more. key is the credential of one.
func newEdge(t *testing.T, hub *fleettest.Hub, name, key string, more ...*target.Target) *edge {
	t.Helper()
	p := &Pool{Name: "api", Members: make(map[endpoint.Key]*PoolMember)}
	p.Outbox = event.NewOutbox(func(event.Event) {}, func(event.Event) {})
	e := &edge{Pool: p, t: t}
	e.node = fleet.NewNode(fleet.Settings{
		Fleet: "eu", Instance: name,
		Take: func(f *fleet.Fact, live bool, now time.Time) { p.Hear(f, live, now) },
		Active: func(since time.Time) []string {
			endpoints, scopes := p.places(since)
			return append(endpoints, scopes...)
		},
	})
	p.Fleet = e.node
	leave := e.node.Run(hub)
	p.Loop.start(p)
	e.h = &Handler{Pool: p, ScopedBy: "json model"}
	e.h.Targets = []*target.Target{
		{Name: "one", Address: "one:80", Priority: 1, Weight: 1, Headers: &headers.HeaderOps{Set: http.Header{"Authorization": {"Bearer " + key}}}},
		{Name: "two", Address: "two:80", Priority: 2, Weight: 1},
	}
	e.h.Targets = append(e.h.Targets, more...)
	if err := p.Attach(e.h, 1); err != nil {
		t.Fatal(err)
	}
	e.stop = func() {
		leave()
		p.Detach(e.h)
		p.Loop.stop()
		p.Outbox.Close()
	}
	return e
}

// fleetOf runs a test with n instances, named a, b, c and so on, that know each other.
func fleetOf(t *testing.T, n int, test func(hub *fleettest.Hub, edges []*edge)) {
	synctest.Test(t, func(t *testing.T) {
		hub := fleettest.NewHub()
		var edges []*edge
		for i := range n {
			e := newEdge(t, hub, string(rune('a'+i)), "key")
			defer e.stop()
			edges = append(edges, e)
		}
		time.Sleep(time.Second)
		test(hub, edges)
	})
}

func (e *edge) one() *endpoint.State { return e.h.Targets[0].State }

// call makes an attempt at one, which ends with an outcome.
func (e *edge) call(o outcome.Outcome, retryAfter time.Duration) {
	e.t.Helper()
	now := time.Now()
	f := begin(e.t, e.one(), now, time.Minute)
	f.RetryAfter = retryAfter
	e.Watch(time.Minute)
	e.one().Settle(f, now, e.breakerConfig(), o, true, endpoint.NoDoubt)
}

func (e *edge) fails(n int) {
	e.t.Helper()
	for range n {
		e.call(outcome.FailedStatus, 0)
	}
}

func (e *edge) status() api.EndpointStatus { return e.Status(time.Now()).Endpoints[0] }

func soon() { time.Sleep(50 * time.Millisecond) }

func TestHoldAtOneIsAHoldAtAll(t *testing.T) {
	fleetOf(t, 3, func(hub *fleettest.Hub, edges []*edge) {
		other := newEdge(t, hub, "z", "another key")
		defer other.stop()
		edges[0].call(outcome.RateLimited, 20*time.Second)
		soon()
		for i, e := range edges {
			if left := time.Until(e.status().HeldUntil); left < 19*time.Second || left > 20*time.Second {
				t.Errorf("edge %d holds for %v", i, left)
			}
		}
		if !other.status().HeldUntil.IsZero() {
			t.Error("the endpoint of another key is held")
		}
		time.Sleep(20 * time.Second)
		for i, e := range edges {
			if !e.status().HeldUntil.IsZero() {
				t.Errorf("edge %d holds until %v", i, e.status().HeldUntil)
			}
		}
	})
}

// TestEndpointsOfOneURLAreApart checks that a drain and a hold at one of several endpoints with the same URL and credentials concern the same
// one at others.
func TestEndpointsOfOneURLAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := fleettest.NewHub()
		var edges []*edge
		for _, name := range []string{"a", "b"} {
			twin := func(name string) *target.Target {
				return &target.Target{
					Name: name, Address: "one:80", Priority: 3, Weight: 1, Headers: &headers.HeaderOps{Set: http.Header{"Authorization": {"Bearer key"}}},
				}
			}
			e := newEdge(t, hub, name, "key", twin("small"), twin("tiny"))
			defer e.stop()
			edges = append(edges, e)
		}
		time.Sleep(time.Second)
		for i, name := range []string{"one", "small", "tiny"} {
			if _, err := edges[i%2].Operate(name, api.Order{Action: api.Drain}, time.Now()); err != nil {
				t.Fatal(err)
			}
			soon()
			for k, e := range edges {
				for _, s := range e.Status(time.Now()).Endpoints {
					if s.Draining != (s.Name == name) {
						t.Errorf("after a drain of %s, instance %d drains %s: %v", name, k, s.Name, s.Draining)
					}
				}
			}
			if _, err := edges[(i+1)%2].Operate(name, api.Order{Action: api.Enable}, time.Now()); err != nil {
				t.Fatal(err)
			}
			soon()
		}
		edges[0].call(outcome.RateLimited, 20*time.Second)
		soon()
		for _, s := range edges[1].Status(time.Now()).Endpoints {
			if s.HeldUntil.IsZero() == (s.Name == "one") {
				t.Errorf("%s is held until %v", s.Name, s.HeldUntil)
			}
		}
	})
}

// TestAConfigurationThatDoesNotStartChangesNothingShared checks that an endpoint is the same one for the fleet after a configuration
// with other credentials for it, or with endpoints in another order, was loaded in vain.
func TestAConfigurationThatDoesNotStartChangesNothingShared(t *testing.T) {
	bearer := func(name, key string) *target.Target {
		return &target.Target{
			Name: name, Address: "one:80", Priority: 1, Weight: 1, Headers: &headers.HeaderOps{Set: http.Header{"Authorization": {"Bearer " + key}}},
		}
	}
	for what, targets := range map[string][]*target.Target{
		"other credentials": {bearer("one", "another key"), bearer("small", "key")},
		"another order":     {bearer("small", "key"), bearer("one", "key")},
		"one of two":        {bearer("small", "key")},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := fleettest.NewHub()
				var edges []*edge
				for _, name := range []string{"a", "b"} {
					e := newEdge(t, hub, name, "key", bearer("small", "key"))
					defer e.stop()
					edges = append(edges, e)
				}
				time.Sleep(time.Second)
				failed := &Handler{Pool: edges[0].Pool, ScopedBy: "json model", Targets: targets}
				if err := edges[0].Attach(failed, 2); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				edges[0].Detach(failed)
				time.Sleep(time.Second)
				for _, name := range []string{"one", "small"} {
					if _, err := edges[1].Operate(name, api.Order{Action: api.Drain}, time.Now()); err != nil {
						t.Fatal(err)
					}
					soon()
					for _, s := range edges[0].Status(time.Now()).Endpoints {
						if s.Draining != (s.Name == name) {
							t.Errorf("after a drain of %s, %s drains: %v", name, s.Name, s.Draining)
						}
					}
					if _, err := edges[1].Operate(name, api.Order{Action: api.Enable}, time.Now()); err != nil {
						t.Fatal(err)
					}
					soon()
				}
			})
		})
	}
}

// TestAReloadSharesItsCredentials checks that an endpoint whose credentials a reload replaces is another one for the fleet.
func TestAReloadSharesItsCredentials(t *testing.T) {
	fleetOf(t, 2, func(_ *fleettest.Hub, edges []*edge) {
		next := &Handler{Pool: edges[0].Pool, ScopedBy: "json model", Targets: []*target.Target{
			{Name: "one", Address: "one:80", Priority: 1, Weight: 1, Headers: &headers.HeaderOps{Set: http.Header{"Authorization": {"Bearer new"}}}},
		}}
		if err := edges[0].Attach(next, 2); err != nil {
			t.Fatal(err)
		}
		old := edges[0].id()
		next.GoLive()
		soon()
		if edges[0].id() == old {
			t.Error("the endpoint is the same as with the old credentials")
		}
		edges[0].Detach(edges[0].h)
		edges[0].h = next
		soon()
		if edges[0].id() == old {
			t.Error("it is the same again after the old configuration has ended")
		}
	})
}

func TestLongestHoldWinsUpToFiveMinutes(t *testing.T) {
	fleetOf(t, 2, func(_ *fleettest.Hub, edges []*edge) {
		edges[0].call(outcome.RateLimited, time.Hour)
		soon()
		if left := time.Until(edges[1].status().HeldUntil); left > 5*time.Minute || left < 5*time.Minute-time.Second {
			t.Errorf("the other holds for %v", left)
		}
		if left := time.Until(edges[0].status().HeldUntil); left < 5*time.Minute-time.Second {
			t.Errorf("it holds for %v itself", left)
		}
	})
}

func TestDenialAtOneIsADenialAtAll(t *testing.T) {
	fleetOf(t, 2, func(_ *fleettest.Hub, edges []*edge) {
		for range 3 {
			edges[0].call(outcome.Denied, 0)
		}
		soon()
		if s := edges[1].status(); s.HeldReason != "denied" || s.State != "closed" {
			t.Errorf("the other is %s, held for %q", s.State, s.HeldReason)
		}
		if _, err := edges[0].Operate("one", api.Order{Action: api.Reset, Where: api.Here}, time.Now()); err != nil {
			t.Fatal(err)
		}
		soon()
		if s := edges[1].status(); !s.HeldUntil.IsZero() {
			t.Errorf("the other is still held until %v", s.HeldUntil)
		}
	})
}

func TestOneThatOpensTakesNothingOut(t *testing.T) {
	fleetOf(t, 3, func(_ *fleettest.Hub, edges []*edge) {
		edges[0].fails(5)
		soon()
		if s := edges[0].status(); s.State != "open" || s.Fleet == nil || s.Fleet.Open != 1 || s.Fleet.Instances != 3 {
			t.Errorf("it is %s, the fleet says %+v", s.State, s.Fleet)
		}
		for _, e := range edges[1:] {
			if s := e.status(); s.State != "closed" || s.Share != 1 || s.Fleet.Wary || s.Fleet.Open != 1 {
				t.Errorf("another is %s with a share of %v, the fleet says %+v", s.State, s.Share, s.Fleet)
			}
			e.fails(4)
			if s := e.status(); s.State != "closed" {
				t.Errorf("another is %s after four failures", s.State)
			}
		}
	})
}

func TestTwoOfThreeThatOpenMakeTheThirdWary(t *testing.T) {
	fleetOf(t, 3, func(_ *fleettest.Hub, edges []*edge) {
		third := edges[2]
		third.call(outcome.Success, 0)
		edges[0].fails(5)
		edges[1].fails(5)
		soon()
		if s := third.status(); s.State != "closed" || s.Share != breaker.WaryShare || !s.Fleet.Wary || s.Fleet.Open != 2 {
			t.Fatalf("the third is %s with a share of %v, the fleet says %+v", s.State, s.Share, s.Fleet)
		}
		third.fails(1)
		if s := third.status(); s.State != "open" || s.Reason != breaker.ReasonWary {
			t.Errorf("after one failure the third is %s (%s)", s.State, s.Reason)
		}
	})
}

func TestSuccessEndsWariness(t *testing.T) {
	fleetOf(t, 3, func(_ *fleettest.Hub, edges []*edge) {
		third := edges[2]
		edges[0].fails(5)
		edges[1].fails(5)
		soon()
		third.call(outcome.Success, 0)
		third.fails(1)
		if s := third.status(); s.State != "closed" || s.Share != 1 || s.Fleet.Wary {
			t.Errorf("the third is %s with a share of %v", s.State, s.Share)
		}
	})
}

// TestMostOfThoseWithCallsMustAgree checks that two of six instances with calls make no other wary.
func TestMostOfThoseWithCallsMustAgree(t *testing.T) {
	fleetOf(t, 7, func(_ *fleettest.Hub, edges []*edge) {
		for range 3 { // until all have said that they have calls
			for _, e := range edges[1:] {
				e.call(outcome.Success, 0)
			}
			time.Sleep(time.Second)
		}
		edges[1].fails(5)
		edges[2].fails(5)
		soon()
		if edges[6].status().Fleet.Wary {
			t.Error("it is wary although two of six have opened")
		}
		if open := edges[0].status().Fleet.Open; open != 2 {
			t.Errorf("%d are known to have opened", open)
		}
		edges[3].fails(5)
		soon()
		if !edges[6].status().Fleet.Wary {
			t.Error("it is not wary although three of six have opened")
		}
	})
}

func TestOrdersGoToAllUnlessTheyAreForHere(t *testing.T) {
	fleetOf(t, 3, func(hub *fleettest.Hub, edges []*edge) {
		operate := func(e *edge, o api.Order) {
			t.Helper()
			answer, err := e.Operate("one", o, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if answer.Fleet != (o.Where != api.Here) {
				t.Errorf("told the fleet: %v", answer.Fleet)
			}
			soon()
		}
		want := func(what string, states ...string) {
			t.Helper()
			for i, e := range edges {
				s := e.status()
				if got := fmt.Sprint(s.Draining, " ", s.State, " ", s.Weight); got != states[min(i, len(states)-1)] {
					t.Errorf("%s: edge %d has %s", what, i, got)
				}
			}
		}
		weight := 4.0
		operate(edges[0], api.Order{Action: api.Drain, Lasts: time.Minute})
		want("a drain", "true closed 1")
		operate(edges[1], api.Order{Action: api.Set, Weight: api.Change[float64]{Made: true, Value: &weight}})
		want("a weight", "true closed 4")
		operate(edges[2], api.Order{Action: api.Enable, Where: api.Here})
		want("an enabling here", "true closed 4", "true closed 4", "false closed 4")
		time.Sleep(time.Minute)
		want("the end of the drain", "false closed 4")
		operate(edges[2], api.Order{Action: api.Trip})
		want("a trip", "false forced_open 4")

		late := newEdge(t, hub, "late", "key")
		defer late.stop()
		time.Sleep(time.Second)
		if s := late.status(); s.State != "forced_open" || s.Weight != 4 {
			t.Errorf("a latecomer has %s and weight %v", s.State, s.Weight)
		}
		operate(edges[0], api.Order{Action: api.Reset})
		want("a reset", "false closed 4")
		operate(edges[0], api.Order{Action: api.Set, Weight: api.Change[float64]{Made: true}})
		want("the configured weight", "false closed 1")
	})
}

// TestOrdersOfOneMomentAreOneOrder checks that all obey the same one of two orders that two instances get at the same time.
func TestOrdersOfOneMomentAreOneOrder(t *testing.T) {
	fleetOf(t, 3, func(_ *fleettest.Hub, edges []*edge) {
		for i, first := range []int{0, 1, 0} {
			for k, action := range []string{api.Drain, api.Trip} {
				if _, err := edges[(first+k)%2].Operate("one", api.Order{Action: action}, time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(2 * time.Second)
			want := edges[2].status()
			for k, e := range edges {
				if s := e.status(); s.Draining != want.Draining || s.State != want.State {
					t.Errorf("time %d: instance %d has draining %v and is %s, instance 2 has %v and is %s", i, k, s.Draining, s.State, want.Draining, want.State)
				}
			}
		}
	})
}

// TestOrdersOutliveAllProcesses checks that orders are still in force if all instances end and start
// again, and the engine remembers.
func TestOrdersOutliveAllProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := fleettest.NewHub()
		a := newEdge(t, hub, "a", "key")
		time.Sleep(time.Second)
		if _, err := a.Operate("one", api.Order{Action: api.Drain, Lasts: time.Hour, Reason: "moving house"}, time.Now()); err != nil {
			t.Fatal(err)
		}
		soon()
		a.stop()
		time.Sleep(10 * time.Minute)
		a = newEdge(t, hub, "a", "key")
		time.Sleep(time.Second)
		s := a.status()
		if !s.Draining || s.Operator == nil || s.Operator.Reason != "moving house" {
			t.Fatalf("after a restart: %+v", s)
		}
		if left := time.Until(s.Operator.Until); left > 50*time.Minute || left < 49*time.Minute {
			t.Errorf("after ten minutes %v are left", left)
		}
		time.Sleep(50 * time.Minute)
		if a.status().Draining {
			t.Error("the drain goes on after its time")
		}
		a.stop()
		a = newEdge(t, hub, "a", "key")
		time.Sleep(time.Second)
		if a.status().Draining {
			t.Error("a drain whose time is over is in force after a restart")
		}
		a.stop()
	})
}

func TestOrderForTheFleetNeedsOne(t *testing.T) {
	p := newTestPool("alone")
	h := handlerOf(t, p, &target.Target{Name: "one", Address: "one:80", Priority: 1, Weight: 1})
	_ = h
	if _, err := p.Operate("one", api.Order{Action: api.Drain, Where: api.InFleet}, time.Now()); err != ErrNoFleet {
		t.Errorf("got error %v", err)
	}
	if answer, err := p.Operate("one", api.Order{Action: api.Drain}, time.Now()); err != nil || answer.Fleet {
		t.Errorf("got %+v, error %v", answer, err)
	}
}

// TestOneTriesForAll: while an endpoint is out at all instances, they try it in turn, and all are back soon
// after a trial has succeeded.
func TestOneTriesForAll(t *testing.T) {
	fleetOf(t, 8, func(_ *fleettest.Hub, edges []*edge) {
		for _, e := range edges {
			for range 5 { // one opens after the other, those that are wary at one failure
				if e.status().State == "closed" {
					e.fails(1)
				}
			}
			soon()
		}
		trials := 0
		begin := func(e *edge) *fakeAttempt {
			f := &fakeAttempt{began: time.Now(), latency: time.Millisecond, patience: time.Minute}
			e.Watch(time.Minute)
			if !e.one().Acquire(f, time.Now(), e.breakerConfig(), nil, endpoint.AdmitNormally) {
				return nil
			}
			return f
		}
		for range 600 { // a minute: each alone would try six times and more
			time.Sleep(100 * time.Millisecond)
			for _, e := range edges {
				if f := begin(e); f != nil {
					trials++
					e.one().Settle(f, time.Now(), e.breakerConfig(), outcome.FailedStatus, true, endpoint.NoDoubt)
				}
			}
		}
		if trials == 0 || trials > 20 {
			t.Errorf("they tried %d times in a minute", trials)
		}
		back := func() (n int) {
			for _, e := range edges {
				if s := e.status(); s.Share > 0 {
					n++
				}
			}
			return n
		}
		waited := 0
		for ; back() == 0 && waited < 300; waited++ {
			time.Sleep(100 * time.Millisecond)
			for _, e := range edges {
				if f := begin(e); f != nil {
					e.one().Settle(f, time.Now(), e.breakerConfig(), outcome.Success, true, endpoint.NoDoubt)
				}
			}
		}
		for range 20 {
			time.Sleep(100 * time.Millisecond)
			for _, e := range edges {
				if f := begin(e); f != nil {
					e.one().Settle(f, time.Now(), e.breakerConfig(), outcome.Success, true, endpoint.NoDoubt)
				}
			}
		}
		if n := back(); n != len(edges) {
			t.Errorf("2 s after the first, %d of %d are back", n, len(edges))
		}
	})
}

func TestLimitIsSplitAmongInstances(t *testing.T) {
	fleetOf(t, 3, func(_ *fleettest.Hub, edges []*edge) {
		bounds := &endpoint.Bounds{Rates: []quota.Rate{quota.Limit{Amount: 600, Per: time.Minute}.Rate()}}
		for _, e := range edges {
			e.Mu.Lock()
			e.h.Targets[0].Bounds = bounds
			e.Mu.Unlock()
		}
		// 30, 4 and 1 a second want to go where 10 may
		run := func(seconds int, rates ...int) (let int) {
			for i := range seconds * 60 {
				time.Sleep(time.Second / 60)
				for at, e := range edges {
					if rates[at] == 0 || i%(60/rates[at]) != 0 {
						continue
					}
					now := time.Now()
					e.Watch(time.Minute)
					f := &fakeAttempt{began: now, latency: time.Millisecond, patience: time.Minute}
					if e.one().Acquire(f, now, e.breakerConfig(), bounds, endpoint.AdmitNormally) {
						e.one().Settle(f, now, e.breakerConfig(), outcome.Success, true, endpoint.NoDoubt)
						let++
					}
				}
				if i%60 == 0 {
					for _, e := range edges {
						e.SplitLimits(true, time.Second, time.Now())
					}
				}
			}
			return let
		}
		run(10, 30, 4, 1)
		if let := run(60, 30, 4, 1); let > 630 || let < 520 {
			t.Errorf("%d were let in within a minute, 600 may be", let)
		}
		run(10, 1, 4, 30)
		if let := run(60, 1, 4, 30); let > 630 || let < 520 {
			t.Errorf("after the demand has moved, %d were let in", let)
		}
	})
}
