package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// TestReloadInMidTraffic checks that reloads under load fail no request and lose no state and no count.
func TestReloadInMidTraffic(t *testing.T) {
	apis := newAPIs(t, "one", "two", "three")
	one, two := apis[0], apis[1]
	config := func(timeout int) string { return keyed(fmt.Sprintf("timeout %ds%s", timeout, slowToReopen), apis...) }
	p := startCaddy(t, config(60))
	one.down()
	for range 10 {
		p.get().want(t, "while one is down", 200, "two")
	}
	two.answer(http.StatusTooManyRequests, "Retry-After", "100")
	p.get()
	p.wantState("one", "open")
	if p.one("two").HeldUntil.IsZero() {
		t.Fatal("the endpoint that asked to wait is not held")
	}
	before, served, calls := p.known(), p.one("three").Successes, sum(p.calls())

	load := p.startLoad(100, http.MethodGet, "")
	for i := range 10 {
		load.await(10)
		p.reload(config(61 + i))
	}
	load.stop()
	load.wantNoFailure()
	for _, l := range p.lines("") {
		if strings.Contains(fmt.Sprint(l["msg"]), "panic") {
			t.Errorf("the log says %v", l)
		}
	}
	after := p.known()
	for _, name := range []string{"one", "two"} {
		if before[name] != after[name] {
			t.Errorf("endpoint %s is %s, was %s", name, after[name], before[name])
		}
	}
	if got := p.one("three").Successes - served; int(got) != load.answered() {
		t.Errorf("%d successes were counted over the reloads, not %d", got, load.answered())
	}
	if got := sum(p.calls()) - calls; got != load.answered() {
		t.Errorf("%d calls were counted over the reloads, not %d", got, load.answered())
	}
}

func TestFailedReloadKeepsTheRunningPool(t *testing.T) {
	one, two, three := newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")
	running := site(slowToReopen, one, two)
	p := startCaddy(t, running)
	one.down()
	p.gets(6)
	p.wantState("one", "open")
	before := p.known()
	fails := func(t *testing.T, site, want string) {
		t.Helper()
		err := p.load(site)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("loading: got error %v, want %q", err, want)
		}
		if now := p.known(); !maps.Equal(before, now) {
			t.Errorf("the pool has %q, had %q", now, before)
		}
		hits := one.hits.Load() + two.hits.Load()
		p.get().want(t, "after the failed reload", 200, "two")
		if one.hits.Load()+two.hits.Load() != hits+1 {
			t.Error("the request was not served by one attempt")
		}
		before = p.known()
	}
	for _, c := range []struct{ name, site, want string }{
		{"a later handler cannot be provisioned", running + "\ntest_fails", "test_fails always fails"},
		{"the breakers of two handlers differ", at("/other", site("breaker {\n\t\topen_for 7s\n\t}", one, two, three)) +
			"\n" + site("breaker {\n\t\topen_for 8s\n\t}", one, two), "different breakers"},
		{"an endpoint has two URLs", site("", one) + "\n" + fmt.Sprintf(
			"reverse_proxy /x %s {\n\tlb_policy failover {\n\t\tname api\n\t\tupstream %s {\n\t\t\tname one\n\t\t\turl http://example.com\n\t\t}\n\t}\n}",
			one.address, one.address), "different URLs"},
		{"an endpoint is not among the upstreams", fmt.Sprintf(
			"reverse_proxy %s {\n\tlb_policy failover {\n\t\tname api\n\t\tupstream 127.0.0.1:1 {\n\t\t\tweight 3\n\t\t}\n\t}\n}", one.address),
			"no upstream of the proxy has the address"},
	} {
		t.Run(c.name, func(t *testing.T) { fails(t, c.site, c.want) })
	}
	p.reload(running)
	p.get().want(t, "after the good reload", 200, "two")
	if now := p.known(); now["one"] != before["one"] {
		t.Errorf("after the good reload the dead endpoint is %s, was %s", now["one"], before["one"])
	}
	before = p.known()
	t.Run("a listener cannot be opened", func(t *testing.T) { // must be last: Caddy cannot open a Unix socket after it
		fails(t, site("", one, three)+"\n}\nhttp://other.test {\n\tbind unix//nonexistent/directory/s\n\trespond x", "nonexistent")
	})
}

func TestRemovedEndpointsAndPoolsLoseTheirState(t *testing.T) {
	one, two, three := newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")
	p := startCaddy(t, site("", one, two))
	p.get()
	p.reload(site("", two, three))
	if now := p.known(); len(now) != 2 || now["one"] != "" || now["three"] == "" {
		t.Errorf("the pool's endpoints are %v", now)
	}
	p.reload(site("", one, two, three))
	p.wantTotals("one", totals{}) // its counts are lost
	p.reload(pooled("renamed", "", two))
	if pools := p.pools(); len(pools) != 1 || pools[0].Name != "renamed" {
		t.Errorf("the pools are %+v", pools)
	}
	p.reload("respond ok")
	if pools := p.pools(); len(pools) != 0 {
		t.Errorf("a configuration without pools has %+v", pools)
	}
}

// TestRequestsOutliveTheirConfiguration checks that requests in flight keep their timeout and their failover after a
// reload, and still end when their client leaves.
func TestRequestsOutliveTheirConfiguration(t *testing.T) {
	const limit = "timeout 4s" // longer than a reload takes, and shorter than the grace period
	for name, next := range map[string]func(one, two, three *api) string{
		"the same endpoints":  func(one, two, _ *api) string { return site(limit, one, two) },
		"one endpoint leaves": func(_, two, _ *api) string { return site(limit, two) },
		"all endpoints leave": func(_, _, three *api) string { return site(limit, three) },
		"the pool leaves":     func(_, _, three *api) string { return pooled("other", limit, three) },
	} {
		apart(t, name, func(t *testing.T) {
			one, two, three := newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")
			gone := make(chan string, 10)
			one.behave(func(_ http.ResponseWriter, r *http.Request) {
				<-r.Context().Done()
				gone <- r.Method
			})
			p := startCaddy(t, site(limit, one, two))
			stays := p.waiting(http.MethodGet, "/")
			leave, left := p.leaving(http.MethodPost, "/")
			eventually(t, "both requests are under way", func() bool { return one.hits.Load() == 2 })
			p.reload(next(one, two, three))
			leave()
			if err := receive(t, "the client's end", left); err == nil {
				t.Error("the client that left got an answer")
			}
			if method := receive(t, "the end of an attempt", gone); method != http.MethodPost {
				t.Errorf("a %s ended before the POST whose client left", method)
			}
			if got := receive(t, "the answer to the other request", stays); got != "200 two" {
				t.Errorf("got %s", got)
			}
			receive(t, "the end of the other attempt", gone)
			p.quiet()
			if strings.HasPrefix(name, "the same") {
				p.wantTotals("one", totals{Attempts: 2, Failures: 1, Cancelled: 1})
				p.wantTotals("two", totals{Attempts: 1, Successes: 1})
			}
		})
	}
}

func TestNothingRunsOnAfterCaddyStops(t *testing.T) {
	t.Run("Caddy", func(t *testing.T) { // starts the goroutines that Caddy itself leaves behind
		startCaddy(t, "respond ok").get()
	})
	before := goleak.IgnoreCurrent()
	const everything = `
	timeout 300ms
	health {
		interval 1s
	}
	sla {
		availability 99.9%
	}
	retry {
		hedge 50ms
	}`
	t.Run("failover", func(t *testing.T) {
		one, two := newAPI(t, "one"), newAPI(t, "two")
		p := startCaddy(t, site(everything, one, two)+"\n"+at("/second", pooled("second", "", two))+"\nfailover_dashboard /dashboard")
		one.down()
		for range 10 {
			p.get()
			p.call("GET", "/second", "")
		}
		for range 3 {
			for _, broken := range []string{site(everything, one), pooled("third", everything, one)} {
				if p.load(broken+"\ntest_fails") == nil {
					t.Fatal("loading should have failed")
				}
			}
		}
		p.reload(site(everything, two))
		p.get()

		// Caddy stops during a request, a tunnel and an event stream; the request ends by its timeout
		two.behave(two.echo)
		p.upgrade("websocket")
		r, _ := http.NewRequest(http.MethodGet, "http://127.0.0.1/failover/events", nil)
		r.Header.Set("Accept", "text/event-stream")
		stream, err := p.admin.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Body.Close()
		hits := two.hits.Load()
		defer two.hang()()
		answer := p.waiting(http.MethodPost, "/")
		eventually(t, "the request is under way", func() bool { return two.hits.Load() > hits })
		p.stop()
		receive(t, "the end of the request", answer)
	})
	p := startCaddy(t, "respond ok")
	if pools := p.pools(); len(pools) != 0 {
		t.Errorf("pools are left: %+v", pools)
	}
	p.stop()
	logRotation := goleak.IgnoreTopFunction("github.com/DeRuina/timberjack.(*Logger).millRun")  // Caddy never ends it
	lockFiles := goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh") // notices only every 5 s that its file is gone
	var left error
	defer func() {
		if t.Failed() {
			t.Log(left)
		}
	}()
	eventually(t, "no goroutine is left", func() bool {
		left = goleak.Find(before, logRotation, lockFiles)
		return left == nil
	})
}

// endpointsOf returns the sorted names of a pool's endpoints.
func (p *proxy) endpointsOf(pool string) string {
	p.t.Helper()
	var names []string
	for _, e := range p.pool(pool).Endpoints {
		names = append(names, e.Name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// TestReloadsReleaseEndpointsAndPools checks after good and failed reloads that a pool has exactly the endpoints of the
// running configuration, and that it is gone when no configuration uses it.
func TestReloadsReleaseEndpointsAndPools(t *testing.T) {
	one, two, three := newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")
	both := "handle /a {\n" + site("\n\ttimeout 1s", one, two) + "\n}\nhandle /b {\n" + site("\n\ttimeout 5s", one, two) + "\n}"
	elsewhere := func(directive string) string { return strings.Replace(directive, "failover {", "failover /other {", 1) }
	p := startCaddy(t, both)
	want := func(when, want string) {
		t.Helper()
		if got := p.endpointsOf("api"); got != want {
			t.Errorf("%s: %s, want %s", when, got, want)
		}
	}
	want("two handlers", "one two")
	if p.load(elsewhere(site("\n\tbreaker {\n\t\topen_for 7s\n\t}", one, two, three))+"\n"+site("\n\tbreaker {\n\t\topen_for 8s\n\t}", one, two)) == nil {
		t.Fatal("handlers with different breakers have loaded")
	}
	want("a configuration that fails", "one two")
	for i := range 5 {
		p.reload(site(fmt.Sprintf("\n\ttimeout %ds", i+1), one, two, three))
		p.get()
		want("one handler", "one three two")
	}
	if got := p.one("one").Attempts; got != 5 {
		t.Errorf("the pool was replaced: %d attempts, want 5", got)
	}
	p.reload(site("", two))
	want("one endpoint", "two")
	p.reload("respond ok")
	if left := p.pools(); len(left) > 0 {
		t.Errorf("pools are left: %+v", left)
	}
}
