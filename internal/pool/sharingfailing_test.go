package pool

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/fleet"
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

// TestBrokenNetworksDelayNoReturn checks that others return to an endpoint while instances with a broken network
// try it again and again, since all their endpoints are out.
func TestBrokenNetworksDelayNoReturn(t *testing.T) {
	for broken := 1; broken <= 3; broken++ {
		fleetOf(t, broken+2, func(_ *fleettest.Hub, edges []*edge) {
			for _, e := range edges {
				for range 5 {
					if e.status().State == "closed" {
						e.fails(1)
					}
				}
				soon()
			}
			try := func(e *edge, how endpoint.Admission, takes time.Duration, o outcome.Outcome) {
				f := &fakeAttempt{began: time.Now(), latency: takes, patience: time.Minute}
				e.Watch(time.Minute)
				ok := e.one().Acquire(f, time.Now(), e.breakerConfig(), nil, how)
				time.Sleep(takes)
				if ok {
					e.one().Settle(f, time.Now(), e.breakerConfig(), o, true, endpoint.NoDoubt)
				}
			}
			one, other := edges[broken], edges[broken+1]
			for began := time.Now(); one.status().State != "closed" || other.status().State != "closed"; {
				if time.Since(began) > time.Minute {
					t.Fatalf("%d broken: after %v the others are %s and %s", broken, time.Since(began), one.status().State, other.status().State)
				}
				for _, e := range edges[:broken] {
					try(e, endpoint.AdmitAllDown, 300*time.Millisecond, outcome.FailedStatus)
				}
				for range 10 {
					try(one, endpoint.AdmitNormally, 15*time.Millisecond, outcome.Success)
					try(other, endpoint.AdmitNormally, 15*time.Millisecond, outcome.Success)
				}
			}
		})
	}
}

// TestHintsWithoutEndCloseNothing: instances that tell again and again that an endpoint is out, broken or invented, make
// others wary only for a moment now and then, if their calls succeed.
func TestHintsWithoutEndCloseNothing(t *testing.T) {
	for _, state := range []string{fleet.Opened, fleet.Failing} {
		fleetOf(t, 1, func(hub *fleettest.Hub, edges []*edge) {
			own, codec := edges[0], fleet.NewCodec("eu", "")
			own.call(outcome.Success, 0)
			serial, opened, wary := uint64(0), 0, 0
			tell := func(f fleet.Fact) {
				serial++
				for i := range 4 {
					f.Instance, f.Boot, f.Serial, f.Left = fmt.Sprint("invented ", i), "B", serial, time.Minute
					data, err := codec.Encode(&f)
					if err != nil {
						t.Fatal(err)
					}
					hub.Inject(fleet.Record{Data: data})
				}
			}
			tell(fleet.Fact{Kind: fleet.Hello})
			const calls = 20 * 30
			for i := range calls {
				for range 2 {
					time.Sleep(25 * time.Millisecond)
					tell(fleet.Fact{Kind: fleet.Breaker, Endpoint: own.id(), State: state})
				}
				synctest.Wait()
				switch s := own.status(); {
				case s.State != "closed":
					opened++
					continue
				case own.one().For("").Wary():
					wary++
				}
				if i%50 == 7 {
					own.call(outcome.FailedStatus, 0)
				} else {
					own.call(outcome.Success, 0)
				}
			}
			if opened > 0 || wary > calls/50 || wary == 0 {
				t.Errorf("%s: of %d calls, %d found it wary and %d out", state, calls, wary, opened)
			}
		})
	}
}

// TestInstanceThatStartsInAnOutageIsWary: it opens at its first failure, as those that were there, whatever the order in which it reads
// what they told.
func TestInstanceThatStartsInAnOutageIsWary(t *testing.T) {
	fleetOf(t, 2, func(hub *fleettest.Hub, edges []*edge) {
		for _, e := range edges {
			for range 5 {
				if e.status().State == "closed" {
					e.fails(1)
				}
			}
			soon()
		}
		for i := range 10 {
			late := newEdge(t, hub, fmt.Sprint("late ", i), "key")
			defer late.stop()
			time.Sleep(300 * time.Millisecond)
			if !late.one().For("").Wary() {
				t.Errorf("the latecomer %d is not wary", i)
			}
		}
	})
}
