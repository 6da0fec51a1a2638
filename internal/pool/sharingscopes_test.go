package pool

import (
	"fmt"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/fleet"
	"github.com/apifailover/caddy-failover/internal/fleettest"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// tries makes an attempt of a scope at one, and reports whether it got a permit.
func (e *edge) tries(scope string, o outcome.Outcome, retryAfter time.Duration) bool {
	e.t.Helper()
	now := time.Now()
	f := &fakeAttempt{began: now, latency: time.Millisecond, patience: time.Minute}
	f.RetryAfter = retryAfter
	f.Concern(scope, nil)
	e.Watch(time.Minute)
	if !e.one().Acquire(f, now, e.breakerConfig(), nil, endpoint.AdmitNormally) {
		return false
	}
	e.one().Settle(f, now, e.breakerConfig(), o, true, endpoint.NoDoubt)
	return true
}

// id returns the identity of one in the fleet.
func (e *edge) id() string {
	e.Mu.Lock()
	defer e.Mu.Unlock()
	return e.Members[endpoint.Key{Name: "one", Address: "one:80"}].shared.id
}

// scope returns the status of one for calls of a scope. The zero value means that there is none.
func (e *edge) scope(name string) api.ScopeStatus {
	for _, s := range e.status().Scopes {
		if s.Scope == name {
			return s
		}
	}
	return api.ScopeStatus{}
}

func TestHoldOfAScopeIsSharedForThatScopeOnly(t *testing.T) {
	fleetOf(t, 3, func(_ *fleettest.Hub, edges []*edge) {
		edges[1].tries("large", outcome.Success, 0) // edge 2 has had no call of any scope
		edges[0].tries("large", outcome.RateLimited, 20*time.Second)
		soon()
		for i, e := range edges {
			if left := time.Until(e.scope("large").HeldUntil); left < 19*time.Second || left > 20*time.Second {
				t.Errorf("edge %d holds the scope for %v", i, left)
			}
			if !e.status().HeldUntil.IsZero() {
				t.Errorf("edge %d holds the whole endpoint", i)
			}
			if e.tries("large", outcome.Success, 0) {
				t.Errorf("edge %d lets a call of the scope in", i)
			}
			if e.h.TableFor(nil, time.Now()).For("large").Members[0].Available != 0 {
				t.Errorf("edge %d routes calls of the scope there", i)
			}
			if !e.tries("small", outcome.Success, 0) || e.h.TableFor(nil, time.Now()).For("small").Members[0].Available != 1 {
				t.Errorf("edge %d keeps calls of another scope away", i)
			}
		}
		time.Sleep(21 * time.Second)
		for i, e := range edges {
			if !e.tries("large", outcome.Success, 0) {
				t.Errorf("edge %d holds the scope longer than it was asked to", i)
			}
		}
	})
}

// TestLatecomersHearHoldsOfScopes checks that an instance that joins later gets the holds of scopes, and
// that they end at their time.
func TestLatecomersHearHoldsOfScopes(t *testing.T) {
	fleetOf(t, 1, func(hub *fleettest.Hub, edges []*edge) {
		edges[0].tries("large", outcome.RateLimited, 20*time.Second)
		soon()
		late := newEdge(t, hub, "late", "key")
		defer late.stop()
		time.Sleep(time.Second)
		if routes := late.h.TableFor(nil, time.Now()); routes.For("large").Members[0].Available != 0 || routes.For("small").Members[0].Available != 1 {
			t.Errorf("a latecomer has %+v", late.status().Scopes)
		}
		time.Sleep(20 * time.Second)
		late.tries("small", outcome.Success, 0)
		time.Sleep(time.Second)
		for _, s := range late.status().Scopes {
			if s.Scope == "large" {
				t.Errorf("it still knows %+v", s)
			}
		}
	})
}

// TestScopesOfOthersTakeNoPlace checks that facts about scopes without calls here take only free places,
// and give them up for scopes with calls.
func TestScopesOfOthersTakeNoPlace(t *testing.T) {
	fleetOf(t, 2, func(_ *fleettest.Hub, edges []*edge) {
		here, node := edges[0], edges[1].node
		id := here.id()
		tell := func(name string) {
			node.Tell(fleet.Fact{Kind: fleet.Hold, Endpoint: id, Scope: name, Left: time.Minute, Reason: "rate_limited"}, time.Now())
		}
		for i := range 40 {
			here.tries(fmt.Sprint("here-", i), outcome.Success, 0)
		}
		for i := range 200 {
			tell(fmt.Sprint("there-", i))
		}
		tell(endpoint.OtherScope)
		time.Sleep(time.Second)
		names, crowded := here.one().Unwell(time.Now(), here.breakerConfig())
		if len(names) != endpoint.MaxScopes-40 || crowded {
			t.Errorf("%d scopes are held by facts (crowded: %v), want those that leave %d in all", len(names), crowded, endpoint.MaxScopes)
		}
		if len(here.one().ScopesInUse(time.Now().Add(-time.Minute))) != 40 {
			t.Error("a fact has evicted a scope that has calls")
		}
		for i := 40; i < endpoint.MaxScopes; i++ {
			if !here.tries(fmt.Sprint("here-", i), outcome.Success, 0) {
				t.Errorf("scope %d of its own finds no place", i)
			}
		}
		if in := here.one().ScopesInUse(time.Now().Add(-time.Minute)); len(in) != endpoint.MaxScopes {
			t.Errorf("%d scopes of its own have places of their own", len(in))
		}
		if s := here.scope(endpoint.OtherScope); s.Scope != "" {
			t.Errorf("calls share %+v", s)
		}
	})
}

// TestScopesHeldByFactsGiveWay checks that a hold that others report does not keep the place of a scope.
func TestScopesHeldByFactsGiveWay(t *testing.T) {
	fleetOf(t, 2, func(_ *fleettest.Hub, edges []*edge) {
		here, node := edges[0], edges[1].node
		id := here.id()
		for i := range endpoint.MaxScopes {
			name := fmt.Sprint("scope-", i)
			here.tries(name, outcome.Success, 0)
			node.Tell(fleet.Fact{Kind: fleet.Hold, Endpoint: id, Scope: name, Left: time.Minute, Reason: "rate_limited"}, time.Now())
		}
		time.Sleep(time.Second)
		if here.tries("scope-1", outcome.Success, 0) {
			t.Error("a scope is not held")
		}
		here.tries("new", outcome.Success, 0)
		if here.scope("new").Attempts != 1 {
			t.Errorf("a new scope shares the place of others: %+v", here.status().Scopes)
		}
	})
}

func TestFactsAboutScopesNeedScopes(t *testing.T) {
	fleetOf(t, 2, func(hub *fleettest.Hub, edges []*edge) {
		plain := newEdge(t, hub, "plain", "key")
		defer plain.stop()
		plain.Mu.Lock()
		plain.h.ScopedBy, plain.scopedBy = "", ""
		plain.generation.Load().scopedBy = ""
		plain.Mu.Unlock()
		time.Sleep(time.Second)
		edges[0].tries("large", outcome.RateLimited, 20*time.Second)
		soon()
		if names, _ := plain.one().Unwell(time.Now(), plain.breakerConfig()); len(names) != 0 {
			t.Errorf("an instance without scopes keeps %v", names)
		}
	})
}

func TestResetEndsTheHoldOfAScopeAtAll(t *testing.T) {
	fleetOf(t, 2, func(_ *fleettest.Hub, edges []*edge) {
		edges[0].tries("large", outcome.RateLimited, 20*time.Second)
		soon()
		if edges[1].scope("large").HeldUntil.IsZero() {
			t.Fatal("it is not held")
		}
		if _, err := edges[0].Operate("one", api.Order{Action: api.Reset, Where: api.Here}, time.Now()); err != nil {
			t.Fatal(err)
		}
		soon()
		if s := edges[1].scope("large"); !s.HeldUntil.IsZero() {
			t.Errorf("the other has %+v", s)
		}
	})
}

func TestTwoOfThreeThatOpenAScopeMakeTheThirdWaryOfIt(t *testing.T) {
	fleetOf(t, 3, func(_ *fleettest.Hub, edges []*edge) {
		third := edges[2]
		for _, e := range edges {
			e.tries("large", outcome.Success, 0)
			e.tries("small", outcome.Success, 0)
		}
		time.Sleep(2 * time.Second) // all say so
		for _, e := range edges[:2] {
			for range 6 {
				e.tries("large", outcome.FailedStatus, 0)
			}
		}
		soon()
		if s := third.scope("large"); s.Share != breaker.WaryShare || s.Fleet == nil || !s.Fleet.Wary || s.Fleet.Open != 2 || s.Fleet.Instances != 3 {
			t.Fatalf("the third has %+v, the fleet says %+v", s, s.Fleet)
		}
		if s := third.status(); s.Share != 1 || s.Fleet.Wary || third.scope("small").Share != 1 || third.scope("small").Fleet != nil {
			t.Error("it is wary of more than the scope")
		}
		if available := third.h.TableFor(nil, time.Now()).For("large").Members[0].Available; available != breaker.WaryShare {
			t.Errorf("calls of the scope find %v of the endpoint", available)
		}
		third.tries("small", outcome.FailedStatus, 0)
		third.tries("large", outcome.FailedStatus, 0)
		if s := third.scope("large"); s.State != "open" || s.Reason != breaker.ReasonWary {
			t.Errorf("after one failure the scope is %s (%s)", s.State, s.Reason)
		}
		if s := third.scope("small"); s.State != "closed" {
			t.Errorf("after one failure another scope is %s", s.State)
		}
	})
}

// TestWarinessAwaitsAScope checks that an instance is wary at its first calls of a scope if others have
// it open.
func TestWarinessAwaitsAScope(t *testing.T) {
	fleetOf(t, 3, func(_ *fleettest.Hub, edges []*edge) {
		for _, e := range edges[:2] {
			for range 6 {
				e.tries("large", outcome.FailedStatus, 0)
			}
		}
		soon()
		third := edges[2]
		third.tries("large", outcome.FailedStatus, 0)
		third.tries("small", outcome.FailedStatus, 0)
		soon()
		if s := third.scope("large"); s.State != "open" || s.Reason != breaker.ReasonWary {
			t.Errorf("after a failure the scope is %s (%s)", s.State, s.Reason)
		}
		if s := third.scope("small"); s.State != "closed" {
			t.Errorf("after a failure another scope is %s", s.State)
		}
	})
}

// TestScopeWithCallsElsewhereKeepsTheFleetCalm checks that only instances with calls of the scope decide
// whether others are wary of it.
func TestScopeWithCallsElsewhereKeepsTheFleetCalm(t *testing.T) {
	fleetOf(t, 7, func(_ *fleettest.Hub, edges []*edge) {
		for range 3 {
			for i, e := range edges {
				e.tries("small", outcome.Success, 0)
				if i < 5 {
					e.tries("large", outcome.Success, 0)
				}
			}
			time.Sleep(time.Second)
		}
		opens := func(e *edge) {
			for range 8 {
				e.tries("large", outcome.FailedStatus, 0)
			}
		}
		opens(edges[0])
		opens(edges[1])
		soon()
		if s := edges[4].scope("large"); s.Fleet == nil || s.Fleet.Wary {
			t.Errorf("two of five with calls have opened, and it says %+v", s.Fleet)
		}
		opens(edges[2])
		soon()
		if s := edges[4].scope("large"); s.Fleet == nil || !s.Fleet.Wary {
			t.Errorf("three of five with calls have opened, and it says %+v", s.Fleet)
		}
	})
}

func TestTrialOfAScopeIsForAll(t *testing.T) {
	fleetOf(t, 6, func(_ *fleettest.Hub, edges []*edge) {
		for _, e := range edges {
			e.tries("small", outcome.Success, 0)
			for range 6 {
				e.tries("large", outcome.FailedStatus, 0)
			}
			soon()
		}
		trials := 0
		for range 600 { // each alone would try six times and more
			time.Sleep(100 * time.Millisecond)
			for _, e := range edges {
				e.tries("small", outcome.Success, 0)
				if e.tries("large", outcome.FailedStatus, 0) {
					trials++
				}
			}
		}
		if trials == 0 || trials > 20 {
			t.Errorf("they tried %d times in a minute", trials)
		}
		for i := 0; ; i++ {
			time.Sleep(100 * time.Millisecond)
			if edges[0].tries("large", outcome.Success, 0) {
				break
			}
			if i == 300 {
				t.Fatal("the first never tries")
			}
		}
		for range 25 {
			time.Sleep(100 * time.Millisecond)
			for _, e := range edges {
				e.tries("large", outcome.Success, 0)
			}
		}
		for i, e := range edges {
			if s := e.scope("large"); s.Share == 0 {
				t.Errorf("edge %d is not back: %+v", i, s)
			}
		}
	})
}
