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
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// dynamicLab is a lab whose upstreams the test gives to each call.
func dynamicLab(t testing.TB) *lab {
	t.Helper()
	l, err := openLabJSON(t, json.RawMessage(`{"dynamic_upstreams": {"source": "a", "name": "api.test"},
		"load_balancing": {"selection_policy": {"policy": "failover", "name": "`+t.Name()+`"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	l.policy.goLive()
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
	p := l.policy.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.members) != len(l.policy.dynamic.known) {
		l.t.Errorf("%d states of %d addresses", len(p.members), len(l.policy.dynamic.known))
	}
	return len(p.members)
}

// TestDynamicEndpointsAreBounded: of those that come and go the latest are known, and
// those about which something is to be remembered.
func TestDynamicEndpointsAreBounded(t *testing.T) {
	l := dynamicLab(t)
	now := time.Now()
	first := l.policy.tableFor(addressesFrom(0, 3), now)
	open, busy, idle := first.targets[0], first.targets[1], first.targets[2]
	open.state.mu.Lock()
	open.state.breaker.State = breaker.Open
	open.state.mu.Unlock()
	c := &call{handler: l.policy, request: new(http.Request)}
	c.extra().looked = addressesFrom(0, 3)
	if l.policy.try(c, busy, now, admitNormally) == nil {
		t.Fatal("not admitted")
	}
	for i := 1; i < 50; i++ {
		now = now.Add(time.Second)
		got := l.policy.tableFor(addressesFrom(100*i, 100), now)
		if len(got.targets) != 100 {
			t.Fatalf("the table has %d endpoints", len(got.targets))
		}
		if n := l.known(); n > maxDynamic {
			t.Fatalf("%d endpoints are known", n)
		}
	}
	known := l.policy.dynamic.known
	if known[open.address] != open || known[busy.address] != busy || known[idle.address] != nil {
		t.Errorf("known: open %v, busy %v, idle %v", known[open.address] != nil, known[busy.address] != nil, known[idle.address] != nil)
	}
}

// TestASetLargerThanTheBoundIsCalledWhole, and as fairly.
func TestASetLargerThanTheBoundIsCalledWhole(t *testing.T) {
	l := dynamicLab(t)
	now := time.Now()
	all := addressesFrom(0, 3*maxDynamic)
	table := l.policy.tableFor(all, now)
	if n := l.known(); n != maxDynamic || len(table.targets) != len(all) {
		t.Fatalf("%d endpoints are known, and %d in the table", n, len(table.targets))
	}
	for i, target := range table.targets {
		if table.members[i].available <= 0 {
			t.Fatalf("endpoint %s is not available", target.name)
		}
		c := &call{handler: l.policy, request: new(http.Request)}
		c.extra().looked = all
		a := l.policy.try(c, target, now, admitNormally)
		if a == nil {
			t.Fatalf("endpoint %s lets nobody in", target.name)
		}
		a.begin(t.Context(), now, 0)
		a.answered(now)
		a.bodyEnds(outcome.Success)
	}
	// one beyond the bound that opens comes back by itself
	beyond := table.targets[len(table.targets)-1]
	for _, target := range table.targets {
		if l.policy.dynamic.known[target.address] != target {
			beyond = target
		}
	}
	for range 5 {
		c := &call{handler: l.policy, request: new(http.Request)}
		c.extra().looked = all
		a := l.policy.try(c, beyond, now, admitNormally)
		if a == nil {
			t.Fatal("not admitted")
		}
		a.settle(now, outcome.FailedReset, true)
	}
	if got := breakerNow(beyond.state); got != breaker.Open {
		t.Fatalf("the breaker is %v", got)
	}
	for range 100 {
		now = now.Add(tickEvery)
		l.policy.tableFor(all, now)
		l.policy.pool.tick(now)
	}
	if got := breakerNow(beyond.state); got == breaker.Open {
		t.Errorf("the breaker is %v after %v", got, 100*tickEvery)
	}
}

// TestASetInAnotherOrderIsTheSameSet: name servers shuffle their answers.
func TestASetInAnotherOrderIsTheSameSet(t *testing.T) {
	l := dynamicLab(t)
	now := time.Now()
	set := addressesFrom(0, 50)
	table := l.policy.tableFor(set, now)
	for range 10 {
		rand.Shuffle(len(set), func(i, j int) { set[i], set[j] = set[j], set[i] })
		if l.policy.tableFor(set, now) != table {
			t.Fatal("the table was made anew")
		}
	}
	if l.policy.tableFor(set[:49], now) == table || l.policy.tableFor(append(set[:49:49], set[0]), now) == table {
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
			l.policy.tableFor(addressesFrom(0, n), now)
			for b.Loop() {
				now = now.Add(tickEvery)
				l.policy.tableFor(addressesFrom(0, 1), now)
				l.policy.pool.tick(now)
				l.policy.pool.endOverdue(now)
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
				l.policy.tableFor(sets[i%2], now.Add(time.Duration(i)))
			}
		})
	}
}
