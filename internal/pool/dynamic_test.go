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

// dynamic is a handler whose upstreams the test gives to each call.
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

func addressesFrom(from, n int) (set reverseproxy.UpstreamPool) {
	for i := from; i < from+n; i++ {
		set = append(set, &reverseproxy.Upstream{Dial: fmt.Sprintf("10.0.%d.%d:80", i/256, i%256)})
	}
	return set
}

// known is how many addresses the pool knows.
func known(t testing.TB, h *Handler) int {
	t.Helper()
	h.Pool.Mu.Lock()
	defer h.Pool.Mu.Unlock()
	if len(h.Pool.Members) != len(h.Dynamic.Known) {
		t.Errorf("%d states of %d addresses", len(h.Pool.Members), len(h.Dynamic.Known))
	}
	return len(h.Pool.Members)
}

// TestDynamicEndpointsAreBounded: of those that come and go the latest are known, and
// those about which something is to be remembered.
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
	known := h.Dynamic.Known
	if known[open.Address] != open || known[busy.Address] != busy || known[idle.Address] != nil {
		t.Errorf("known: open %v, busy %v, idle %v", known[open.Address] != nil, known[busy.Address] != nil, known[idle.Address] != nil)
	}
}

// TestASetLargerThanTheBoundIsCalledWhole, and as fairly.
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
	// one beyond the bound that opens comes back by itself
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

// TestASetInAnotherOrderIsTheSameSet: name servers shuffle their answers.
func TestASetInAnotherOrderIsTheSameSet(t *testing.T) {
	h := dynamic(t)
	now := time.Now()
	set := addressesFrom(0, 50)
	table := h.TableFor(set, now)
	for range 10 {
		rand.Shuffle(len(set), func(i, j int) { set[i], set[j] = set[j], set[i] })
		if h.TableFor(set, now) != table {
			t.Fatal("the table was made anew")
		}
	}
	if h.TableFor(set[:49], now) == table || h.TableFor(append(set[:49:49], set[0]), now) == table {
		t.Error("another set has the same table")
	}
}

// BenchmarkDynamicTick is what the control loop has to do, four times a second, and
// BenchmarkDynamicLookup what a lookup costs that brings another set.
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
