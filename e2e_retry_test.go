package failover

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// within fails if something did not take about as long as it should.
func within(t *testing.T, what string, took, want time.Duration) {
	t.Helper()
	if took < want-10*time.Millisecond || took > want+300*time.Millisecond {
		t.Errorf("%s took %v, want about %v", what, took, want)
	}
}

// TestKindsOfRequestsHaveTheirOwnTimeouts, and so have endpoints. The last
// timeout is a 504.
func TestKindsOfRequestsHaveTheirOwnTimeouts(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	defer one.hang()()
	defer two.hang()()
	paths := []struct {
		path string
		want time.Duration
	}{
		{"/embeddings", 150 * time.Millisecond},
		{"/quick/thing", 80 * time.Millisecond},
		{"/other", 400 * time.Millisecond},
		{"/own", 250 * time.Millisecond},
	}
	sites := map[string]string{
		"failover": fmt.Sprintf(`@embeddings path /embeddings
@header header X-Own yes
failover {
	endpoint http://%s {
		name one
		timeout @header 250ms
	}
	timeout @embeddings 150ms
	timeout /quick/* 80ms
	timeout 400ms
	retry off
	breaker off
}`, one.address),
		"lb_policy": fmt.Sprintf(`reverse_proxy %s {
	lb_policy failover {
		upstream %s {
			name one
			timeout /own 250ms
		}
		timeout /embeddings 150ms
		timeout /quick/* 80ms
		timeout 400ms
		retry off
		breaker off
	}
}`, one.address, one.address),
	}
	for name, site := range sites {
		t.Run(name, func(t *testing.T) {
			p := startCaddy(t, site)
			for _, c := range paths {
				var header []string
				if c.path == "/own" {
					header = []string{"X-Own", "yes"}
				}
				began := time.Now()
				if got := p.call("GET", c.path, "", header...); got.status != http.StatusGatewayTimeout {
					t.Errorf("%s: got %+v", c.path, got)
				}
				within(t, c.path, time.Since(began), c.want)
			}
		})
	}
	t.Run("an endpoint's own comes first", func(t *testing.T) {
		p := startCaddy(t, fmt.Sprintf("@embeddings path /embeddings\nfailover {\n\tendpoint http://%s {\n\t\tname one\n\t\ttimeout 100ms\n\t}\n\tendpoint http://%s {\n\t\tname two\n\t}\n\ttimeout @embeddings 200ms\n\tbreaker off\n}",
			one.address, two.address))
		began := time.Now()
		if got := p.call("GET", "/embeddings", ""); got.status != http.StatusGatewayTimeout {
			t.Errorf("got %+v", got)
		}
		within(t, "one timeout after the other", time.Since(began), 300*time.Millisecond)
	})
}

func TestTheDeadlineBoundsTheWholeCall(t *testing.T) {
	apis := []*api{newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")}
	for _, a := range apis {
		defer a.hang()()
	}
	p := startCaddy(t, site("\n\ttimeout 300ms\n\tretry {\n\t\tdeadline 400ms\n\t}", apis...))
	began := time.Now()
	if got := p.call("GET", "/", ""); got.status != http.StatusGatewayTimeout {
		t.Errorf("got %+v", got)
	}
	within(t, "the call", time.Since(began), 400*time.Millisecond)
	if one, two, three := apis[0].hits.Load(), apis[1].hits.Load(), apis[2].hits.Load(); one != 1 || two != 1 || three != 0 {
		t.Errorf("the endpoints got %d, %d and %d requests", one, two, three)
	}
	if got := stateOf(t, "api", "two").totalsNow(); got.Failures != 0 || got.Cancelled != 1 {
		t.Errorf("the endpoint that got what was left of the deadline has %+v", got)
	}
}

// TestAPostIsSentAgainOnlyIfItCannotHaveBeenProcessed, unless the pool or the
// client says that it may be.
func TestAPostIsSentAgainOnlyIfItCannotHaveBeenProcessed(t *testing.T) {
	faults := []struct {
		name        string
		begin       func(*api) (end func())
		status      int // without another attempt
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
				options := "\n\ttimeout 100ms"
				if rule.retry != "" {
					options += "\n\tretry {\n\t\t" + rule.retry + "\n\t}"
				}
				p := startCaddy(t, site(options, one, two))
				got := p.call("POST", "/", "a body", rule.header...)
				again := rule.again || fault.unprocessed && rule.name != "one attempt"
				switch {
				case again && (got.status != 200 || got.body != "two"+digest("a body")):
					t.Errorf("got %+v", got)
				case !again && (got.status != fault.status || two.hits.Load() != 0):
					t.Errorf("got %+v, and the next endpoint got %d requests", got, two.hits.Load())
				}
				if fault.name == "status" && !again && got.body != "one says 503" {
					t.Errorf("the answer is not the endpoint's own: %+v", got)
				}
			})
		}
	}
}

// TestTheLastAnswerIsTheEndpointsOwn: status, headers and body, never one that
// is made up.
func TestTheLastAnswerIsTheEndpointsOwn(t *testing.T) {
	apis := []*api{newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")}
	for i, status := range []int{500, 503, 529} {
		apis[i].answer(status, "X-From", apis[i].name, "Retry-After", "7")
	}
	p := startCaddy(t, site("\n\tbreaker off", apis...))
	got := p.call("GET", "/", "")
	if got.status != 529 || got.body != "three says 529" || got.header.Get("X-From") != "three" || got.header.Get("Retry-After") != "7" {
		t.Errorf("got %+v", got)
	}
	for _, a := range apis {
		if hits := a.hits.Load(); hits != 1 {
			t.Errorf("endpoint %s got %d requests", a.name, hits)
		}
	}
}

// TestRetriesOverTheBudgetAreNotMade: the endpoint's own failures go to the
// clients.
func TestRetriesOverTheBudgetAreNotMade(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.answer(http.StatusServiceUnavailable)
	p := startCaddy(t, site("\n\tbreaker off\n\tretry {\n\t\tbudget 0% 1\n\t}", one, two))
	saved, own := 0, 0
	for range 30 {
		switch got := p.call("GET", "/", ""); {
		case got.status == 200 && got.body == "two":
			saved++
		case got.status == 503 && got.body == "one says 503":
			own++
		default:
			t.Fatalf("got %+v", got)
		}
	}
	// one a second, of the last ten seconds; some calls went to two at once, as the
	// score of one fell
	if retries := int(two.hits.Load()) - (30 - int(one.hits.Load())); retries != 10 {
		t.Errorf("%d retries were made (%d calls saved), not 10", retries, saved)
	}
	if own == 0 {
		t.Error("no failure went to a client")
	}
}

func TestTheSameEndpointIsAskedAgainWhereThePoolSaysSo(t *testing.T) {
	for _, fault := range []struct {
		name  string
		fails http.HandlerFunc
		again bool
	}{
		{"status", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, true},
		{"reset", cut, true},
		{"timeout", func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
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
			p := startCaddy(t, site("\n\ttimeout 200ms\n\tretry {\n\t\tsame_endpoint 1\n\t\tbackoff 10ms 20ms\n\t}", one, two))
			want := "two"
			if fault.again {
				want = "one"
			}
			if got := p.call("PUT", "/", "a body"); got.status != 200 || got.body != want+digest("a body") {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// TestFailoversAreLoggedOncePerSortAndSecond, with the number of those between.
func TestFailoversAreLoggedOncePerSortAndSecond(t *testing.T) {
	one, two, three := newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")
	one.answer(http.StatusServiceUnavailable)
	two.behave(cut)
	p := startCaddy(t, site("\n\tbreaker off\n\tretry {\n\t\tbudget 100% 1000\n\t}", one, two, three))
	const calls = 40
	began := time.Now()
	for range calls {
		if got := p.call("GET", "/", ""); got.status != 200 || got.body != "three" {
			t.Fatalf("got %+v", got)
		}
	}
	seconds := int(time.Since(began)/time.Second) + 2
	failures := stateOf(t, "api", "one").totalsNow().Failures + stateOf(t, "api", "two").totalsNow().Failures
	total := func() (sum uint64) {
		for _, l := range p.lines("failover") {
			sum += uint64(l["count"].(float64))
		}
		return sum
	}
	eventually(t, waitForLog, "every failover is counted in the log", func() bool { return total() == failures })
	sorts := make(map[string]int)
	for _, l := range p.lines("failover") {
		sorts[fmt.Sprint(l["endpoint"], " ", l["to"], " ", l["reason"])]++
		if l["pool"] != "api" || l["level"] != "warn" || l["attempt"] == nil || l["duration_seconds"] == nil {
			t.Errorf("a line is %v", l)
		}
	}
	for sort, n := range sorts {
		if n > seconds {
			t.Errorf("%d lines of %s in %d seconds", n, sort, seconds)
		}
		if !strings.HasSuffix(sort, " status") && !strings.HasSuffix(sort, " reset") {
			t.Errorf("a line says %s", sort)
		}
	}
	if sorts["one two status"] == 0 || sorts["two three reset"] == 0 {
		t.Errorf("the lines are %v", sorts)
	}
}
