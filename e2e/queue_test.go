package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// waitingCalls returns how many calls wait for an endpoint of the pool api.
func (p *proxy) waitingCalls() int {
	p.t.Helper()
	return int(p.metrics()[`caddy_failover_waiting_calls{pool="api"}`])
}

// awaitWaiting waits until n calls wait.
func (p *proxy) awaitWaiting(n int) {
	p.t.Helper()
	eventually(p.t, fmt.Sprint(n, " calls wait"), func() bool { return p.waitingCalls() == n })
}

// waits returns how many waits in the pool api ended with this result.
func (p *proxy) waits(result string) int {
	p.t.Helper()
	return int(p.metrics()[`caddy_failover_waits_total{pool="api",result="`+result+`"}`])
}

// TestARestartOfTheOnlyEndpointLosesNoCall takes the endpoint down for 3 s under 100 calls a second. All calls must wait
// and then go out in the order of their arrival, and only a part of them at once.
func TestARestartOfTheOnlyEndpointLosesNoCall(t *testing.T) {
	one := newAPI(t, "one")
	var mu sync.Mutex
	var arrivals []int64 // times of arrival at the proxy, in the order in which the endpoint got the calls
	var busy, most atomic.Int64
	workers := make(chan struct{}, 4)
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		arrived, _ := strconv.ParseInt(r.Header.Get("X-Arrived"), 10, 64)
		mu.Lock()
		arrivals = append(arrivals, arrived)
		mu.Unlock()
		for n := busy.Add(1); ; {
			if old := most.Load(); old >= n || most.CompareAndSwap(old, n) {
				break
			}
		}
		defer busy.Add(-1)
		workers <- struct{}{}
		pause(r.Context(), 5*time.Millisecond)
		<-workers
		one.fine(w, r)
	})
	p := startCaddy(t, "request_header X-Arrived {time.now.unix_ms}\n"+site("all_down wait 20s", one))
	load := p.startLoad(100, "PUT", "a body")
	load.await(100)
	address := one.address
	one.down()
	if !pause(t.Context(), 3*time.Second) {
		return
	}
	mu.Lock()
	before := len(arrivals)
	mu.Unlock()
	waiting := p.waitingCalls()
	if waiting < 100 {
		t.Errorf("after 3 s with 100 calls a second, only %d wait, want 100", waiting)
	}
	most.Store(0)
	one.up(t, address)
	eventually(t, "no call waits", func() bool { return p.waitingCalls() == 0 })
	atReturn := most.Load()
	load.await(50)
	load.stop()
	load.wantNoFailure()
	if atReturn > int64(waiting)/4 {
		t.Errorf("the endpoint had %d of the %d waiting calls at once", atReturn, waiting)
	}
	latest := int64(0)
	for i, at := range arrivals[before:] {
		if at < latest-2000 { // the reverse order would make it 3 s
			t.Errorf("call %d after the return arrived %d ms before one that was let in earlier", i, latest-at)
		}
		latest = max(latest, at)
	}
	t.Logf("%d waited, %d at once at the endpoint", waiting, atReturn)
}

// TestTriesGoOnAsInStockCaddy checks that calls get an answer from endpoints that are back after a second, if Caddy's
// options allow tries for longer.
func TestTriesGoOnAsInStockCaddy(t *testing.T) {
	for name, c := range map[string]struct {
		endpoints int
		options   string
	}{
		"one endpoint":               {1, "lb_try_duration 20s"},
		"two endpoints":              {2, "lb_try_duration 20s"},
		"by number":                  {1, "lb_retries 40\n\tlb_try_interval 500ms"},
		"by number and time":         {2, "lb_retries 40\n\tlb_try_duration 20s\n\tlb_try_interval 500ms"},
		"without breakers":           {1, "lb_try_duration 20s\n\tbreaker off"},
		"all_down wait":              {2, "all_down wait 20s"},
		"all_down wait, one failure": {1, "all_down wait 20s\n\tbreaker {\n\t\tconsecutive_failures 1\n\t}"},
	} {
		apart(t, name, func(t *testing.T) {
			apis := newAPIs(t, []string{"one", "two"}[:c.endpoints]...)
			p := startCaddy(t, site(c.options, apis...))
			for _, a := range apis {
				a.down()
			}
			answers := make(chan answer, 20)
			for i := range cap(answers) {
				method := []string{"GET", "POST"}[i%2]
				go func() { answers <- p.call(method, "/", "a body") }()
			}
			eventually(t, "calls wait", func() bool { return p.waitingCalls() == cap(answers) })
			if !pause(t.Context(), time.Second) {
				return
			}
			for _, a := range apis {
				a.up(t, a.address)
			}
			for range cap(answers) {
				if got := receive(t, "an answer", answers); got.status != 200 || !strings.HasSuffix(got.body, digest("a body")) {
					t.Errorf("got %+v", got)
				}
			}
		})
	}
}

// TestTriesEnd checks that lb_try_duration and lb_retries end the tries.
func TestTriesEnd(t *testing.T) {
	for name, options := range map[string]string{
		"by time":   "lb_try_duration 1s",
		"by number": "lb_retries 3\n\tlb_try_interval 100ms",
		"at once":   "lb_retries 2",
	} {
		t.Run(name, func(t *testing.T) {
			one := newAPI(t, "one")
			p := startCaddy(t, site(options, one))
			one.down()
			if got := p.call("POST", "/", "a body"); got.status != 502 {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// TestWaitingIsBounded checks the limits of waiting calls and of their time, and that a client that leaves makes room
// for another.
func TestWaitingIsBounded(t *testing.T) {
	one := newAPI(t, "one")
	p := startCaddy(t, placeholders+"log_append waited {http.failover.waited}\n"+site("all_down wait 5s 2", one))
	p.order(http.MethodPost, "api/endpoints/one/drain", "") // no call is let in for a trial
	leave, left := p.leaving("GET", "/")
	defer leave()
	p.awaitWaiting(1)
	second := p.waiting("GET", "/")
	p.awaitWaiting(2)
	got := p.get()
	if after := got.header.Get("Retry-After"); got.status != 503 || after == "" {
		t.Errorf("the third call, where two may wait, got %+v", got)
	}
	leave()
	receive(t, "the client's end", left)
	p.awaitWaiting(1)
	third := p.waiting("POST", "/")
	p.awaitWaiting(2)
	for _, answers := range []<-chan string{second, third} {
		if got := receive(t, "an answer", answers); !strings.HasPrefix(got, "503 ") {
			t.Errorf("after the time limit, a call got %s", got)
		}
	}
	p.awaitWaiting(0)
	if in, over, left, away := p.waits("let_in"), p.waits("time_over"), p.waits("left"), p.waits("turned_away"); over != 2 || left != 1 || away != 1 {
		t.Errorf("let_in %d, time_over %d, left %d, turned_away %d", in, over, left, away)
	}
	if calls := p.calls(); calls["all_down"] != 3 || calls["cancelled"] != 1 || sum(calls) != 4 {
		t.Errorf("the calls' outcomes are %v", calls)
	}
	for _, line := range p.accessLog(4)[2:] {
		if waited, _ := line["waited"].(float64); line["outcome"] == "all_down" && waited < 4 {
			t.Errorf("a call waited for only %v s", line["waited"])
		}
	}
}

// TestAClientThatLeavesInMidBodyMakesRoom checks that a call stops waiting when its client leaves, whether or not its
// body has been read.
func TestAClientThatLeavesInMidBodyMakesRoom(t *testing.T) {
	for name, head := range map[string]string{
		"a complete body":          "Content-Length: 100000\r\n\r\n" + strings.Repeat("x", 100000),
		"an incomplete body":       "Content-Length: 100000\r\n\r\nx",
		"a body of unknown length": "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
		"no body":                  "Content-Length: 0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			one := newAPI(t, "one")
			p := startCaddy(t, site("all_down wait 60s", one))
			one.down()
			conn := p.dial()
			defer conn.Close()
			if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: api.test\r\n"+head); err != nil {
				t.Fatal(err)
			}
			p.awaitWaiting(1)
			conn.Close()
			p.awaitWaiting(0)
		})
	}
}

// TestAReloadLosesNoWaitingCall checks that waiting calls are answered by an endpoint of the new configuration at once or, if
// its pool has another name or it has the same endpoint, by the old endpoint when it is back.
func TestAReloadLosesNoWaitingCall(t *testing.T) {
	for name, next := range map[string]func(one, two *api) string{
		"the same":             func(one, _ *api) string { return site("all_down wait 60s", one) },
		"without waiting":      func(one, _ *api) string { return site("", one) },
		"without the endpoint": func(_, two *api) string { return site("all_down wait 60s", two) },
		"without the pool":     func(_, two *api) string { return pooled("other", "", two) },
	} {
		t.Run(name, func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			p := startCaddy(t, site("all_down wait 60s", one))
			one.down()
			answers := make(chan answer, 30)
			for range cap(answers) {
				go func() { answers <- p.call("POST", "/", "a body") }()
			}
			p.awaitWaiting(cap(answers))
			p.reload(next(one, two))
			by := "one"
			if name == "without the endpoint" {
				by = "two"
			} else {
				one.up(t, one.address)
			}
			for range cap(answers) {
				receive(t, "an answer", answers).want(t, "after the reload", 200, by+digest("a body"))
			}
		})
	}
}

// TestFullEndpointsAreWaitedFor checks that calls wait while all endpoints are full, or are refused with the outcome
// full if calls do not wait.
func TestFullEndpointsAreWaitedFor(t *testing.T) {
	for _, wait := range []bool{false, true} {
		t.Run(fmt.Sprint(wait), func(t *testing.T) {
			one := newAPI(t, "one")
			options := ""
			if wait {
				options = "all_down wait 60s"
			}
			release := make(chan struct{})
			one.behave(func(w http.ResponseWriter, r *http.Request) {
				<-release
				one.fine(w, r)
			})
			p := startCaddy(t, edited("api", options, []*api{one}, "max_requests 2"))
			answers := []<-chan string{p.waiting("GET", "/"), p.waiting("GET", "/")}
			eventually(t, "the endpoint is full", func() bool { return one.hits.Load() == 2 })
			if wait {
				for range 4 {
					answers = append(answers, p.waiting("GET", "/"))
				}
				p.awaitWaiting(4)
			} else if got := p.get(); got.status != 503 || got.header.Get("Retry-After") != "1" {
				t.Errorf("got %+v", got)
			}
			close(release)
			for _, one := range answers {
				if got := receive(t, "an answer", one); got != "200 one" {
					t.Errorf("got %s", got)
				}
			}
			want := map[string]int{"success": len(answers)}
			if !wait {
				want["full"] = 1
			}
			if calls := p.calls(); fmt.Sprint(calls) != fmt.Sprint(want) {
				t.Errorf("the calls' outcomes are %v, want %v", calls, want)
			}
		})
	}
}

// trip takes an endpoint out as an operator, so that it gets no trials.
func (p *proxy) trip(name string) {
	p.t.Helper()
	if code, text, err := p.send("POST", "/failover/pools/api/endpoints/"+name+"/trip", ""); err != nil || code != 200 {
		p.t.Fatalf("tripping %s: %d %s %v", name, code, text, err)
	}
}

// TestRefusalsFitTheClient checks that a refusal is JSON for clients that accept it and text for others, and that error
// routes get it with its placeholders.
func TestRefusalsFitTheClient(t *testing.T) {
	one := newAPI(t, "one")
	p := startCaddy(t, placeholders+"log_append retry_after {http.failover.retry_after}\n"+site("", one))
	p.trip("one")
	for accept, isJSON := range map[string]bool{
		"application/json": true, "*/*": true, "": true, "application/problem+json": true,
		"text/html,application/xhtml+xml,*/*;q=0.8": false, "text/plain": false, "application/json;q=0, */*": true,
	} {
		got := p.call("GET", "/", "", "Accept", accept)
		var body struct {
			Error struct{ Message, Type, Code string }
		}
		err := json.Unmarshal([]byte(got.body), &body)
		if got.status != 503 || got.header.Get("Retry-After") == "" || len(got.header.Values("Retry-After")) != 1 || got.body == "" {
			t.Errorf("%q: got %+v", accept, got)
		}
		if isJSON != (err == nil && body.Error.Message != "" && body.Error.Type != "" && body.Error.Code == "all_down") {
			t.Errorf("%q: got %q as %s", accept, got.body, got.header.Get("Content-Type"))
		}
	}
	for _, line := range p.accessLog(7) {
		if after, _ := line["retry_after"].(float64); line["outcome"] != "all_down" || line["pool"] != "api" || after < 1 {
			t.Errorf("the access log says %v, %v, %v", line["outcome"], line["pool"], line["retry_after"])
		}
	}
	const routes = "\nhandle_errors 503 {\n\trespond \"{http.failover.pool} {http.failover.outcome} {http.failover.retry_after} {err.status_code}\" 503\n}"
	p.reload(site("", one) + routes)
	got := p.get()
	after := got.header.Get("Retry-After")
	if want := "api all_down " + after + " 503"; got.status != 503 || got.body != want || after == "" {
		t.Errorf("got %+v, want %s", got, want)
	}
	p.reload(site("", one) + strings.Replace(routes, "handle_errors 503", "handle_errors 404", 1))
	if got := p.get(); !strings.Contains(got.body, "all_down") {
		t.Errorf("the error route is for another status: got %+v", got)
	}
	p.reload("handle_path /sub/* {\n\t" + indent(site("", one)) + "\n}\n" + "handle_errors {\n\trespond /sub/x \"for {path}\"\n}")
	if got := p.call("GET", "/sub/x", ""); got.body != "for /sub/x" {
		t.Errorf("the error route is for the client's path: got %+v", got)
	}
}

// TestRetryMatchSelectsRetries checks that lb_retry_match selects the calls to retry as in stock Caddy, after responses
// and after errors.
func TestRetryMatchSelectsRetries(t *testing.T) {
	for name, c := range map[string]struct {
		match, method string
		fault         http.HandlerFunc
		moves         bool
	}{
		"POST":                             {"method POST", "POST", cut, true},
		"GET, where only POST matches":     {"method POST", "GET", cut, false},
		"POST, where only PUT matches":     {"method PUT", "POST", cut, false},
		"a transport error":                {"expression `{rp.is_transport_error} == true`", "POST", cut, true},
		"a transport error of one method":  {"expression `{rp.is_transport_error} == true && method('PUT')`", "POST", cut, false},
		"a status":                         {"expression `{rp.status_code} == 503`", "POST", status(503), true},
		"another status":                   {"expression `{rp.status_code} == 503`", "GET", status(502), false},
		"an error, where a status matches": {"expression `{rp.status_code} == 503`", "GET", cut, false},
		"a status, where errors match":     {"expression `{rp.is_transport_error} == true`", "GET", status(503), false},
		"a status, where a method matches": {"method GET", "GET", status(503), false},
		"a path":                           {"path /a", "POST", cut, true},
		"a method and a status":            {"method GET\n\t\texpression `{rp.status_code} == 404`", "GET", status(404), true},
	} {
		t.Run(name, func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			one.behave(c.fault)
			p := startCaddy(t, site("breaker off\n\tlb_retries 1\n\tlb_retry_match {\n\t\t"+c.match+"\n\t}", one, two))
			for range 6 {
				if got := p.call(c.method, "/a", "a body"); c.moves != (got.status == 200) {
					t.Errorf("got %+v", got)
				}
			}
		})
	}
}

// TestTheSameEndpointIsTriedAgain checks that a retry by lb_retry_match goes to the same endpoint if there is no other.
func TestTheSameEndpointIsTriedAgain(t *testing.T) {
	one := newAPI(t, "one")
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		if one.hits.Load()%3 != 0 {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		one.fine(w, r)
	})
	p := startCaddy(t, site("lb_retries 2\n\tlb_retry_match {\n\t\texpression `{rp.status_code} == 404`\n\t}", one))
	for range 3 {
		p.call("POST", "/", "a body").want(t, "the third time", 200, "one"+digest("a body"))
	}
	one.answer(http.StatusNotFound)
	if got := p.get(); got.status != 404 || one.hits.Load() != 12 {
		t.Errorf("got %+v after %d requests", got, one.hits.Load())
	}
}

// TestOwnOptionsComeFirst checks that the policy's options override Caddy's, and that a warning names both.
func TestOwnOptionsComeFirst(t *testing.T) {
	for options, want := range map[string][2]string{
		"lb_try_duration 5s\n\tall_down fail_fast":                                       {"all_down fail_fast", "lb_try_duration"},
		"lb_try_duration 5s\n\tall_down wait 1s":                                         {"all_down wait", "lb_try_duration"},
		"lb_retries 3\n\tretry {\n\t\tattempts 2\n\t}":                                   {"retry attempts", "lb_retries"},
		"lb_retries 3\n\tretry off":                                                      {"retry off", "lb_retries"},
		"lb_try_duration 5s\n\tretry {\n\t\tdeadline 1s\n\t}":                            {"retry deadline", "lb_try_duration"},
		"lb_retry_match {\n\t\tmethod POST\n\t}\n\tretry {\n\t\tmethods idempotent\n\t}": {"retry methods", "lb_retry_match"},
	} {
		t.Run(want[0], func(t *testing.T) {
			p := startCaddy(t, site(options, newAPI(t, "one")))
			lines := p.lines("an option of the proxy has no effect: an option of the policy overrides it")
			if len(lines) != 1 || lines[0]["in_force"] != want[0] || lines[0]["ignored"] != want[1] {
				t.Errorf("the log says %v", lines)
			}
		})
	}
}

// TestCallsWaitForAddresses checks that calls wait for a new DNS address if the old ones are dead, or there are none.
func TestCallsWaitForAddresses(t *testing.T) {
	for _, before := range [][]string{nil, {"127.0.0.1"}} {
		t.Run(fmt.Sprint(before), func(t *testing.T) {
			ns := newNameServer(t)
			apis, port := onOnePort(t, "one", "two")
			apis[0].down()
			ns.set("a.failover.test. A", before...)
			p := startCaddy(t, fmt.Sprintf("failover {\n\tname api\n\tlb_try_duration 60s\n\tdynamic a {\n\t\tname a.failover.test\n\t\tport %s\n\t\trefresh 50ms\n\t\tresolvers %s\n\t\tversions ipv4\n\t}\n}", port, ns.address))
			answers := make(chan answer, 8)
			for range cap(answers) {
				go func() { answers <- p.call("POST", "/", "a body") }()
			}
			p.awaitWaiting(cap(answers))
			ns.set("a.failover.test. A", "127.0.0.2")
			for range cap(answers) {
				receive(t, "an answer", answers).want(t, "a call", 200, "two"+digest("a body"))
			}
		})
	}
}
