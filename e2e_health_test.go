package failover

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// oftenChecked lets checks come quickly, so that tests end.
const oftenChecked = `
	breaker {
		open_for 500ms
		open_max 500ms
		step 50ms
	}
	health {
		interval 100ms
		fast_interval 50ms
		timeout 300ms
		%s
	}`

func checksOf(t *testing.T, endpoint string) CheckStatus {
	t.Helper()
	status := stateOf(t, "api", endpoint).status(time.Now(), runningPool(t, "api").breakerConfig())
	if status.Check == nil {
		return CheckStatus{} // not yet
	}
	return *status.Check
}

func waitForCheck(t *testing.T, endpoint, state, result string) {
	t.Helper()
	var last CheckStatus
	defer func() {
		if t.Failed() {
			t.Logf("last: %+v", last)
		}
	}()
	eventually(t, 10*time.Second, fmt.Sprintf("%s is %s because of %q", endpoint, state, result), func() bool {
		last = checksOf(t, endpoint)
		return last.State == state && strings.HasPrefix(last.LastResult, result)
	})
}

func isCheck(r *http.Request) bool { return r.Header.Get("User-Agent") == checkedBy }

// TestCheckRequests looks at what a check asks an endpoint for.
func TestCheckRequests(t *testing.T) {
	one, two, three := newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")
	var mu sync.Mutex
	seen := make(map[string]string)
	for _, a := range []*api{one, two, three} {
		a.behave(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			mu.Lock()
			seen[a.name] = fmt.Sprintf("%s %s host=%s auth=%s probe=%s agent=%s body=%s", r.Method, r.URL.RequestURI(), r.Host,
				r.Header.Get("Authorization"), r.Header.Get("X-Probe"), r.Header.Get("User-Agent"), body)
			mu.Unlock()
			w.WriteHeader(http.StatusNoContent)
		})
	}
	t.Setenv("CHECK_KEY", "s3cret")
	startCaddy(t, fmt.Sprintf(`failover {
	name api
	endpoint http://%s/v1/ {
		name one
		header Authorization "Bearer {env.CHECK_KEY}"
	}
	endpoint http://%s {
		name two
		health POST /ping?deep=1
	}
	endpoint http://%s {
		name three
		health off
	}
	health {
		uri /models
		method PUT
		header X-Probe yes
		body "{\"ping\": true}"
		expect_status 204
	}
}`, one.address, two.address, three.address))
	waitForCheck(t, "one", "up", checkPassed)
	waitForCheck(t, "two", "up", checkPassed)
	mu.Lock()
	defer mu.Unlock()
	want := map[string]string{
		"one": "PUT /v1/models host=" + one.address + " auth=Bearer s3cret probe=yes agent=" + checkedBy + ` body={"ping": true}`,
		"two": "POST /ping?deep=1 host=" + two.address + " auth= probe=yes agent=" + checkedBy + ` body={"ping": true}`,
	}
	for name, want := range want {
		if seen[name] != want {
			t.Errorf("%s was asked\n%s\nwant\n%s", name, seen[name], want)
		}
	}
	if seen["three"] != "" {
		t.Errorf("health off, and asked %s", seen["three"])
	}
}

// TestCheckAnswers lets endpoints answer checks in every way.
func TestCheckAnswers(t *testing.T) {
	trap := newAPI(t, "trap")
	big := strings.Repeat("x", 1<<20)
	var sent atomic.Int64
	endless := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			n, err := io.WriteString(w, big)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}
	trickle := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			fmt.Fprintln(w, "ok")
			_ = http.NewResponseController(w).Flush()
			lasting(10 * time.Millisecond)
		}
	}
	text := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	for _, tt := range []struct {
		name, options string
		answer        http.HandlerFunc
		state, result string
	}{
		{"no uri: 404 is an answer", "", text(404, ""), "up", checkPassed},
		{"no uri: 429 is none", "", text(429, ""), "down", "status 429"},
		{"no uri: 500 is none", "", text(500, ""), "down", "status 500"},
		{"a uri that is not there", "uri /up", text(404, ""), "down", "status 404"},
		{"a redirect passes and is not followed", "uri /up", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+trap.address+"/", http.StatusFound)
		}, "up", checkPassed},
		{"a redirect that must not be", "uri /up\nexpect_status 2xx", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+trap.address+"/", http.StatusFound)
		}, "down", "status 302"},
		{"the body matches", "uri /up\nmethod GET\nexpect_body \"\\\"status\\\": *\\\"ok\\\"\"", text(200, `{"status": "ok"}`), "up", checkPassed},
		{"the body does not", "uri /up\nmethod GET\nexpect_body ^ok", text(200, "not ok"), "down", "body: no match"},
		{"a match past what is read", "uri /up\nmethod GET\nexpect_body ok$", text(200, big+"ok"), "down", "body: no match"},
		{"an endless body", "uri /up\nmethod GET\nexpect_body no", endless, "down", "body: no match"},
		{"an endless body that does not matter", "uri /up\nmethod GET", endless, "up", checkPassed},
		{"a trickle", "uri /up\nmethod GET\nexpect_body never", trickle, "down", "body: timeout"},
		{"a trickle that does not matter", "uri /up\nmethod GET", trickle, "up", checkPassed},
		{"no answer", "", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "down", "timeout"},
		{"a cut", "", cut, "down", "reset"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			one.behave(tt.answer)
			sent.Store(0)
			startCaddy(t, fmt.Sprintf("failover {\nname api\nendpoint http://%s {\nname one\n}\nendpoint http://%s {\nname two\nhealth off\n}\n%s\n}",
				one.address, two.address, fmt.Sprintf(oftenChecked, tt.options)))
			waitForCheck(t, "one", tt.state, tt.result)
			c := checksOf(t, "one")
			if n := sent.Load(); n > int64(c.Sent)*(8<<20) {
				t.Errorf("%d checks read %d bytes", c.Sent, n)
			}
			want := stateClosed
			if tt.state == "down" {
				want = stateOpen
			}
			eventually(t, 5*time.Second, "the breaker is "+want.String(), func() bool {
				return stateOf(t, "api", "one").breakerNow() == want
			})
		})
	}
	if n := trap.hits.Load(); n > 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

// TestCheckConnections are checks of endpoints that cannot be reached, or only by
// way of the proxy's transport.
func TestCheckConnections(t *testing.T) {
	tls := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	tls.Config.ErrorLog = nil
	defer tls.Close()
	refused := newAPI(t, "refused")
	refused.down()
	other := newAPI(t, "other")
	for _, tt := range []struct{ name, url, options, state, result string }{
		{"a certificate nobody vouches for", tls.URL, "", "down", "tls"},
		{"a transport that does not mind", tls.URL, "transport http {\ntls_insecure_skip_verify\n}", "up", checkPassed},
		{"no such host", "http://no-such-host.invalid", "", "down", "dial"},
		{"refused", "http://" + refused.address, "", "down", "dial"},
		{"plain text where TLS is expected", "https://" + other.address, "", "down", "tls"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			startCaddy(t, fmt.Sprintf("failover {\nname api\nendpoint %s {\nname one\n}\nendpoint http://%s {\nname two\n}\n%s\n%s\n}",
				tt.url, other.address, fmt.Sprintf(oftenChecked, ""), tt.options))
			waitForCheck(t, "one", tt.state, tt.result)
		})
	}
}

// TestChecksAgainstCalls: what checks say and what calls see are two things.
func TestChecksAgainstCalls(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	var checksFail, callsFail atomic.Bool
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		if isCheck(r) && checksFail.Load() || !isCheck(r) && callsFail.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		one.fine(w, r)
	})
	p := startCaddy(t, site(fmt.Sprintf(oftenChecked, ""), one, two))
	waitForCheck(t, "one", "up", checkPassed)
	load := p.startLoad(50, http.MethodGet, "/", "")
	primary := stateOf(t, "api", "one")

	callsFail.Store(true)
	eventually(t, 5*time.Second, "calls take it out", func() bool { return primary.breakerNow() == stateOpen })
	lasting(2 * time.Second)
	if c := checksOf(t, "one"); c.State != "up" {
		t.Errorf("checks pass, and they are %+v", c)
	}
	callsFail.Store(false)
	eventually(t, 5*time.Second, "it is back", func() bool { return primary.breakerNow() == stateClosed })
	load.stop()

	// the checks of an endpoint whose calls pass: with few calls, they decide
	checksFail.Store(true)
	eventually(t, 5*time.Second, "checks take it out", func() bool { return primary.breakerNow() == stateOpen })
	if _, body := p.get("/"); body != "two" {
		t.Errorf("answered by %q", body)
	}
	checksFail.Store(false)
	eventually(t, 5*time.Second, "it is back", func() bool { return primary.breakerNow() == stateClosed })
	if load.failed > 0 {
		t.Errorf("%d of %d calls failed: %q", load.failed, len(load.times), load.errors)
	}
}

// TestReloadWhileChecksAreUnderWay removes one endpoint and asks another question
// of the other, while neither has answered yet.
func TestReloadWhileChecksAreUnderWay(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	var hanging atomic.Int64
	for _, a := range []*api{one, two} {
		a.behave(func(_ http.ResponseWriter, r *http.Request) {
			if !strings.HasSuffix(r.URL.Path, "/new") {
				hanging.Add(1)
				<-r.Context().Done()
				hanging.Add(-1)
			}
		})
	}
	p := startCaddy(t, site("health {\nuri /old\ntimeout 1h\nfast_interval 100ms\n}", one, two))
	eventually(t, 5*time.Second, "both checks hang", func() bool { return hanging.Load() == 2 })
	if err := p.load(site("health {\nuri /new\nfast_interval 50ms\n}", one)); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "both have ended", func() bool { return hanging.Load() == 0 })
	waitForCheck(t, "one", "up", checkPassed)
	if s := stateOf(t, "api", "one"); s.copyNow().checks.failed > 0 || s.breakerNow() != stateClosed {
		t.Errorf("the check that ended counts: %+v", s.copyNow().checks)
	}
}

// TestReloadRefusesDifferentChecks of one pool.
func TestReloadRefusesDifferentChecks(t *testing.T) {
	one := newAPI(t, "one")
	p := startCaddy(t, site("", one))
	with := func(health string) string {
		return fmt.Sprintf("failover %%s {\nname api\nendpoint http://%s {\nname one\n}\n%s\n}\n", one.address, health)
	}
	both := func(a, b string) string { return fmt.Sprintf(with(a), "/a*") + fmt.Sprintf(with(b), "/b*") }
	err := p.load(both("health {\nuri /a\n}", "health {\nuri /b\n}"))
	if err == nil || !strings.Contains(err.Error(), "different health checks") {
		t.Errorf("two different checks: %v", err)
	}
	if err := p.load(both("health {\nuri /a\n}", "")); err != nil {
		t.Errorf("one of two says it: %v", err)
	}
	waitForCheck(t, "one", "up", checkPassed)
}

// TestHealthErrors are configurations that are refused.
func TestHealthErrors(t *testing.T) {
	for options, want := range map[string]string{
		"health on":                                  "want off or a block",
		"health {\nuri up\n}":                        "invalid uri",
		"health {\nuri http://elsewhere/\n}":         "invalid uri",
		"health {\nmethod get\n}":                    "unknown method",
		"health {\nmethod any\n}":                    "invalid method",
		"health {\npasses 0\n}":                      "invalid passes",
		"health {\nfails x\n}":                       "invalid fails",
		"health {\nexpect_status 99\n}":              "invalid status",
		"health {\nexpect_body (\n}":                 "expect_body",
		"health {\ninterval 1s\nfast_interval 2s\n}": "must not be longer",
		"health {\nuri /a\nuri /b\n}":                "given twice",
		"health {\nheader X\n}":                      "want header",
		"health {\nfoo\n}":                           "unknown option foo",
		"breaker {\nslow_factor 0.5\n}":              "slow_factor",
		"breaker {\nslow_factor x\n}":                "slow_factor",
	} {
		_, err := tryAdapt("http://a {\nfailover {\nendpoint http://b:1\n" + options + "\n}\n}")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", options, err, want)
		}
	}
	for _, own := range []string{"health", "health on", "health GET", "health GET up", "health get /up"} {
		if _, err := tryAdapt("http://a {\nfailover {\nendpoint http://b:1 {\n" + own + "\n}\n}\n}"); err == nil {
			t.Errorf("%q of an endpoint is accepted", own)
		}
	}
}
