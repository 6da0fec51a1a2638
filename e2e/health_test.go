package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	checkedBy   = "caddy-failover health check" // the User-Agent of checks
	checkPassed = "passed"
)

// oftenChecked returns options with short intervals of checks, and short times of the breaker.
func oftenChecked(options string) string {
	return `
	breaker {
		open_for 500ms
		open_max 500ms
		step 50ms
	}
	health {
		interval 100ms
		fast_interval 50ms
		timeout 1s
		` + options + `
	}`
}

// check returns the state of the checks of an endpoint of the pool api. It is zero before the first check.
func (p *proxy) check(name string) checkStatus {
	p.t.Helper()
	if c := p.one(name).Check; c != nil {
		return *c
	}
	return checkStatus{}
}

// waitForCheck waits until the checks of an endpoint of the pool api have this state, and a last result that begins
// with result.
func (p *proxy) waitForCheck(name, state, result string) {
	p.t.Helper()
	var last checkStatus
	defer func() {
		if p.t.Failed() {
			p.t.Logf("last: %+v", last)
		}
	}()
	eventually(p.t, fmt.Sprintf("%s is %s because of %q", name, state, result), func() bool {
		last = p.check(name)
		return last.State == state && strings.HasPrefix(last.LastResult, result)
	})
}

func isCheck(r *http.Request) bool { return r.Header.Get("User-Agent") == checkedBy }

// TestCheckRequests checks the requests that checks send, with options of the pool and of an endpoint.
func TestCheckRequests(t *testing.T) {
	apis := newAPIs(t, "one", "two", "three")
	var mu sync.Mutex
	seen := make(map[string]string)
	for _, a := range apis {
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
	p := startCaddy(t, fmt.Sprintf(`failover {
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
		interval 500ms
		fast_interval 500ms
	}
}`, apis[0].address, apis[1].address, apis[2].address))
	p.waitForCheck("one", "up", checkPassed)
	p.waitForCheck("two", "up", checkPassed)
	mu.Lock()
	defer mu.Unlock()
	for name, want := range map[string]string{
		"one":   "PUT /v1/models host=" + apis[0].address + " auth=Bearer s3cret probe=yes agent=" + checkedBy + ` body={"ping": true}`,
		"two":   "POST /ping?deep=1 host=" + apis[1].address + " auth= probe=yes agent=" + checkedBy + ` body={"ping": true}`,
		"three": "",
	} {
		if seen[name] != want {
			t.Errorf("%s got\n%s\nwant\n%s", name, seen[name], want)
		}
	}
}

// TestCheckAnswers checks the result of a check for many kinds of response.
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
		for {
			fmt.Fprintln(w, "ok")
			flush(w)
			if !pause(r.Context(), 10*time.Millisecond) {
				return
			}
		}
	}
	text := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	elsewhere := func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+trap.address+"/", http.StatusFound)
	}
	for _, tt := range []struct {
		name, options string
		answer        http.HandlerFunc
		state, result string
	}{
		{"no uri: 404 passes", "", text(404, ""), "up", checkPassed},
		{"no uri: 429 fails", "", text(429, ""), "down", "status 429"},
		{"no uri: 500 fails", "", text(500, ""), "down", "status 500"},
		{"a uri that is not found", "uri /up", text(404, ""), "down", "status 404"},
		{"a redirect passes and is not followed", "uri /up", elsewhere, "up", checkPassed},
		{"a redirect that is not expected", "uri /up\nexpect_status 2xx", elsewhere, "down", "status 302"},
		{"the body matches", "uri /up\nmethod GET\nexpect_body \"\\\"status\\\": *\\\"ok\\\"\"", text(200, `{"status": "ok"}`), "up", checkPassed},
		{"the body does not match", "uri /up\nmethod GET\nexpect_body ^ok", text(200, "not ok"), "down", "body: no match"},
		{"a match beyond the examined part", "uri /up\nmethod GET\nexpect_body ok$", text(200, big+"ok"), "down", "body: no match"},
		{"an endless body", "uri /up\nmethod GET\nexpect_body no", endless, "down", "body: no match"},
		{"an endless body without expect_body", "uri /up\nmethod GET", endless, "up", checkPassed},
		{"a trickle", "uri /up\nmethod GET\nexpect_body never", trickle, "down", "body: timeout"},
		{"a trickle without expect_body", "uri /up\nmethod GET", trickle, "up", checkPassed},
		{"no answer", "", silent, "down", "timeout"},
		{"a cut", "", cut, "down", "reset"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			one.behave(tt.answer)
			sent.Store(0)
			p := startCaddy(t, edited("api", oftenChecked(tt.options), []*api{one, two}, "", "health off"))
			p.waitForCheck("one", tt.state, tt.result)
			n := sent.Load()
			if c := p.check("one"); n > int64(c.Sent)*(8<<20) {
				t.Errorf("%d checks read %d bytes", c.Sent, n)
			}
			want := "closed"
			if tt.state == "down" {
				want = "open"
			}
			p.becomes("one", want)
		})
	}
	if n := trap.hits.Load(); n > 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

// TestCheckConnections checks endpoints that cannot be reached, and one that only the proxy's transport can reach.
func TestCheckConnections(t *testing.T) {
	tls := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer tls.Close()
	refused := newAPI(t, "refused")
	refused.down()
	other := newAPI(t, "other")
	for _, tt := range []struct{ name, url, options, state, result string }{
		{"an untrusted certificate", tls.URL, "", "down", "tls"},
		{"a transport that trusts any certificate", tls.URL, "transport http {\ntls_insecure_skip_verify\n}", "up", checkPassed},
		{"no such host", "http://no-such-host.invalid", "", "down", "dial"},
		{"refused", "http://" + refused.address, "", "down", "dial"},
		{"plain text where TLS is expected", "https://" + other.address, "", "down", "tls"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := startCaddy(t, fmt.Sprintf("failover {\nname api\nendpoint %s {\nname one\n}\nendpoint http://%s {\nname two\n}\n%s\n%s\n}",
				tt.url, other.address, oftenChecked(""), tt.options))
			p.waitForCheck("one", tt.state, tt.result)
		})
	}
}

// TestChecksAgainstCalls checks that failing calls open a breaker though checks pass, and that failing checks open it
// while there are few calls.
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
	p := startCaddy(t, site(oftenChecked(""), one, two))
	p.waitForCheck("one", "up", checkPassed)
	load := p.startLoad(50, http.MethodGet, "")

	callsFail.Store(true)
	p.becomes("one", "open")
	checks := p.check("one").Sent
	eventually(t, "more checks have passed", func() bool {
		c := p.check("one")
		if c.State != "up" {
			t.Fatalf("checks pass, and their state is %+v", c)
		}
		return c.Sent >= checks+10
	})
	callsFail.Store(false)
	p.becomes("one", "closed")
	load.stop()
	load.wantNoFailure()

	// the endpoint has few calls, so its checks decide
	checksFail.Store(true)
	p.becomes("one", "open")
	p.get().want(t, "while checks fail", 200, "two")
	checksFail.Store(false)
	p.becomes("one", "closed")
}

// TestReloadWhileChecksAreUnderWay removes one endpoint and changes the check of another, while a check of each waits
// for its response. Checks that a reload ends must not count.
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
	eventually(t, "both checks hang", func() bool { return hanging.Load() == 2 })
	p.reload(site("health {\nuri /new\nfast_interval 50ms\n}", one))
	eventually(t, "both checks have ended", func() bool { return hanging.Load() == 0 })
	p.waitForCheck("one", "up", checkPassed)
	results := make(map[string]float64)
	for name, n := range p.metrics() {
		if result, ok := strings.CutPrefix(name, `caddy_failover_health_checks_total{endpoint="one",pool="api",result=`); ok && n > 0 {
			results[result] = n
		}
	}
	if len(results) != 1 || results[`"passed"}`] == 0 {
		t.Errorf("a check that the reload ended counts: %v", results)
	}
	p.wantState("one", "closed")
}

// TestReloadRefusesDifferentChecks checks that two handlers of a pool may not have different checks, but that one of
// them may have none.
func TestReloadRefusesDifferentChecks(t *testing.T) {
	one := newAPI(t, "one")
	p := startCaddy(t, site("", one))
	both := func(a, b string) string { return at("/a*", site(a, one)) + "\n" + at("/b*", site(b, one)) }
	const checks = "health {\nuri /a\nfast_interval 100ms\n}"
	err := p.load(both(checks, "health {\nuri /b\n}"))
	if err == nil || !strings.Contains(err.Error(), "different health checks") {
		t.Errorf("two different checks: %v", err)
	}
	if err := p.load(both(checks, "")); err != nil {
		t.Errorf("only one handler has checks: %v", err)
	}
	p.waitForCheck("one", "up", checkPassed)
}

// TestHealthErrors checks configurations that must be refused.
func TestHealthErrors(t *testing.T) {
	for options, want := range map[string]string{
		"health on":                                  "want off or a block",
		"health grpc a b":                            "unexpected argument",
		"health grpc {\nuri /up\n}":                  "grpc cannot be combined with",
		"health grpc {\nexpect_body ok\n}":           "grpc cannot be combined with",
		"health {\nuri up\n}":                        "invalid uri",
		"health {\nuri http://elsewhere/\n}":         "invalid uri",
		"health {\nmethod get\n}":                    "invalid method",
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
		_, err := adapt("http://a {\nfailover {\nendpoint http://b:1\n" + options + "\n}\n}")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", options, err, want)
		}
	}
	for _, own := range []string{"health", "health on", "health GET", "health GET up", "health get /up", "health grpc a b"} {
		if _, err := adapt("http://a {\nfailover {\nendpoint http://b:1 {\n" + own + "\n}\n}\n}"); err == nil {
			t.Errorf("%q is accepted in an endpoint", own)
		}
	}
}

// TestAServerThatRefusesHEADStaysUp checks that after a refused HEAD a check tries GET at once, and that further checks
// use GET.
func TestAServerThatRefusesHEADStaysUp(t *testing.T) {
	for _, status := range []int{405, 501, 400, 403, 404} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			var heads, gets atomic.Int64
			one.behave(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodHead {
					heads.Add(1)
					w.WriteHeader(status)
					return
				}
				gets.Add(1)
				fmt.Fprint(w, "one")
			})
			p := startCaddy(t, site(oftenChecked("uri /healthz"), one, two))
			eventually(t, "many checks passed", func() bool { return gets.Load() > 5 })
			p.waitForCheck("one", "up", checkPassed)
			if got := heads.Load(); got != 1 {
				t.Errorf("HEAD was sent %d times", got)
			}
			p.get().want(t, "a call", 200, "one")
		})
	}
}

// TestHEADThatIsRefusedHidesNoOutage checks that the response to GET counts if HEAD is refused.
func TestHEADThatIsRefusedHidesNoOutage(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	p := startCaddy(t, site(oftenChecked("uri /healthz"), one, two))
	p.waitForCheck("one", "down", "status 503")
}

// TestRequestLinesOfChecks checks that the path is sent as it is written, that `expect_body` makes the method GET, and
// that a check to a Unix socket has a Host.
func TestRequestLinesOfChecks(t *testing.T) {
	one := newAPI(t, "one")
	seen := make(chan string, 100)
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		if isCheck(r) {
			select {
			case seen <- r.Method + " " + r.RequestURI + " " + r.Host:
			default:
			}
		}
		fmt.Fprint(w, "all is well")
	})
	socket := t.TempDir() + "/api.sock"
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(one.serve)}
	go func() { _ = server.Serve(listener) }()
	defer server.Close()
	other := newAPI(t, "other")
	_, port, _ := net.SplitHostPort(one.address)
	for name, c := range map[string]struct{ endpoint, options, want string }{
		"escapes":   {"http://" + one.address, "uri /a%2Fb/%7Ec?d=%2F", "HEAD /a%2Fb/%7Ec?d=%2F " + one.address},
		"base path": {"http://" + one.address + "/v1", "uri /a%2Fb", "HEAD /v1/a%2Fb " + one.address},
		"a body":    {"http://" + one.address, "expect_body well", "GET / " + one.address},
		"a socket":  {"unix/" + socket, "uri /healthz", "HEAD /healthz localhost"},
		"a port":    {"http://" + other.address, "uri /healthz\nport " + port, "HEAD /healthz 127.0.0.1:" + port},
		"no scheme": {other.address, "uri /healthz\nport " + port, "HEAD /healthz 127.0.0.1:" + port},
	} {
		t.Run(name, func(t *testing.T) {
			for len(seen) > 0 {
				<-seen
			}
			p := startCaddy(t, "failover {\n\tname api\n\tendpoint "+c.endpoint+" {\n\t\tname one\n\t}\n"+oftenChecked(c.options)+"\n}")
			p.waitForCheck("one", "up", checkPassed)
			if got := receive(t, "a check", seen); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
	if hits := other.hits.Load(); hits != 0 {
		t.Errorf("the port of the calls got %d requests", hits)
	}
}

// TestChecksThatCannotPassAreRefused checks that the errors say what to write instead.
func TestChecksThatCannotPassAreRefused(t *testing.T) {
	one := newAPI(t, "one")
	p := startCaddy(t, site("", one))
	for site, want := range map[string]string{
		"failover {\nendpoint http://one.test\nhealth {\nmethod HEAD\nexpect_body x\n}\n}":                                         "write method GET",
		"failover {\nendpoint http://one.test {\nhealth HEAD /x\n}\nhealth {\nexpect_body x\n}\n}":                                 "write method GET",
		"failover {\nendpoint unix//run/x.sock\nhealth {\nport 80\n}\n}":                                                           "leave the port out",
		"failover {\nendpoint http://one.test\nhealth {\nport 65536\n}\n}":                                                         "between 1 and 65535",
		"failover {\nendpoint https://one.test\nhealth_uri /up\nhealth_interval 5s\nhealth_status 2xx\n}":                          "write health { uri /up; method GET; interval 5s; expect_status 2xx }",
		"failover {\nendpoint http://one.test/v1\nhealth_uri /up\n}":                                                               "write health { uri /up; method GET }",
		"failover {\nendpoint http://one.test {\nheader X-Api-Key k\n}\nhealth_port 81\n}":                                         "write health { method GET; port 81 }",
		"reverse_proxy one.test:80 {\nlb_policy failover {\nupstream one.test:80 {\nurl https://one.test\n}\n}\nhealth_uri /up\n}": "write health { uri /up; method GET }",
	} {
		if err := p.load(site); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", site, err, want)
		}
	}
}
