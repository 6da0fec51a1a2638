package pool

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/target"
)

// dynamic returns a handler with dynamic upstreams, which the test passes to TableFor.
func dynamic(t testing.TB) *Handler {
	t.Helper()
	p := newTestPool(t.Name())
	h := &Handler{Pool: p, Dynamic: &DynamicTargets{Known: make(map[string]*target.Target)}, Breaker: defaultBreaker(), Longest: 2 * time.Second, Logger: zap.NewNop()}
	h.NewTarget = func(address string) *target.Target {
		return &target.Target{Name: address, Address: address, Priority: 1, Weight: 1}
	}
	if err := p.Attach(h, h); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Detach(h)
		p.Outbox.Close()
	})
	return h
}

// addressesFrom returns n upstreams, starting with the address of a number.
func addressesFrom(from, n int) (set reverseproxy.UpstreamPool) {
	for i := from; i < from+n; i++ {
		set = append(set, &reverseproxy.Upstream{Dial: fmt.Sprintf("10.0.%d.%d:80", i/256, i%256)})
	}
	return set
}

// known returns the number of addresses that the pool knows.
func known(t testing.TB, h *Handler) int {
	t.Helper()
	h.Pool.Mu.Lock()
	defer h.Pool.Mu.Unlock()
	if len(h.Pool.Members) != len(h.Dynamic.Known) {
		t.Errorf("%d states of %d addresses", len(h.Pool.Members), len(h.Dynamic.Known))
	}
	return len(h.Pool.Members)
}

// TestDynamicEndpointsAreBounded checks that a pool knows the latest of the endpoints that come and go,
// and those that are out or busy.
func TestDynamicEndpointsAreBounded(t *testing.T) {
	h := dynamic(t)
	now := time.Now()
	first := h.TableFor(addressesFrom(0, 3), now)
	open, busy, idle := first.Targets[0], first.Targets[1], first.Targets[2]
	open.State.ChangeBreaker(func(b *breaker.Breaker) { b.Trip(now, defaultBreaker(), "test") })
	begin(t, busy.State, now, time.Second)
	for i := 1; i < 50; i++ {
		now = now.Add(time.Second)
		got := h.TableFor(addressesFrom(100*i, 100), now)
		if len(got.Targets) != 100 {
			t.Fatalf("the table has %d endpoints", len(got.Targets))
		}
		if n := known(t, h); n > maxDynamic {
			t.Fatalf("%d endpoints are known", n)
		}
	}
	targets := h.Dynamic.Known
	if targets[open.Address] != open || targets[busy.Address] != busy || targets[idle.Address] != nil {
		t.Errorf("known: open %v, busy %v, idle %v", targets[open.Address] != nil, targets[busy.Address] != nil, targets[idle.Address] != nil)
	}
}

// TestASetLargerThanTheBoundIsCalledWhole checks that all endpoints of a large set get calls, and that
// breakers of endpoints beyond the bound work.
func TestASetLargerThanTheBoundIsCalledWhole(t *testing.T) {
	h := dynamic(t)
	now := time.Now()
	all := addressesFrom(0, 3*maxDynamic)
	table := h.TableFor(all, now)
	if n := known(t, h); n != maxDynamic || len(table.Targets) != len(all) {
		t.Fatalf("%d endpoints are known, and %d in the table", n, len(table.Targets))
	}
	for i, target := range table.Targets {
		if table.Members[i].Available <= 0 {
			t.Fatalf("endpoint %s is not available", target.Name)
		}
		settle(target.State, begin(t, target.State, now, time.Second), now, outcome.Success)
	}
	// The breaker of an endpoint beyond the bound opens, and its open period ends.
	beyond := table.Targets[len(table.Targets)-1]
	for _, target := range table.Targets {
		if h.Dynamic.Known[target.Address] != target {
			beyond = target
		}
	}
	for range 5 {
		settle(beyond.State, begin(t, beyond.State, now, time.Second), now, outcome.FailedReset)
	}
	if !isOpen(beyond.State, now) {
		t.Fatal("the breaker is not open")
	}
	for range 100 {
		now = now.Add(TickEvery)
		h.TableFor(all, now)
		h.Pool.Tick(now)
	}
	if isOpen(beyond.State, now) {
		t.Errorf("the breaker is open after %v", 100*TickEvery)
	}
}

// TestASetInAnotherOrderIsTheSameSet checks that the order of a set does not matter, because name servers
// shuffle their answers.
func TestASetInAnotherOrderIsTheSameSet(t *testing.T) {
	h := dynamic(t)
	now := time.Now()
	set := addressesFrom(0, 50)
	table := h.TableFor(set, now)
	for range 10 {
		rand.Shuffle(len(set), func(i, j int) { set[i], set[j] = set[j], set[i] })
		if h.TableFor(set, now) != table {
			t.Fatal("the same set has another table")
		}
	}
	if h.TableFor(set[:49], now) == table || h.TableFor(append(set[:49:49], set[0]), now) == table {
		t.Error("another set has the same table")
	}
}

// BenchmarkDynamicTick measures a tick of the control loop, which runs four times a second.
func BenchmarkDynamicTick(b *testing.B) {
	for _, n := range []int{10, 1000, 4559} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h := dynamic(b)
			now := time.Now()
			h.TableFor(addressesFrom(0, n), now)
			for b.Loop() {
				now = now.Add(TickEvery)
				h.TableFor(addressesFrom(0, 1), now)
				h.Pool.Tick(now)
				h.Pool.endOverdue(now)
			}
		})
	}
}

// BenchmarkDynamicLookup measures a lookup that finds another set.
func BenchmarkDynamicLookup(b *testing.B) {
	for _, n := range []int{10, 1000, 4559} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h := dynamic(b)
			now := time.Now()
			sets := [...]reverseproxy.UpstreamPool{addressesFrom(0, n), addressesFrom(1, n)}
			for i := 0; b.Loop(); i++ {
				h.TableFor(sets[i%2], now.Add(time.Duration(i)))
			}
		})
	}
}
