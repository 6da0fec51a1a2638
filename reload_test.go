package failover

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/pool"
)

// endpointsOf are the names of a pool's endpoints.
func endpointsOf(t *testing.T, pool string) string {
	t.Helper()
	var names []string
	for _, e := range runningPool(t, pool).Status(time.Now()).Endpoints {
		names = append(names, e.Name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
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
		if got := endpointsOf(t, "api"); got != want {
			t.Errorf("%s: %s, want %s", when, got, want)
		}
	}
	want("two handlers", "one two")
	thisPool := runningPool(t, "api")
	if p.load(elsewhere(site("\n\tbreaker {\n\t\topen_for 7s\n\t}", one, two, three))+"\n"+site("\n\tbreaker {\n\t\topen_for 8s\n\t}", one, two)) == nil {
		t.Fatal("breakers that disagree have loaded")
	}
	want("a configuration that fails", "one two")
	for i := range 5 {
		if err := p.load(site(fmt.Sprintf("\n\ttimeout %ds", i+1), one, two, three)); err != nil {
			t.Fatal(err)
		}
		p.get("/")
		want("one handler", "one three two")
	}
	if runningPool(t, "api") != thisPool {
		t.Error("it is another pool")
	}
	if err := p.load(site("", two)); err != nil {
		t.Fatal(err)
	}
	want("one endpoint", "two")
	if err := p.load("respond ok"); err != nil {
		t.Fatal(err)
	}
	pool.Pools.Range(func(key, _ any) bool {
		t.Errorf("pool %q is still there", key)
		return true
	})
}
