package pool

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/endpoint"
)

// checkedPool returns a pool of n endpoints with a check each second. The checks are spread over the
// second from now. The checker does not run.
func checkedPool(n int, now time.Time) *Pool {
	p := &Pool{Members: make(map[endpoint.Key]*PoolMember)}
	g := &Generation{}
	g.Breaker.Store(defaultBreaker())
	p.generation.Store(g)
	cfg := &endpoint.CheckConfig{Interval: time.Second, FastInterval: time.Second, Passes: 2, Fails: 2}
	c := &p.checker
	c.plan = make(map[*endpoint.State]*checked)
	c.gap = time.Second / time.Duration(2*n)
	for i := range n {
		m := p.joinLocked(endpoint.Key{Name: fmt.Sprint(i)})
		m.AskChecks(cfg, now, time.Duration(i)*time.Second/time.Duration(n))
		c.plan[m.State] = &checked{state: m.State, cfg: cfg}
	}
	c.hasten()
	return p
}

// TestCheckerLooksAtWhatIsDue checks that the checker does not look at endpoints whose checks are not
// due.
func TestCheckerLooksAtWhatIsDue(t *testing.T) {
	for _, n := range []int{3, 30, 300, 3000} {
		now := time.Unix(1e9, 0)
		p := checkedPool(n, now)
		c := &p.checker
		c.look(now)
		for _, one := range c.plan {
			if one.due.After(now) {
				one.state = nil // a look at it would panic
			}
		}
		c.look(now)
		if one, _ := c.take(now); one == nil {
			t.Fatalf("%d endpoints: no check is due", n)
		}
		c.look(now)
		one, next := c.take(now)
		if slot := now.Add(time.Second / time.Duration(n)); one != nil || next.After(slot) {
			t.Errorf("%d endpoints: check %v, next at %v; want none, and the next by %v", n, one, next, slot)
		}
	}
}

// TestAgenda checks that checks come in the order of their times after any changes.
func TestAgenda(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	now := time.Unix(1e9, 0)
	var a agenda
	all := make([]checked, 50)
	for range 2000 {
		one := &all[random.IntN(len(all))]
		if random.IntN(3) == 0 {
			a.remove(one)
		} else {
			a.put(one, now.Add(time.Duration(random.IntN(100))*time.Second))
		}
	}
	left := 0
	for i := range all {
		if all[i].place > 0 {
			left++
		}
	}
	if len(a) != left || left == 0 {
		t.Fatalf("the agenda has %d checks, want %d", len(a), left)
	}
	for last := now; len(a) > 0; a.remove(a[0]) {
		if a[0].due.Before(last) {
			t.Fatalf("%v comes after %v", a[0].due, last)
		}
		last = a[0].due
	}
}

// TestCheckOfTrialComesSoon checks that the next check of an endpoint comes earlier when an attempt has
// made it recover, although that does not wake the checker.
func TestCheckOfTrialComesSoon(t *testing.T) {
	now := time.Unix(1e9, 0)
	p := checkedPool(3, now)
	c := &p.checker
	c.look(now)
	cfg := defaultBreaker()
	one, _ := c.take(now)
	one.cfg.Interval, one.cfg.FastInterval = 30*time.Second, 2*time.Second // as asked
	fail := func() {
		at, _, _ := one.state.EndCheck(now, one.cfg, cfg, endpoint.CheckResult{Why: "status 500"}, false)
		c.ended(one.state, at)
		c.look(now)
	}
	for range 8 { // until checks are rare
		fail()
		now = one.due
		if !one.state.BeginCheck(now, one.cfg.Interval) {
			t.Fatal("a failing endpoint has no check")
		}
	}
	fail()
	if wait := one.due.Sub(now); wait < 20*time.Second {
		t.Fatalf("the next check of a failing endpoint is in %v", wait)
	}
	if f := (&fakeAttempt{began: now}); !one.state.Acquire(f, now, cfg, nil, endpoint.AdmitAllDown) {
		t.Fatal("no trial")
	}
	c.look(now)
	if wait := one.due.Sub(now); wait > 3*time.Second {
		t.Errorf("the next check of an endpoint on trial is in %v", wait)
	}
}

// BenchmarkChecker measures what a check costs a pool, without its request, if endpoints have a check
// each second.
func BenchmarkChecker(b *testing.B) {
	for _, n := range []int{3, 30, 300, 3000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			now := time.Unix(1e9, 0)
			p := checkedPool(n, now)
			c := &p.checker
			cfg := defaultBreaker()
			var running []*checked
			b.ReportAllocs()
			c.look(now)
			b.ResetTimer()
			for begun := 0; begun < b.N; {
				c.look(now)
				one, next := c.take(now)
				if one != nil {
					begun++
					running = append(running, one)
					continue
				}
				for _, one := range running {
					at, _, _ := one.state.EndCheck(now, one.cfg, cfg, endpoint.CheckResult{Passed: true, Why: endpoint.CheckPassed, Latency: time.Millisecond}, false)
					c.ended(one.state, at)
				}
				running = running[:0]
				if slot := now.Add(checkSlot); c.slotted() && next.Before(slot) {
					next = slot
				}
				now = next
			}
		})
	}
}
