package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// accessLog waits for n access log lines and returns all.
func (p *proxy) accessLog(n int) (lines []map[string]any) {
	p.t.Helper()
	eventually(p.t, "the access log is written", func() bool {
		lines = p.lines("handled request")
		return len(lines) >= n
	})
	return lines
}

func wantLog(t *testing.T, line map[string]any, pool, endpoint string, attempts int, outcome string) {
	t.Helper()
	if line["pool"] != pool || line["endpoint"] != endpoint || fmt.Sprint(line["attempts"]) != fmt.Sprint(attempts) || line["outcome"] != outcome {
		t.Errorf("pool %v, endpoint %v, attempts %v, outcome %v: want %v, %v, %v, %v",
			line["pool"], line["endpoint"], line["attempts"], line["outcome"], pool, endpoint, attempts, outcome)
	}
	wantField(t, line, pool, endpoint, attempts, outcome)
}

// TestTwoPoolsInOneRequest checks that two pools of one request, here by forward_auth, each move on from a failed
// endpoint and count only their own attempts.
func TestTwoPoolsInOneRequest(t *testing.T) {
	auth1, auth2 := newAPI(t, "auth1"), newAPI(t, "auth2")
	one, two := newAPI(t, "one"), newAPI(t, "two")
	auth1.down()
	auth2.behave(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Token") != "good" {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, "who are you?")
			return
		}
		w.Header().Set("X-User", "somebody")
	})
	one.answer(http.StatusServiceUnavailable)
	p := startCaddy(t, placeholders+fmt.Sprintf(`forward_auth %s %s {
	uri /auth
	copy_headers X-User
	lb_policy failover {
		name auth
	}
}
%s`, auth1.address, auth2.address, site(retrying, one, two)))
	for range 3 {
		p.call("POST", "/", "a body", "X-Token", "good").want(t, "with a token", 200, "two"+digest("a body"))
		if user := two.last(t).Header.Get("X-User"); user != "somebody" {
			t.Errorf("the endpoint got X-User %q", user)
		}
	}
	for range 6 {
		p.get().want(t, "without a token", 401, "who are you?")
	}
	p.quiet()
	if got := p.endpoint("auth", auth2.address).totals; got.Failures != 0 || got.Successes != 9 {
		t.Errorf("the second endpoint of auth has %+v", got)
	}
	if got := p.one("two").totals; got.Successes != 3 {
		t.Errorf("the second endpoint has %+v", got)
	}
	lines := p.accessLog(9)
	wantLog(t, lines[0], "api", "two", 2, "success")
	wantLog(t, lines[8], "auth", auth2.address, 1, "success") // by then auth1's breaker is open
}

// TestPlaceholdersDescribeTheCall checks the placeholders in requests to endpoints, in responses and in the access log.
func TestPlaceholdersDescribeTheCall(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.answer(http.StatusServiceUnavailable)
	const own = `header X-In-Endpoint "{http.failover.endpoint} {http.failover.attempts}"`
	p := startCaddy(t, placeholders+"respond /none none\n"+edited("api", `header_up X-Up "{http.failover.pool} {http.failover.endpoint} {http.failover.attempts}"
	header_down X-Down "{http.failover.pool} {http.failover.endpoint} {http.failover.attempts} {http.failover.outcome}"
	breaker off`, []*api{one, two}, own, own))
	if got := p.get().header.Get("X-Down"); got != "api two 2 success" {
		t.Errorf("the response has X-Down %q", got)
	}
	for i, a := range []*api{one, two} {
		if got, want := a.last(t).Header.Get("X-Up"), fmt.Sprintf("api %s %d", a.name, i+1); got != want {
			t.Errorf("endpoint %s got %q, want %q", a.name, got, want)
		}
		if got, want := a.last(t).Header.Get("X-In-Endpoint"), fmt.Sprintf("%s %d", a.name, i+1); got != want {
			t.Errorf("endpoint %s got %q in its own header, want %q", a.name, got, want)
		}
	}
	two.behave(cut)
	p.get()
	p.call("POST", "/", "x")
	p.call("GET", "/none", "")
	lines := p.accessLog(4)
	wantLog(t, lines[0], "api", "two", 2, "success")
	wantLog(t, lines[1], "api", "two", 2, "reset")
	wantLog(t, lines[2], "api", "one", 1, "status")
	if pool := lines[3]["pool"]; pool != nil && pool != "" {
		t.Errorf("a request without a pool is logged with the pool %v", pool)
	}
}

// TestAPoolBehindAPool checks that a second pool can answer after the first has failed, by handle_response and by
// handle_errors.
func TestAPoolBehindAPool(t *testing.T) {
	one, two, last := newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "last")
	first := pooled("first", "breaker off\n\t@bad status 5xx\n\thandle_response @bad {\n\t\t"+
		strings.ReplaceAll(pooled("second", "", two, last), "\n", "\n\t\t")+"\n\t}", one)
	p := startCaddy(t, placeholders+first+"\n}\nhttp://errors.test {\n\tbind unix/SOCKET\n\t"+
		pooled("third", "breaker {\n\t\tconsecutive_failures 1\n\t}", one)+
		"\n\thandle_errors {\n\t\t"+strings.ReplaceAll(pooled("fourth", "", two, last), "\n", "\n\t\t")+"\n\t}")
	p.get().want(t, "all well", 200, "one")
	one.answer(http.StatusServiceUnavailable)
	two.answer(http.StatusServiceUnavailable)
	for range 3 {
		p.get().want(t, "by handle_response", 200, "last")
	}
	lines := p.accessLog(4)
	wantLog(t, lines[0], "first", "one", 1, "success")
	wantLog(t, lines[1], "second", "last", 2, "success")
	p.quiet()
	if got := p.endpoint("first", "one").totals; got.Attempts != 4 || got.Failures != 3 {
		t.Errorf("the first pool's endpoint has %+v", got)
	}
	for i := range 4 { // the first gets the endpoint's own response; then the pool is down
		r, _ := http.NewRequest("GET", "http://errors.test/", nil)
		resp, err := p.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if i > 0 && resp.StatusCode != 503 && resp.StatusCode != 200 {
			t.Errorf("by handle_errors: got %d", resp.StatusCode)
		}
	}
	if got := p.endpoint("fourth", "last").totals; got.Successes == 0 {
		t.Errorf("the pool in handle_errors has %+v", got)
	}
}

// TestRetryOptionsOfTheProxyAreTakenOver checks that the policy follows lb_retries and lb_try_duration, unless `retry`
// overrides them.
func TestRetryOptionsOfTheProxyAreTakenOver(t *testing.T) {
	for _, c := range []struct {
		name, options string
		attempts      int
	}{
		{"no option", "", 3},
		{"lb_retries 1", "lb_retries 1", 2},
		{"lb_retries 3", "lb_retries 3", 4},
		{"lb_try_duration", "lb_try_duration 5s", 4},
		{"both", "lb_retries 3\n\tretry {\n\t\tattempts 2\n\t}", 2},
		{"retry off", "retry off", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			apis := newAPIs(t, "one", "two", "three", "four")
			for _, a := range apis {
				a.answer(http.StatusServiceUnavailable)
			}
			p := startCaddy(t, site(c.options, apis...))
			got := p.get()
			hits := 0
			for _, a := range apis {
				hits += int(a.hits.Load())
			}
			if hits != c.attempts || got.status != 503 || got.body != apis[c.attempts-1].name+" says 503" {
				t.Errorf("%d attempts, and %+v", hits, got)
			}
		})
	}
	t.Run("lb_try_duration ends", func(t *testing.T) { // before a third attempt
		apis := newAPIs(t, "one", "two", "three")
		for _, a := range apis {
			defer a.hang()()
		}
		p := startCaddy(t, site("lb_try_duration 2500ms\n\ttimeout 1300ms", apis...))
		if got := p.get(); got.status != 504 {
			t.Errorf("got %+v", got)
		}
		if one, two, three := apis[0].hits.Load(), apis[1].hits.Load(), apis[2].hits.Load(); one != 1 || two != 1 || three != 0 {
			t.Errorf("the endpoints got %d, %d and %d requests", one, two, three)
		}
	})
}

// TestLBRetryMatchMovesOn checks that calls of any method move on from responses that lb_retry_match selects, and that
// no endpoint is blamed.
func TestLBRetryMatchMovesOn(t *testing.T) {
	one, two, three := newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")
	one.answer(http.StatusNotFound)
	two.answer(http.StatusNotFound)
	p := startCaddy(t, site("lb_retry_match {\n\t\texpression `{http.reverse_proxy.status_code} == 404`\n\t}", one, two, three))
	for i, method := range []string{"GET", "POST", "PUT"} {
		p.call(method, "/", "a body").want(t, method, 200, "three"+digest("a body"))
		if one.hits.Load() != int64(i+1) || two.hits.Load() != int64(i+1) {
			t.Errorf("%s: the endpoints have %d and %d requests", method, one.hits.Load(), two.hits.Load())
		}
	}
	p.quiet()
	for _, name := range []string{"one", "two"} {
		if got := p.one(name); got.Failures != 0 {
			t.Errorf("endpoint %s has %+v", name, got.totals)
		}
	}
	three.answer(http.StatusNotFound)
	if got := p.get(); got.status != 404 {
		t.Errorf("all answer 404: got %+v", got)
	}
}

// TestCaddysHealthChecksWork checks that Caddy's passive and active checks take endpoints out.
func TestCaddysHealthChecksWork(t *testing.T) {
	t.Run("passive", func(t *testing.T) {
		one, two := newAPI(t, "one"), newAPI(t, "two")
		one.answer(http.StatusServiceUnavailable)
		p := startCaddy(t, site("breaker off\n\tfail_duration 60s\n\tmax_fails 2", one, two))
		for range 10 {
			p.get().want(t, "a call", 200, "two")
		}
		if hits := one.hits.Load(); hits != 2 {
			t.Errorf("the endpoint got %d requests", hits)
		}
	})
	t.Run("active", func(t *testing.T) {
		one, two := newAPI(t, "one"), newAPI(t, "two")
		healthy := func(a *api, status int) {
			a.behave(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/healthz" {
					w.WriteHeader(status)
					return
				}
				a.fine(w, r)
			})
		}
		healthy(one, 200)
		healthy(two, 200)
		p := startCaddy(t, site("health_uri /healthz\n\thealth_interval 50ms", one, two))
		p.get().want(t, "all well", 200, "one")
		healthy(one, 500)
		eventually(t, "the unhealthy endpoint gets no calls", func() bool { return p.get().body == "two" })
		healthy(two, 500)
		eventually(t, "both endpoints are unhealthy", func() bool { return p.get().status == 503 })
		healthy(one, 200)
		eventually(t, "the healthy endpoint gets calls again", func() bool { return p.get().body == "one" })
		if got := p.one("one").totals; got.Failures != 0 {
			t.Errorf("Caddy's checks count as attempts: %+v", got)
		}
	})
}

// TestHeadersOfTheEndpointComeAfterThoseOfTheProxy checks that an endpoint's `header` edits apply after `header_up`,
// with the request's placeholders, and that no endpoint of a pool with credentials gets the client's values of a field
// that an endpoint sets.
func TestHeadersOfTheEndpointComeAfterThoseOfTheProxy(t *testing.T) {
	t.Setenv("FAILOVER_TEST_REGION", "here")
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.answer(http.StatusServiceUnavailable)
	p := startCaddy(t, edited("api", "header_up X-Both proxy\n\theader_up +X-More proxy\n\theader_up Host from.proxy", []*api{one, two},
		`header X-Both endpoint-one
header +X-More one
header -X-Client
header X-Path "{http.request.uri.path} {http.request.header.X-Client}"`,
		`header X-Region {env.FAILOVER_TEST_REGION}
header Host api.example`))
	p.call("GET", "/path", "", "X-Client", "kept", "X-More", "client")
	for a, want := range map[*api]string{
		one: "[endpoint-one][proxy one][][/path kept][]" + one.address,
		two: "[proxy][proxy][kept][][here]api.example",
	} {
		r := a.last(t)
		got := fmt.Sprintf("%v%v%v%v%v%s", r.Header["X-Both"], r.Header["X-More"], r.Header["X-Client"], r.Header["X-Path"], r.Header["X-Region"], r.Host)
		if got != want {
			t.Errorf("endpoint %s got %s, want %s", a.name, got, want)
		}
	}
}

// TestHandlersThatNameOnePoolShareItsState checks that handlers of one pool share its breakers, and that each keeps its
// own timeout.
func TestHandlersThatNameOnePoolShareItsState(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, "handle /a {\n"+site("timeout 100ms", one, two)+"\n}\nhandle /b {\n"+site("timeout 1h", one, two)+"\n}")
	one.answer(http.StatusServiceUnavailable)
	for range 5 {
		p.call("GET", "/a", "")
	}
	hits := one.hits.Load()
	for range 5 {
		p.call("GET", "/b", "").want(t, "the second handler", 200, "two")
	}
	if one.hits.Load() != hits {
		t.Errorf("the second handler sent requests to the endpoint that failed in the first")
	}
	if pools := p.pools(); len(pools) != 1 || len(pools[0].Endpoints) != 2 {
		t.Errorf("the pools are %+v", pools)
	}
	two.behave(delayed(500*time.Millisecond, named("slow")))
	if got := p.call("POST", "/a", "x"); got.status != 504 {
		t.Errorf("the first handler's timeout: got %+v", got)
	}
	p.call("POST", "/b", "x").want(t, "the second handler's timeout", 200, "slow")
}

func TestAWeightWithoutEffectIsAWarning(t *testing.T) {
	apis := newAPIs(t, "one", "two", "three")
	p := startCaddy(t, edited("api", "", apis, "weight 3", "priority 2\nweight 3", "priority 2"))
	eventually(t, "the warning is in the log", func() bool {
		return slices.ContainsFunc(p.lines(""), func(l map[string]any) bool {
			return l["level"] == "warn" && l["endpoint"] == "one" && strings.Contains(fmt.Sprint(l["msg"]), "weight")
		})
	})
	for _, l := range p.lines("") {
		if strings.Contains(fmt.Sprint(l["msg"]), "weight") && l["endpoint"] != "one" {
			t.Errorf("an unexpected warning: %v", l)
		}
	}
}
