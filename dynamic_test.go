package failover

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/call"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/pool"
)

// dynamicLab is a lab whose upstreams the test gives to each call.
func dynamicLab(t testing.TB) *lab {
	t.Helper()
	l, err := openLabJSON(t, json.RawMessage(`{"dynamic_upstreams": {"source": "a", "name": "api.test"},
		"load_balancing": {"selection_policy": {"policy": "failover", "name": "`+t.Name()+`"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	l.policy.GoLive()
	t.Cleanup(l.close)
	return l
}

func addressesFrom(from, n int) (pool reverseproxy.UpstreamPool) {
	for i := from; i < from+n; i++ {
		pool = append(pool, &reverseproxy.Upstream{Dial: fmt.Sprintf("10.0.%d.%d:80", i/256, i%256)})
	}
	return pool
}

func (l *lab) known() int {
	p := l.policy.Pool
	p.Mu.Lock()
	defer p.Mu.Unlock()
	if len(p.Members) != len(l.policy.Dynamic.Known) {
		l.t.Errorf("%d states of %d addresses", len(p.Members), len(l.policy.Dynamic.Known))
	}
	return len(p.Members)
}

// TestDynamicEndpointsAreBounded: of those that come and go the latest are known, and
// those about which something is to be remembered.
func TestDynamicEndpointsAreBounded(t *testing.T) {
	l := dynamicLab(t)
	now := time.Now()
	first := l.policy.TableFor(addressesFrom(0, 3), now)
	open, busy, idle := first.Targets[0], first.Targets[1], first.Targets[2]
	open.State.Mu.Lock()
	open.State.Breaker.State = breaker.Open
	open.State.Mu.Unlock()
	c := &call.Call{Handler: l.policy, Request: new(http.Request)}
	c.Extra().Looked = addressesFrom(0, 3)
	if l.policy.Try(c, busy, now, endpoint.AdmitNormally) == nil {
		t.Fatal("not admitted")
	}
	for i := 1; i < 50; i++ {
		now = now.Add(time.Second)
		got := l.policy.TableFor(addressesFrom(100*i, 100), now)
		if len(got.Targets) != 100 {
			t.Fatalf("the table has %d endpoints", len(got.Targets))
		}
		if n := l.known(); n > pool.MaxDynamic {
			t.Fatalf("%d endpoints are known", n)
		}
	}
	known := l.policy.Dynamic.Known
	if known[open.Address] != open || known[busy.Address] != busy || known[idle.Address] != nil {
		t.Errorf("known: open %v, busy %v, idle %v", known[open.Address] != nil, known[busy.Address] != nil, known[idle.Address] != nil)
	}
}

// TestASetLargerThanTheBoundIsCalledWhole, and as fairly.
func TestASetLargerThanTheBoundIsCalledWhole(t *testing.T) {
	l := dynamicLab(t)
	now := time.Now()
	all := addressesFrom(0, 3*pool.MaxDynamic)
	table := l.policy.TableFor(all, now)
	if n := l.known(); n != pool.MaxDynamic || len(table.Targets) != len(all) {
		t.Fatalf("%d endpoints are known, and %d in the table", n, len(table.Targets))
	}
	for i, target := range table.Targets {
		if table.Members[i].Available <= 0 {
			t.Fatalf("endpoint %s is not available", target.Name)
		}
		c := &call.Call{Handler: l.policy, Request: new(http.Request)}
		c.Extra().Looked = all
		a := l.policy.Try(c, target, now, endpoint.AdmitNormally)
		if a == nil {
			t.Fatalf("endpoint %s lets nobody in", target.Name)
		}
		a.Begin(t.Context(), 0)
		a.Answered(now)
		a.BodyEnds(outcome.Success)
	}
	// one beyond the bound that opens comes back by itself
	beyond := table.Targets[len(table.Targets)-1]
	for _, target := range table.Targets {
		if l.policy.Dynamic.Known[target.Address] != target {
			beyond = target
		}
	}
	for range 5 {
		c := &call.Call{Handler: l.policy, Request: new(http.Request)}
		c.Extra().Looked = all
		a := l.policy.Try(c, beyond, now, endpoint.AdmitNormally)
		if a == nil {
			t.Fatal("not admitted")
		}
		a.Settle(now, outcome.FailedReset, true)
	}
	if got := breakerNow(beyond.State); got != breaker.Open {
		t.Fatalf("the breaker is %v", got)
	}
	for range 100 {
		now = now.Add(pool.TickEvery)
		l.policy.TableFor(all, now)
		l.policy.Pool.Tick(now)
	}
	if got := breakerNow(beyond.State); got == breaker.Open {
		t.Errorf("the breaker is %v after %v", got, 100*pool.TickEvery)
	}
}

// TestASetInAnotherOrderIsTheSameSet: name servers shuffle their answers.
func TestASetInAnotherOrderIsTheSameSet(t *testing.T) {
	l := dynamicLab(t)
	now := time.Now()
	set := addressesFrom(0, 50)
	table := l.policy.TableFor(set, now)
	for range 10 {
		rand.Shuffle(len(set), func(i, j int) { set[i], set[j] = set[j], set[i] })
		if l.policy.TableFor(set, now) != table {
			t.Fatal("the table was made anew")
		}
	}
	if l.policy.TableFor(set[:49], now) == table || l.policy.TableFor(append(set[:49:49], set[0]), now) == table {
		t.Error("another set has the same table")
	}
}

// BenchmarkDynamicTick is what the control loop has to do, four times a second, and
// BenchmarkDynamicLookup what a lookup costs that brings another set.
func BenchmarkDynamicTick(b *testing.B) {
	for _, n := range []int{10, 1000, 4559} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l := dynamicLab(b)
			now := time.Now()
			l.policy.TableFor(addressesFrom(0, n), now)
			for b.Loop() {
				now = now.Add(pool.TickEvery)
				l.policy.TableFor(addressesFrom(0, 1), now)
				l.policy.Pool.Tick(now)
				l.policy.Pool.EndOverdue(now)
			}
		})
	}
}

func BenchmarkDynamicLookup(b *testing.B) {
	for _, n := range []int{10, 1000, 4559} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l := dynamicLab(b)
			now := time.Now()
			sets := [...]reverseproxy.UpstreamPool{addressesFrom(0, n), addressesFrom(1, n)}
			for i := 0; b.Loop(); i++ {
				l.policy.TableFor(sets[i%2], now.Add(time.Duration(i)))
			}
		})
	}
}
