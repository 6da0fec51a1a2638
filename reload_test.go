package failover

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/pool"
)

// attachedTo is what keeps a pool and its endpoints: the configurations that use it, the handlers of the
// newest, and how many of their endpoints each state serves.
func attachedTo(t *testing.T, name string) string {
	t.Helper()
	p := runningPool(t, name)
	p.Mu.Lock()
	defer p.Mu.Unlock()
	text := fmt.Sprintf("%d configurations, %d handlers", len(p.Attached), len(p.Generation.Load().Handlers))
	for _, endpoint := range []string{"one", "two", "three"} {
		for key, s := range p.Members {
			if key.Name == endpoint {
				text += fmt.Sprintf(", %s %d", endpoint, s.Refs)
			}
		}
	}
	return text
}

// TestReloadsReleaseWhatTheyTook: however a configuration ends, or fails to begin, the pool is left with
// what the running one uses, and is gone with the last.
func TestReloadsReleaseWhatTheyTook(t *testing.T) {
	one, two, three := newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")
	both := "handle /a {\n" + site("\n\ttimeout 1s", one, two) + "\n}\nhandle /b {\n" + site("\n\ttimeout 5s", one, two) + "\n}"
	elsewhere := func(directive string) string { return strings.Replace(directive, "failover {", "failover /other {", 1) }
	p := startCaddy(t, both)
	want := func(when, want string) {
		t.Helper()
		if got := attachedTo(t, "api"); got != want {
			t.Errorf("%s: %s, want %s", when, got, want)
		}
	}
	want("two handlers", "1 configurations, 2 handlers, one 2, two 2")
	thisPool, breakers := runningPool(t, "api"), func() *breaker.Config { return runningPool(t, "api").Generation.Load().Breaker.Load() }
	before := breakers()
	live := thisPool.Generation.Load()
	if p.load(elsewhere(site("\n\tbreaker {\n\t\topen_for 7s\n\t}", one, two, three))+"\n"+site("\n\tbreaker {\n\t\topen_for 8s\n\t}", one, two)) == nil {
		t.Fatal("breakers that disagree have loaded")
	}
	want("a configuration that fails", "1 configurations, 2 handlers, one 2, two 2")
	if breakers() != before || thisPool.Generation.Load() != live {
		t.Error("a configuration that fails: the pool runs by it")
	}
	for i := range 5 {
		if err := p.load(site(fmt.Sprintf("\n\ttimeout %ds", i+1), one, two, three)); err != nil {
			t.Fatal(err)
		}
		p.get("/")
		want("one handler", "1 configurations, 1 handlers, one 1, two 1, three 1")
	}
	if runningPool(t, "api") != thisPool {
		t.Error("it is another pool")
	}
	if err := p.load(site("", two)); err != nil {
		t.Fatal(err)
	}
	want("one endpoint", "1 configurations, 1 handlers, two 1")
	if err := p.load("respond ok"); err != nil {
		t.Fatal(err)
	}
	pool.Pools.Range(func(key, _ any) bool {
		t.Errorf("pool %q is still there", key)
		return true
	})
}
