package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestKindsOfRequestsHaveTheirOwnTimeouts checks timeouts of matchers, of paths and of endpoints. One of them at a time
// is short and the others are an hour, so a 504 shows that the right one is in force.
func TestKindsOfRequestsHaveTheirOwnTimeouts(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	defer one.hang()()
	paths := []string{"/embeddings", "/quick/thing", "/other", "/own"}
	directives := map[string]func(timeout func(path string) string) string{
		"failover": func(timeout func(path string) string) string {
			return fmt.Sprintf(`@embeddings path /embeddings
@header header X-Own yes
failover {
	endpoint http://%s {
		name one
		timeout @header %s
	}
	timeout @embeddings %s
	timeout /quick/* %s
	timeout %s
	retry off
	breaker off
}`, one.address, timeout("/own"), timeout("/embeddings"), timeout("/quick/thing"), timeout("/other"))
		},
		"lb_policy": func(timeout func(path string) string) string {
			return fmt.Sprintf(`reverse_proxy %s {
	lb_policy failover {
		upstream %s {
			name one
			timeout /own %s
		}
		timeout /embeddings %s
		timeout /quick/* %s
		timeout %s
		retry off
		breaker off
	}
}`, one.address, one.address, timeout("/own"), timeout("/embeddings"), timeout("/quick/thing"), timeout("/other"))
		},
	}
	for name, directive := range directives {
		t.Run(name, func(t *testing.T) {
			p := startCaddy(t, "respond ok")
			for _, path := range paths {
				p.reload(directive(func(of string) string {
					if of == path {
						return "100ms"
					}
					return "1h"
				}))
				var header []string
				if path == "/own" {
					header = []string{"X-Own", "yes"}
				}
				if got := p.call("GET", path, "", header...); got.status != http.StatusGatewayTimeout {
					t.Errorf("%s: got %+v", path, got)
				}
			}
		})
	}
	t.Run("an endpoint's own comes first", func(t *testing.T) {
		p := startCaddy(t, "@embeddings path /embeddings\n"+
			edited("api", "timeout @embeddings 1h\n\tbreaker off", []*api{one, two}, "timeout 100ms"))
		p.call("GET", "/embeddings", "").want(t, "after the first one's timeout", 200, "two")
		defer two.hang()()
		p.reload("@embeddings path /embeddings\n" +
			edited("api", "timeout @embeddings 200ms\n\tbreaker off", []*api{one, two}, "timeout 100ms"))
		hits := two.hits.Load()
		if got := p.call("GET", "/embeddings", ""); got.status != http.StatusGatewayTimeout || two.hits.Load() != hits+1 {
			t.Errorf("one timeout after the other: got %+v, and the second endpoint got %d requests", got, two.hits.Load()-hits)
		}
	})
}

// TestTheDeadlineBoundsTheWholeCall checks that the second attempt ends at the deadline, after a quarter of its timeout,
// and that its endpoint is not blamed.
func TestTheDeadlineBoundsTheWholeCall(t *testing.T) {
	apis := newAPIs(t, "one", "two", "three")
	for _, a := range apis {
		defer a.hang()()
	}
	p := startCaddy(t, site("timeout 4s\n\tretry {\n\t\tdeadline 5s\n\t}", apis...))
	if got := p.get(); got.status != http.StatusGatewayTimeout {
		t.Errorf("got %+v", got)
	}
	if one, two, three := apis[0].hits.Load(), apis[1].hits.Load(), apis[2].hits.Load(); one != 1 || two != 1 || three != 0 {
		t.Errorf("the endpoints got %d, %d and %d requests", one, two, three)
	}
	p.wantTotals("one", totals{Attempts: 1, Failures: 1})
	p.wantTotals("two", totals{Attempts: 1, Cancelled: 1})
}

// TestRetriesOfPOST checks that a POST is sent again only if the endpoint cannot have processed it, or if the pool's
// options or the client allow it.
func TestRetriesOfPOST(t *testing.T) {
	faults := []struct {
		name        string
		begin       func(*api) (end func())
		status      int // at the client, without another attempt
		unprocessed bool
	}{
		{"status", func(a *api) func() { a.answer(503); return func() {} }, 503, false},
		{"timeout", func(a *api) func() { return a.hang() }, 504, false},
		{"reset", func(a *api) func() { a.behave(cut); return func() {} }, 502, false},
		{"dial", func(a *api) func() { a.down(); return func() {} }, 502, true},
	}
	rules := []struct {
		name, retry string
		header      []string
		again       bool
	}{
		{"by default", "", nil, false},
		{"with an Idempotency-Key", "", []string{"Idempotency-Key", "1"}, true},
		{"methods any", "methods any", nil, true},
		{"methods POST", "methods POST", nil, true},
		{"methods PUT GET", "methods PUT GET", nil, false},
		{"one attempt", "attempts 1\n\t\tmethods any", nil, false},
	}
	for _, fault := range faults {
		for _, rule := range rules {
			t.Run(fault.name+" "+rule.name, func(t *testing.T) {
				one, two := newAPI(t, "one"), newAPI(t, "two")
				defer fault.begin(one)()
				options := "timeout 1s"
				if rule.retry != "" {
					options += "\n\tretry {\n\t\t" + rule.retry + "\n\t}"
				}
				p := startCaddy(t, site(options, one, two))
				got := p.call("POST", "/", "a body", rule.header...)
				if rule.again || fault.unprocessed && rule.name != "one attempt" {
					got.want(t, "sent again", 200, "two"+digest("a body"))
					return
				}
				if got.status != fault.status || two.hits.Load() != 0 {
					t.Errorf("got %+v, and the next endpoint got %d requests", got, two.hits.Load())
				}
				if fault.name == "status" && got.body != "one says 503" {
					t.Errorf("the response is not the endpoint's own: %+v", got)
				}
			})
		}
	}
}

// TestTheLastAnswerIsTheEndpointsOwn checks that the client gets the last endpoint's status, headers and body if all
// fail.
func TestTheLastAnswerIsTheEndpointsOwn(t *testing.T) {
	apis := newAPIs(t, "one", "two", "three")
	for i, status := range []int{500, 503, 529} {
		apis[i].answer(status, "X-From", apis[i].name, "Retry-After", "7")
	}
	p := startCaddy(t, site("breaker off", apis...))
	got := p.get()
	got.want(t, "the last answer", 529, "three says 529")
	if got.header.Get("X-From") != "three" || got.header.Get("Retry-After") != "7" {
		t.Errorf("got %+v", got)
	}
	for _, a := range apis {
		if hits := a.hits.Load(); hits != 1 {
			t.Errorf("endpoint %s got %d requests", a.name, hits)
		}
	}
}

// TestRetriesOverTheBudgetAreNotMade checks that clients get the endpoint's own failures once the budget is used up.
func TestRetriesOverTheBudgetAreNotMade(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.answer(http.StatusServiceUnavailable)
	p := startCaddy(t, site("breaker off\n\tretry {\n\t\tbudget 0% 1\n\t}", one, two))
	const calls = 30
	began := time.Now()
	saved, own := 0, 0
	for range calls {
		switch got := p.get(); {
		case got.status == 200 && got.body == "two":
			saved++
		case got.status == 503 && got.body == "one says 503":
			own++
		default:
			t.Fatalf("got %+v", got)
		}
	}
	// The budget is one a second: ten at the start, and one for each second of the test. Calls that went to two first,
	// because the score of one fell, are no retries.
	most := 10 + int(time.Since(began)/time.Second)
	if retries := int(two.hits.Load()) - (calls - int(one.hits.Load())); retries < 10 || retries > most {
		t.Errorf("%d retries (%d calls saved), want 10 to %d", retries, saved, most)
	}
	if own == 0 {
		t.Error("no failure went to a client")
	}
	if denied := p.pool("api").RetriesDenied; denied != int64(own) {
		t.Errorf("%d retries were denied, and %d failures went to clients", denied, own)
	}
}

// TestSameEndpoint checks that `same_endpoint` retries at the same endpoint after a status or a reset, but not after a
// timeout.
func TestSameEndpoint(t *testing.T) {
	for _, fault := range []struct {
		name  string
		fails http.HandlerFunc
		again bool
	}{
		{"status", status(http.StatusBadGateway), true},
		{"reset", cut, true},
		{"timeout", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			silent(w, r)
		}, false},
	} {
		t.Run(fault.name, func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			one.behave(func(w http.ResponseWriter, r *http.Request) {
				if one.hits.Load() == 1 {
					fault.fails(w, r)
					return
				}
				one.fine(w, r)
			})
			p := startCaddy(t, site("timeout 1s\n\tretry {\n\t\tsame_endpoint 1\n\t\tbackoff 10ms 20ms\n\t}", one, two))
			want := "two"
			if fault.again {
				want = "one"
			}
			p.call("PUT", "/", "a body").want(t, "the second attempt", 200, want+digest("a body"))
		})
	}
}

// TestFailoversAreLoggedOncePerKindAndSecond checks that the log has at most one line a second for each pair of
// endpoints and reason, and that the lines count every failover.
func TestFailoversAreLoggedOncePerKindAndSecond(t *testing.T) {
	one, two, three := newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")
	one.answer(http.StatusServiceUnavailable)
	two.behave(cut)
	p := startCaddy(t, site("breaker off\n\tretry {\n\t\tbudget 100% 1000\n\t}", one, two, three))
	const calls = 40
	began := time.Now()
	for range calls {
		p.get().want(t, "a call", 200, "three")
	}
	failures := p.one("one").Failures + p.one("two").Failures
	total := func() (sum uint64) {
		for _, l := range p.lines("failover") {
			sum += uint64(l["count"].(float64))
		}
		return sum
	}
	eventually(t, "every failover is counted in the log", func() bool { return total() == failures })
	seconds := int(time.Since(began)/time.Second) + 2
	kinds := make(map[string]int)
	for _, l := range p.lines("failover") {
		kinds[fmt.Sprint(l["endpoint"], " ", l["to"], " ", l["reason"])]++
		if l["pool"] != "api" || l["level"] != "warn" || l["attempt"] == nil || l["duration_seconds"] == nil {
			t.Errorf("a line is %v", l)
		}
	}
	for kind, n := range kinds {
		if n > seconds {
			t.Errorf("%d lines of %s in %d seconds", n, kind, seconds)
		}
		if !strings.HasSuffix(kind, " status") && !strings.HasSuffix(kind, " reset") {
			t.Errorf("unexpected lines of %s", kind)
		}
	}
	if kinds["one two status"] == 0 || kinds["two three reset"] == 0 {
		t.Errorf("the lines are %v", kinds)
	}
}
