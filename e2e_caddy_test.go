package failover

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestTwoPoolsInOneRequest puts forward_auth before a pool, both with endpoints
// that fail, and wants each to move on by itself.
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
	p := startCaddy(t, fmt.Sprintf(`log
log_append pool {http.failover.pool}
log_append endpoint {http.failover.endpoint}
log_append attempts {http.failover.attempts}
log_append outcome {http.failover.outcome}
forward_auth %s %s {
	uri /auth
	copy_headers X-User
	lb_policy failover {
		name auth
	}
}
%s`, auth1.address, auth2.address, site(retrying, one, two)))
	for range 3 {
		got := p.call("POST", "/", "a body", "X-Token", "good")
		if got.status != 200 || got.body != "two"+digest("a body") {
			t.Fatalf("got %+v", got)
		}
		if user := two.last(t).Header.Get("X-User"); user != "somebody" {
			t.Errorf("the endpoint got X-User %q", user)
		}
	}
	for range 6 {
		if got := p.call("GET", "/", ""); got.status != 401 || got.body != "who are you?" {
			t.Fatalf("without a token: got %+v", got)
		}
	}
	if got := stateOf(t, "auth", auth2.address).totalsNow(); got.Failures != 0 || got.Successes != 9 {
		t.Errorf("the second authority has %+v", got)
	}
	if got := stateOf(t, "api", "two").totalsNow(); got.Successes != 3 {
		t.Errorf("the second endpoint has %+v", got)
	}
	for _, pool := range []string{"auth", "api"} {
		for key, s := range snap(t, pool).states {
			if n := s.state.inFlightNow(); n != 0 {
				t.Errorf("%d attempts are in flight at %s", n, key.name)
			}
		}
	}
	lines := accessLog(t, p, 9)
	wantLog(t, lines[0], "api", "two", 2, "success")
	wantLog(t, lines[8], "auth", auth2.address, 1, "success") // by then the dead one is passed over
}

// accessLog waits for a number of access log lines.
func accessLog(t *testing.T, p *proxy, n int) (lines []map[string]any) {
	t.Helper()
	eventually(t, waitForLog, "the access log is written", func() bool {
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
}

func TestPlaceholdersTellOfTheCall(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.answer(http.StatusServiceUnavailable)
	p := startCaddy(t, fmt.Sprintf(`log
log_append pool {http.failover.pool}
log_append endpoint {http.failover.endpoint}
log_append attempts {http.failover.attempts}
log_append outcome {http.failover.outcome}
respond /none none
failover {
	name api
	endpoint http://%s {
		name one
		header X-In-Endpoint "{http.failover.endpoint} {http.failover.attempts}"
	}
	endpoint http://%s {
		name two
		header X-In-Endpoint "{http.failover.endpoint} {http.failover.attempts}"
	}
	header_up X-Up "{http.failover.pool} {http.failover.endpoint} {http.failover.attempts}"
	header_down X-Down "{http.failover.pool} {http.failover.endpoint} {http.failover.attempts} {http.failover.outcome}"
	breaker off
}`, one.address, two.address))
	if got := p.call("GET", "/", "").header.Get("X-Down"); got != "api two 2 success" {
		t.Errorf("the answer says %q", got)
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
	p.call("GET", "/", "")
	p.call("POST", "/", "x")
	p.call("GET", "/none", "")
	lines := accessLog(t, p, 4)
	wantLog(t, lines[0], "api", "two", 2, "success")
	wantLog(t, lines[1], "api", "two", 2, "reset")
	wantLog(t, lines[2], "api", "one", 1, "status")
	if pool := lines[3]["pool"]; pool != nil && pool != "" {
		t.Errorf("a request that no pool has seen says %v", pool)
	}
}

// TestAPoolBehindAPool: a second pool answers where the first gave up, by
// handle_response and by handle_errors.
func TestAPoolBehindAPool(t *testing.T) {
	one, two, last := newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "last")
	first := pooled("first", "\n\tbreaker off\n\t@bad status 5xx\n\thandle_response @bad {\n\t\t"+
		strings.ReplaceAll(pooled("second", "", two, last), "\n", "\n\t\t")+"\n\t}", one)
	p := startCaddy(t, "log\nlog_append pool {http.failover.pool}\nlog_append endpoint {http.failover.endpoint}\nlog_append attempts {http.failover.attempts}\nlog_append outcome {http.failover.outcome}\n"+
		first+"\n}\nhttp://errors.test {\n\tbind unix/SOCKET\n\t"+pooled("third", "\n\tbreaker {\n\t\tconsecutive_failures 1\n\t}", one)+
		"\n\thandle_errors {\n\t\t"+strings.ReplaceAll(pooled("fourth", "", two, last), "\n", "\n\t\t")+"\n\t}")
	if got := p.call("GET", "/", ""); got.status != 200 || got.body != "one" {
		t.Fatalf("all well: got %+v", got)
	}
	one.answer(http.StatusServiceUnavailable)
	two.answer(http.StatusServiceUnavailable)
	for range 3 {
		if got := p.call("GET", "/", ""); got.status != 200 || got.body != "last" {
			t.Fatalf("by handle_response: got %+v", got)
		}
	}
	lines := accessLog(t, p, 4)
	wantLog(t, lines[0], "first", "one", 1, "success")
	wantLog(t, lines[1], "second", "last", 2, "success")
	if got := stateOf(t, "first", "one").totalsNow(); got.Attempts != 4 || got.Failures != 3 {
		t.Errorf("the first pool's endpoint has %+v", got)
	}
	if n := stateOf(t, "first", "one").inFlightNow() + stateOf(t, "second", "last").inFlightNow(); n != 0 {
		t.Errorf("%d attempts are in flight", n)
	}
	for i := range 4 { // the first gets the endpoint's own answer, then the pool is out
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
	if got := stateOf(t, "fourth", "last").totalsNow(); got.Successes == 0 {
		t.Errorf("the pool in handle_errors has %+v", got)
	}
}

func TestRetriesOfTheProxyAreTakenOver(t *testing.T) {
	cases := []struct {
		name, options string
		attempts      int
	}{
		{"none said", "", 3},
		{"lb_retries 1", "lb_retries 1", 2},
		{"lb_retries 3", "lb_retries 3", 4},
		{"lb_try_duration", "lb_try_duration 5s", 4},
		{"both", "lb_retries 3\n\tretry {\n\t\tattempts 2\n\t}", 2},
		{"retry off", "retry off", 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			apis := []*api{newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three"), newAPI(t, "four")}
			for _, a := range apis {
				a.answer(http.StatusServiceUnavailable)
			}
			p := startCaddy(t, site("\n\t"+c.options, apis...))
			got := p.call("GET", "/", "")
			hits := 0
			for _, a := range apis {
				hits += int(a.hits.Load())
			}
			if hits != c.attempts || got.status != 503 || got.body != apis[c.attempts-1].name+" says 503" {
				t.Errorf("%d attempts, and %+v", hits, got)
			}
		})
	}
	t.Run("lb_try_duration ends", func(t *testing.T) {
		apis := []*api{newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")}
		for _, a := range apis {
			defer a.hang()()
		}
		p := startCaddy(t, site("\n\tlb_try_duration 250ms\n\ttimeout 150ms", apis...))
		began := time.Now()
		if got := p.call("GET", "/", ""); got.status != 504 {
			t.Errorf("got %+v", got)
		}
		within(t, "two attempts", time.Since(began), 300*time.Millisecond)
	})
}

// TestLBRetryMatchMovesOnFromAnswersThatAreNone to the policy, and blames nobody.
func TestLBRetryMatchMovesOnFromAnswersThatAreNone(t *testing.T) {
	one, two, three := newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")
	one.answer(http.StatusNotFound)
	two.answer(http.StatusNotFound)
	p := startCaddy(t, site("\n\tlb_retry_match {\n\t\texpression `{http.reverse_proxy.status_code} == 404`\n\t}", one, two, three))
	for i, method := range []string{"GET", "POST", "PUT"} {
		if got := p.call(method, "/", "a body"); got.status != 200 || got.body != "three"+digest("a body") {
			t.Errorf("%s: got %+v", method, got)
		}
		if one.hits.Load() != int64(i+1) || two.hits.Load() != int64(i+1) {
			t.Errorf("%s: the endpoints have %d and %d requests", method, one.hits.Load(), two.hits.Load())
		}
	}
	for _, name := range []string{"one", "two"} {
		if got := stateOf(t, "api", name); got.totalsNow().Failures != 0 || got.inFlightNow() != 0 {
			t.Errorf("endpoint %s has %+v and %d in flight", name, got.totalsNow(), got.inFlightNow())
		}
	}
	three.answer(http.StatusNotFound)
	if got := p.call("GET", "/", ""); got.status != 404 {
		t.Errorf("where all say 404: got %+v", got)
	}
}

func TestHealthChecksOfTheProxyWorkBesideOurs(t *testing.T) {
	t.Run("passive", func(t *testing.T) {
		one, two := newAPI(t, "one"), newAPI(t, "two")
		one.answer(http.StatusServiceUnavailable)
		p := startCaddy(t, site("\n\tbreaker off\n\tfail_duration 60s\n\tmax_fails 2", one, two))
		for range 10 {
			if got := p.call("GET", "/", ""); got.status != 200 || got.body != "two" {
				t.Fatalf("got %+v", got)
			}
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
		p := startCaddy(t, site("\n\thealth_uri /healthz\n\thealth_interval 50ms", one, two))
		if got := p.call("GET", "/", ""); got.body != "one" {
			t.Fatalf("all well: got %+v", got)
		}
		healthy(one, 500)
		eventually(t, 3*time.Second, "the unhealthy endpoint is passed over", func() bool { return p.call("GET", "/", "").body == "two" })
		healthy(two, 500)
		eventually(t, 3*time.Second, "all are unhealthy", func() bool { return p.call("GET", "/", "").status == 503 })
		healthy(one, 200)
		eventually(t, 3*time.Second, "the healthy endpoint is asked again", func() bool { return p.call("GET", "/", "").body == "one" })
		if got := stateOf(t, "api", "one").totalsNow(); got.Failures != 0 {
			t.Errorf("checks of the proxy count as attempts: %+v", got)
		}
	})
}

// TestHeadersOfTheEndpointComeAfterThoseOfTheProxy, and placeholders in them are
// those of the request.
func TestHeadersOfTheEndpointComeAfterThoseOfTheProxy(t *testing.T) {
	t.Setenv("FAILOVER_TEST_REGION", "here")
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.answer(http.StatusServiceUnavailable)
	p := startCaddy(t, fmt.Sprintf(`failover {
	endpoint http://%s {
		name one
		header X-Both endpoint-one
		header +X-More one
		header -X-Client
		header X-Path "{http.request.uri.path} {http.request.header.X-Client}"
	}
	endpoint http://%s {
		name two
		header X-Region {env.FAILOVER_TEST_REGION}
		header Host api.example
	}
	header_up X-Both proxy
	header_up +X-More proxy
	header_up Host from.proxy
}`, one.address, two.address))
	p.call("GET", "/path", "", "X-Client", "kept", "X-More", "client")
	for a, want := range map[*api]string{
		one: "[endpoint-one][client proxy one][][/path kept][]" + one.address,
		two: "[proxy][client proxy][kept][][here]api.example",
	} {
		r := a.last(t)
		got := fmt.Sprintf("%v%v%v%v%v%s", r.Header["X-Both"], r.Header["X-More"], r.Header["X-Client"], r.Header["X-Path"], r.Header["X-Region"], r.Host)
		if got != want {
			t.Errorf("endpoint %s got %s, want %s", a.name, got, want)
		}
	}
}

func TestHandlersThatNameOnePoolShareItsState(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, "handle /a {\n"+site("\n\ttimeout 100ms", one, two)+"\n}\nhandle /b {\n"+site("\n\ttimeout 5s", one, two)+"\n}")
	one.answer(http.StatusServiceUnavailable)
	for range 5 {
		p.call("GET", "/a", "")
	}
	hits := one.hits.Load()
	for range 5 {
		if got := p.call("GET", "/b", ""); got.status != 200 || got.body != "two" {
			t.Errorf("got %+v", got)
		}
	}
	if one.hits.Load() != hits {
		t.Errorf("the second handler asked the endpoint that the first knows to be dead")
	}
	if now := snap(t, "api"); len(now.states) != 2 || now.policies != 2 || stateByName(now, "one").refs != 2 {
		t.Errorf("the pool is %+v", now)
	}
	two.behave(func(w http.ResponseWriter, r *http.Request) {
		<-time.After(250 * time.Millisecond)
		fmt.Fprint(w, "slow")
	})
	if got := p.call("POST", "/a", "x"); got.status != 504 {
		t.Errorf("the first handler's timeout: got %+v", got)
	}
	if got := p.call("POST", "/b", "x"); got.status != 200 || got.body != "slow" {
		t.Errorf("the second handler's timeout: got %+v", got)
	}
}

func TestAWeightThatCanDoNothingIsAWarning(t *testing.T) {
	one, two, three := newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")
	p := startCaddy(t, fmt.Sprintf("failover {\n\tname api\n\tendpoint http://%s {\n\t\tname one\n\t\tweight 3\n\t}\n\tendpoint http://%s {\n\t\tname two\n\t\tpriority 2\n\t\tweight 3\n\t}\n\tendpoint http://%s {\n\t\tname three\n\t\tpriority 2\n\t}\n}",
		one.address, two.address, three.address))
	eventually(t, waitForLog, "the warning is in the log", func() bool {
		return slices.ContainsFunc(p.lines(""), func(l map[string]any) bool {
			return l["level"] == "warn" && l["endpoint"] == "one" && strings.Contains(fmt.Sprint(l["msg"]), "weight")
		})
	})
	for _, l := range p.lines("") {
		if strings.Contains(fmt.Sprint(l["msg"]), "weight") && l["endpoint"] != "one" {
			t.Errorf("a warning too many: %v", l)
		}
	}
}
