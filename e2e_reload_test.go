package failover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/goleak"
)

func init() {
	caddy.RegisterModule(failing{})
	httpcaddyfile.RegisterHandlerDirective("test_fails", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		return failing{}, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("test_fails", httpcaddyfile.After, "reverse_proxy")
}

// failing is a handler that cannot be provisioned.
type failing struct{}

func (failing) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_fails", New: func() caddy.Module { return failing{} }}
}

func (failing) Provision(caddy.Context) error { return errors.New("provisioning fails, as it should") }

func (failing) ServeHTTP(http.ResponseWriter, *http.Request, caddyhttp.Handler) error { return nil }

// A snapshot is what a reload must not change unless it means to.
type snapshot struct {
	pool       *pool
	generation *generation
	attached   int
	policies   int
	breaker    *breakerConfig
	states     map[endpointKey]stateSnapshot
}

type stateSnapshot struct {
	state    *endpointState
	refs     int
	breaker  breakerState
	share    float64
	totals   totals
	held     time.Time
	relapses int
}

func snap(t testing.TB, name string) snapshot {
	p := runningPool(t, name)
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.generation.Load()
	s := snapshot{p, g, len(p.attached), len(g.policies), g.breaker.Load(), make(map[endpointKey]stateSnapshot)}
	for key, state := range p.states {
		state.mu.Lock()
		state.countLocked(time.Now())
		s.states[key] = stateSnapshot{state, state.refs, state.breaker.state, state.breaker.share, state.totals, state.holdUntil, state.breaker.relapses}
		state.mu.Unlock()
	}
	return s
}

func (s snapshot) diff(now snapshot) string {
	switch {
	case s.pool != now.pool:
		return "it is another pool"
	case s.generation != now.generation:
		return "another configuration is live"
	case s.attached != now.attached, s.policies != now.policies:
		return fmt.Sprintf("%d configurations with %d handlers, not %d with %d", now.attached, now.policies, s.attached, s.policies)
	case s.breaker != now.breaker:
		return "the breakers run by something else"
	case len(s.states) != len(now.states):
		return fmt.Sprintf("%d endpoints, not %d", len(now.states), len(s.states))
	}
	for key, state := range s.states {
		if now.states[key] != state {
			return fmt.Sprintf("endpoint %s is %+v, was %+v", key.name, now.states[key], state)
		}
	}
	return ""
}

// keyed is an endpoint with a key of its own.
func keyed(a *api) string {
	return fmt.Sprintf("endpoint http://%s {\n\t\tname %s\n\t\theader Authorization \"Bearer key-of-%s\"\n\t}\n", a.address, a.name, a.name)
}

const slowToReopen = `
	breaker {
		open_for 60s
	}`

func TestReloadInMidTrafficFailsNoRequestAndForgetsNothing(t *testing.T) {
	one, two, three := newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")
	config := func(timeout int) string {
		return "failover {\n\tname api\n" + keyed(one) + keyed(two) + keyed(three) + slowToReopen +
			fmt.Sprintf("\n\ttimeout %ds\n}", timeout)
	}
	p := startCaddy(t, config(60))
	one.down()
	for range 10 {
		if got := p.call("GET", "/", ""); got.status != 200 || got.body != "two" {
			t.Fatalf("got %d %q", got.status, got.body)
		}
	}
	two.answer(http.StatusTooManyRequests, "Retry-After", "100")
	p.call("GET", "/", "")
	before := snap(t, "api")
	if s := before.states[endpointKey{"one", one.address}]; s.breaker != stateOpen {
		t.Fatalf("the breaker of the dead endpoint is %v", s.breaker)
	}
	if s := before.states[endpointKey{"two", two.address}]; s.held.IsZero() {
		t.Fatal("the endpoint that asked to wait is not held")
	}
	calls := runningPool(t, "api").budget.calls.Load()

	load := p.startLoad(100, http.MethodGet, "/", "")
	for i := range 10 {
		lasting(100 * time.Millisecond)
		if err := p.load(config(61 + i)); err != nil {
			t.Fatalf("reload %d: %v", i, err)
		}
	}
	load.stop()
	if load.failed > 0 {
		t.Errorf("%d of %d calls failed: %q", load.failed, len(load.times), load.errors)
	}
	for _, l := range p.lines("") {
		if strings.Contains(fmt.Sprint(l["msg"]), "panic") {
			t.Errorf("the log says %v", l)
		}
	}
	after := snap(t, "api")
	if after.pool != before.pool || after.attached != 1 {
		t.Errorf("another pool, or %d configurations left", after.attached)
	}
	for _, name := range []string{"one", "two"} {
		was, is := stateByName(before, name), stateByName(after, name)
		if was != is {
			t.Errorf("endpoint %s is %+v, was %+v", name, is, was)
		}
	}
	if got := runningPool(t, "api").budget.calls.Load() - calls; got != int64(len(load.times)) {
		t.Errorf("%d calls were counted over the reloads, not %d", got, len(load.times))
	}
	if served := stateByName(after, "three").totals.Successes - stateByName(before, "three").totals.Successes; int(served) != len(load.times) {
		t.Errorf("%d successes were counted over the reloads, not %d", served, len(load.times))
	}
}

func stateByName(s snapshot, name string) stateSnapshot {
	for key, state := range s.states {
		if key.name == name {
			return state
		}
	}
	return stateSnapshot{}
}

func TestFailedReloadLeavesTheRunningPoolAsItWas(t *testing.T) {
	one, two, three := newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")
	running := site(slowToReopen, one, two)
	p := startCaddy(t, running)
	one.down()
	for range 6 {
		p.call("GET", "/", "")
	}
	before := snap(t, "api")
	if stateByName(before, "one").breaker != stateOpen {
		t.Fatal("the breaker did not open")
	}
	other := strings.ReplaceAll(site("\n\tbreaker {\n\t\topen_for 7s\n\t}", one, two, three), "failover {", "failover /other {")
	cases := []struct{ name, site, want string }{
		{"a later handler cannot be provisioned", running + "\ntest_fails", "provisioning fails, as it should"},
		{"another pool disagrees with itself", other + "\n" + site("\n\tbreaker {\n\t\topen_for 8s\n\t}", one, two), "different breakers"},
		{"an endpoint has two URLs", site("", one) + "\n" + fmt.Sprintf(
			"reverse_proxy /x %s {\n\tlb_policy failover {\n\t\tname api\n\t\tupstream %s {\n\t\t\tname one\n\t\t\turl http://example.com\n\t\t}\n\t}\n}",
			one.address, one.address), "different URLs"},
		{"an endpoint is not among the upstreams", fmt.Sprintf(
			"reverse_proxy %s {\n\tlb_policy failover {\n\t\tname api\n\t\tupstream 127.0.0.1:1 {\n\t\t\tweight 3\n\t\t}\n\t}\n}", one.address),
			"no upstream of the proxy has the address"},
	}
	fails := func(t *testing.T, site, want string) {
		t.Helper()
		err := p.load(site)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("loading: got error %v, want %q", err, want)
		}
		if diff := before.diff(snap(t, "api")); diff != "" {
			t.Error(diff)
		}
		hits := one.hits.Load() + two.hits.Load()
		if got := p.call("GET", "/", ""); got.status != 200 || got.body != "two" {
			t.Errorf("after the failed reload: got %d %q", got.status, got.body)
		}
		if one.hits.Load()+two.hits.Load() != hits+1 {
			t.Error("the request was not served by one attempt")
		}
		before = snap(t, "api")
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { fails(t, c.site, c.want) })
	}
	if err := p.load(running); err != nil {
		t.Fatalf("reloading after the failed reloads: %v", err)
	}
	if got := p.call("GET", "/", ""); got.status != 200 || got.body != "two" {
		t.Errorf("after the good reload: got %d %q", got.status, got.body)
	}
	if now := stateByName(snap(t, "api"), "one"); now.state != stateByName(before, "one").state || now.breaker != stateOpen || now.refs != 1 {
		t.Errorf("after the good reload the dead endpoint is %+v", now)
	}
	before = snap(t, "api")
	t.Run("a listener cannot be opened", func(t *testing.T) { // last: Caddy cannot open a unix socket again after that
		fails(t, site("", one, three)+"\n}\nhttp://other.test {\n\tbind unix//nonexistent/directory/s\n\trespond x", "nonexistent")
	})
}

func TestEndpointsAndPoolsThatLeaveTheConfigurationLeaveTheState(t *testing.T) {
	one, two, three := newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")
	p := startCaddy(t, site("", one, two))
	p.call("GET", "/", "")
	if err := p.load(site("", two, three)); err != nil {
		t.Fatal(err)
	}
	now := snap(t, "api")
	if len(now.states) != 2 || stateByName(now, "one").state != nil || stateByName(now, "three").state == nil {
		t.Errorf("the pool's endpoints are %v", now.states)
	}
	if err := p.load(pooled("renamed", "", two)); err != nil {
		t.Fatal(err)
	}
	pools.Range(func(key, _ any) bool {
		if key != "renamed" {
			t.Errorf("pool %q is still there", key)
		}
		return true
	})
}

// TestRequestsOutliveTheConfigurationTheyBeganIn: after a reload they still have
// their timeouts and failovers, and their clients may still leave.
func TestRequestsOutliveTheConfigurationTheyBeganIn(t *testing.T) {
	const limit = "\n\ttimeout 700ms"
	next := map[string]func(one, two, three *api) string{
		"the same endpoints":  func(one, two, _ *api) string { return site(limit, one, two) },
		"one endpoint leaves": func(_, two, _ *api) string { return site(limit, two) },
		"all endpoints leave": func(_, _, three *api) string { return site(limit, three) },
		"the pool leaves":     func(_, _, three *api) string { return pooled("other", limit, three) },
	}
	for name, then := range next {
		t.Run(name, func(t *testing.T) {
			one, two, three := newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")
			defer one.hang()()
			p := startCaddy(t, site(limit, one, two))
			states := map[string]*endpointState{"one": stateOf(t, "api", "one"), "two": stateOf(t, "api", "two")}
			answers := make(chan string, 1)
			go func() {
				resp, err := p.do(http.MethodGet, "/", nil)
				if err != nil {
					answers <- err.Error()
					return
				}
				defer resp.Body.Close()
				text, _ := io.ReadAll(resp.Body)
				answers <- fmt.Sprint(resp.StatusCode, " ", string(text))
			}()
			ctx, leave := context.WithCancel(t.Context())
			left := make(chan error, 1)
			go func() {
				r, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://api.test/", nil)
				_, err := p.client.Do(r)
				left <- err
			}()
			eventually(t, time.Second, "both requests are under way", func() bool { return one.hits.Load() == 2 })
			if err := p.load(then(one, two, three)); err != nil {
				t.Fatal(err)
			}
			leave()
			<-left
			eventually(t, 500*time.Millisecond, "the request that was given up is out of flight", func() bool { return states["one"].inFlightNow() == 1 })
			if cancelled := states["one"].totalsNow().Cancelled; cancelled != 1 {
				t.Errorf("%d attempts count as cancelled, not 1", cancelled)
			}
			select {
			case got := <-answers:
				if got != "200 two" {
					t.Errorf("got %s", got)
				}
			case <-time.After(3 * time.Second):
				t.Fatal("the request that hung has no answer")
			}
			eventually(t, time.Second, "nothing is in flight", func() bool {
				return states["one"].inFlightNow() == 0 && states["two"].inFlightNow() == 0
			})
			if failures := states["one"].totalsNow().Failures; failures != 1 {
				t.Errorf("%d attempts count as failed, not 1", failures)
			}
		})
	}
}

func TestNothingRunsOnAfterCaddyStops(t *testing.T) {
	t.Run("Caddy", func(t *testing.T) { // warm up what Caddy itself leaves
		startCaddy(t, "respond ok").get("/")
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
		p := startCaddy(t, site(everything, one, two)+"\n"+strings.Replace(pooled("second", "", two), "failover", "failover /second", 1)+"\nfailover_dashboard /dashboard")
		one.down()
		for range 10 {
			p.get("/")
			p.get("/second")
		}
		for range 3 {
			if p.load(site(everything, one)+"\ntest_fails") == nil {
				t.Fatal("loading should have failed")
			}
			if p.load(pooled("third", everything, one)+"\ntest_fails") == nil {
				t.Fatal("loading should have failed")
			}
		}
		if err := p.load(site(everything, two)); err != nil {
			t.Fatal(err)
		}
		p.get("/")

		// stop with a request and a tunnel under way
		two.behave(two.echo)
		p.upgrade("websocket")
		defer two.hang()()
		go func() {
			if resp, err := p.do(http.MethodPost, "/", nil); err == nil {
				resp.Body.Close()
			}
		}()
		hits := two.hits.Load()
		eventually(t, time.Second, "the request is under way", func() bool { return two.hits.Load() > hits })
	})
	pools.Range(func(key, _ any) bool {
		t.Errorf("pool %q is still there", key)
		return true
	})
	logRotation := goleak.IgnoreTopFunction("github.com/DeRuina/timberjack.(*Logger).millRun")  // Caddy's, by its own choice
	lockFiles := goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh") // looks at its file every 5 s
	if err := goleak.Find(before, logRotation, lockFiles); err != nil {
		t.Error(err)
	}
}
