package pool

import (
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/fleettest"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// TestFailuresOfMostOpenAtAll checks that each instance opens at its first failure if calls of most
// instances fail and none succeeds.
func TestFailuresOfMostOpenAtAll(t *testing.T) {
	fleetOf(t, 6, func(_ *fleettest.Hub, edges []*edge) {
		for range 3 {
			for _, e := range edges {
				e.call(outcome.Success, 0)
			}
			time.Sleep(time.Second)
		}
		failures := 0
		for _, e := range edges {
			if e.status().State == "closed" {
				e.fails(1)
				failures++
			}
			soon()
		}
		for i, e := range edges {
			if s := e.status(); s.State != "open" || s.Reason != breaker.ReasonWary {
				t.Errorf("edge %d is %s (%s)", i, s.State, s.Reason)
			}
		}
		if failures != len(edges) {
			t.Errorf("they opened after %d failures, want one of each", failures)
		}
	})
}

// TestNothingOpensWithoutAFailureOfItsOwn checks that no instance opens without a failure of its own.
func TestNothingOpensWithoutAFailureOfItsOwn(t *testing.T) {
	fleetOf(t, 5, func(_ *fleettest.Hub, edges []*edge) {
		own := edges[4]
		for range 30 {
			own.call(outcome.Success, 0)
			for _, e := range edges[:4] {
				if e.status().State == "closed" {
					e.fails(1)
				}
			}
			time.Sleep(200 * time.Millisecond)
			if s := own.status(); s.State != "closed" {
				t.Fatalf("it is %s (%s) although all its calls succeed", s.State, s.Reason)
			}
		}
		if s := own.status(); s.Fleet.Open != 4 {
			t.Errorf("%d others have opened", s.Fleet.Open)
		}
	})
}

// TestSingleFailuresOpenNothing checks that failures before a success open nothing, even if many
// instances have them.
func TestSingleFailuresOpenNothing(t *testing.T) {
	fleetOf(t, 5, func(_ *fleettest.Hub, edges []*edge) {
		for i := range 60 {
			for _, e := range edges {
				if i%4 == 3 {
					e.fails(1)
				}
				e.call(outcome.Success, 0)
			}
			time.Sleep(300 * time.Millisecond)
		}
		for i, e := range edges {
			if s := e.status(); s.State != "closed" || s.Share != 1 || s.Fleet.Open != 0 {
				t.Errorf("edge %d is %s with a share of %v, the fleet says %+v", i, s.State, s.Share, s.Fleet)
			}
		}
	})
}

// TestOneWithABrokenNetworkHarmsNobody checks that an instance with a broken network opens, and that
// occasional failures at another open nothing there.
func TestOneWithABrokenNetworkHarmsNobody(t *testing.T) {
	fleetOf(t, 3, func(_ *fleettest.Hub, edges []*edge) {
		for i := range 100 {
			if edges[0].status().State == "closed" {
				edges[0].fails(1)
			}
			if i%10 == 9 {
				edges[1].fails(1)
			} else {
				edges[1].call(outcome.Success, 0)
			}
			if i%10 == 5 {
				edges[2].fails(2)
			} else {
				edges[2].call(outcome.Success, 0)
			}
			time.Sleep(100 * time.Millisecond)
			for n, e := range edges[1:] {
				if s := e.status(); s.State != "closed" || s.Share != 1 {
					t.Fatalf("edge %d is %s (%s) with a share of %v", n+1, s.State, s.Reason, s.Share)
				}
			}
		}
	})
}
