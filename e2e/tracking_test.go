package e2e

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"
)

// A report is the admin API's report on the last hour of a pool.
type report struct {
	Pool      string
	Total     result
	Endpoints []result
	Failovers []failover
	Incidents []struct {
		Endpoint, Cause string
		End             time.Time
		Calls           uint64
	}
}

// A result is the part of a report on the pool or on one endpoint.
type result struct {
	Name                     string
	Calls, Failed, Cancelled uint64
	Failures                 map[string]uint64
	P50                      float64 `json:"p50_seconds"`
}

// A failover is a report's count of the calls that moved on between two endpoints.
type failover struct {
	From, To string
	Count    uint64
}

// report reads the report on the pool api.
func (p *proxy) report() (r report) {
	p.t.Helper()
	p.read("/failover/report?pool=api&from=1h", &r)
	return r
}

// of returns the result of an endpoint, or of the pool if the name is empty.
func (r report) of(endpoint string) result {
	if endpoint == "" {
		return r.Total
	}
	for _, e := range r.Endpoints {
		if e.Name == endpoint {
			return e
		}
	}
	return result{}
}

// causes returns the causes of open incidents that have cost at least this number of calls. They are those of an
// endpoint, or of the pool if the name is empty.
func (r report) causes(endpoint string, calls uint64) (list []string) {
	for _, in := range r.Incidents {
		if in.Endpoint == endpoint && in.End.IsZero() && in.Calls >= calls {
			list = append(list, in.Cause)
		}
	}
	return list
}

// counted has the number of calls that ended, of those whose clients left, and of failures by kind.
type counted struct {
	calls, cancelled uint64
	failures         map[string]uint64
}

// counted returns the counts of an endpoint, or of the pool if the name is empty.
func (p *proxy) counted(endpoint string) counted {
	p.t.Helper()
	r := p.report().of(endpoint)
	return counted{r.Calls, r.Cancelled, r.Failures}
}

// minus returns the counts without earlier ones.
func (c counted) minus(before counted) counted {
	more := counted{c.calls - before.calls, c.cancelled - before.cancelled, nil}
	for kind, n := range c.failures {
		if n -= before.failures[kind]; n > 0 {
			if more.failures == nil {
				more.failures = make(map[string]uint64)
			}
			more.failures[kind] = n
		}
	}
	return more
}

func (c counted) String() string {
	return fmt.Sprintf("%d calls, %d cancelled, failures %v", c.calls, c.cancelled, c.failures)
}

// ended returns the counts of n calls that all ended with one kind of failure; "": they succeeded.
func ended(n uint64, failure string) counted {
	if failure == "" {
		return counted{calls: n}
	}
	return counted{calls: n, failures: map[string]uint64{failure: n}}
}

// TestRecordsCalls checks the counts of the endpoints and of the pool after each kind of call. The pool's count what
// clients saw.
func TestRecordsCalls(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site(`
	timeout 30s
	breaker {
		consecutive_failures 4
		open_for 1m
	}
	retry {
		methods any
		budget 100% 1000
	}`, one, two))
	was := map[string]counted{}
	for _, step := range []struct {
		name     string
		do       func()
		pool     counted
		one, two counted
	}{{
		name: "success",
		do:   func() { p.get() },
		pool: ended(1, ""), one: ended(1, ""),
	}, {
		name: "a status that is no failure",
		do:   func() { one.answer(http.StatusNotFound); p.get() },
		pool: ended(1, ""), one: ended(1, ""),
	}, {
		name: "moved on",
		do:   func() { one.answer(http.StatusBadGateway); p.get() },
		pool: ended(1, ""), one: ended(1, "status"), two: ended(1, ""),
	}, {
		name: "failed everywhere",
		do:   func() { two.behave(cut); p.get() },
		pool: ended(1, "reset"),
		one:  ended(1, "status"), two: ended(1, "reset"),
	}, {
		name: "truncated",
		do: func() {
			one.behave(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "1000")
				io.WriteString(w, "part")
			})
			if resp, err := p.do(http.MethodGet, "/", nil); err == nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		},
		pool: ended(1, "truncated"), one: ended(1, "truncated"),
	}, {
		name: "one open, two down",
		do: func() {
			two.behave(two.fine)
			one.answer(http.StatusBadGateway)
			for p.endpoint("api", "one").State == "closed" {
				p.get()
			}
			was = map[string]counted{} // the calls until here are not compared
			for _, name := range []string{"", "one", "two"} {
				was[name] = p.counted(name)
			}
			two.down()
			for range 4 {
				p.get()
			}
		},
		pool: ended(4, "dial"), two: ended(4, "dial"),
	}} {
		step.do()
		for name, want := range map[string]counted{"": step.pool, "one": step.one, "two": step.two} {
			eventually(t, step.name+": the calls are counted", func() bool {
				return p.counted(name).calls-was[name].calls >= want.calls
			})
			now := p.counted(name)
			got := now.minus(was[name])
			if got.String() != want.String() {
				t.Errorf("%s: the counts of %q are %v, want %v", step.name, name, got, want)
			}
			was[name] = now
		}
	}
	before := p.counted("")
	for range 20 {
		p.get()
	}
	after := p.counted("")
	refused := after.failures["all_down"] - before.failures["all_down"]
	if calls := after.calls - before.calls; calls != 20 || refused < 15 {
		t.Errorf("20 calls while the pool is down: %d counted, %d of them refused", calls, refused)
	}
	report := p.report()
	for name, cause := range map[string]string{"one": "consecutive_failures, last: status", "two": "consecutive_failures, last: dial"} {
		if got := report.causes(name, 4); !slices.Equal(got, []string{cause}) {
			t.Errorf("incidents of %s: %q of %+v", name, got, report.Incidents)
		}
	}
	if got := report.causes("", 20); !slices.Equal(got, []string{"breaker"}) {
		t.Errorf("incidents of the pool: %q of %+v", got, report.Incidents)
	}
	two.up(t, two.address)
	eventually(t, "the pool is up again", func() bool {
		p.get()
		return !p.pool("api").Down
	})
}

// TestRecordsClientsThatLeave checks that a call whose client leaves is neither a success nor a failure.
func TestRecordsClientsThatLeave(t *testing.T) {
	one := newAPI(t, "one")
	p := startCaddy(t, site("", one))
	arrived := make(chan struct{}, 1)
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	leave, left := p.leaving(http.MethodGet, "/")
	receive(t, "the call at the endpoint", arrived)
	leave()
	receive(t, "the client's end", left)
	eventually(t, "the call is counted", func() bool { return p.counted("").cancelled > 0 })
	for _, name := range []string{"", "one"} {
		if got, want := p.counted(name), (counted{cancelled: 1}); got.String() != want.String() {
			t.Errorf("the counts of %q are %+v", name, got)
		}
	}
}

// TestRecordsCallsByTheirLastAnswer checks that a call counts by the response that its client gets, not by one that
// lb_retry_match has dropped.
func TestRecordsCallsByTheirLastAnswer(t *testing.T) {
	slowly := delayed(200*time.Millisecond, named("two"))
	partly := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		io.WriteString(w, "part")
	}
	for _, c := range []struct {
		name, options string
		method        string
		one           int // status of the first endpoint
		two           http.HandlerFunc
		want          counted
		slow          bool // the call's recorded time must include both attempts
	}{
		{name: "success", method: "GET", one: 404, two: slowly, want: ended(1, ""), slow: true},
		{name: "success, held", options: "commit complete", method: "GET", one: 404, two: slowly, want: ended(1, ""), slow: true},
		{name: "success after a failure", method: "POST", one: 503, two: slowly, want: ended(1, ""), slow: true},
		{name: "failure", method: "GET", one: 404, two: cut, want: ended(1, "reset")},
		{name: "bad status", method: "GET", one: 404, two: status(500), want: ended(1, "status")},
		{name: "truncated", method: "GET", one: 404, two: partly, want: ended(1, "truncated")},
		{name: "the same again", method: "GET", one: 404, two: status(404), want: ended(1, "")},
		{name: "the same failure again", method: "POST", one: 503, two: status(503), want: ended(1, "status")},
		{name: "nowhere to go", options: "retry off", method: "POST", one: 503, two: slowly, want: ended(1, "status")},
		{name: "no match", method: "GET", one: 200, two: cut, want: ended(1, "")},
		{name: "a response kept by next_on", options: "next_on 410", method: "GET", one: 410, two: status(410), want: ended(1, "")},
	} {
		t.Run(c.name, func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			one.answer(c.one)
			two.behave(c.two)
			p := startCaddy(t, site("\n\tbreaker off\n\tlb_retry_match {\n\t\texpression `{http.reverse_proxy.status_code} in [404, 503]`\n\t}\n\t"+c.options, one, two))
			if resp, err := p.do(c.method, "/", nil); err == nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			eventually(t, "the call is counted", func() bool { return p.counted("").calls > 0 })
			if got := p.counted(""); got.String() != c.want.String() {
				t.Errorf("counted %v, want %v", got, c.want)
			}
			if took := p.report().Total.P50; c.slow && took < 0.18 {
				t.Errorf("the recorded time is %v s", took)
			}
		})
	}
}

// TestLatencyOfACall checks that a call's latency counts from its beginning, over all attempts, and an attempt's from
// the attempt's.
func TestLatencyOfACall(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("\n\ttimeout 400ms\n\tretry {\n\t\tmethods any\n\t}", one, two))
	one.behave(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
	})
	p.get().want(t, "a call that moved on", 200, "two")
	report := p.report()
	if got := report.Total.P50; got < 0.38 {
		t.Errorf("the call took %v", got)
	}
	if got := report.of("two").P50; got <= 0 || got > report.Total.P50-0.3 {
		t.Errorf("the second attempt took %v", got)
	}
}
