package failover

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/pool"
	"github.com/apifailover/caddy-failover/internal/sla"
)

// counts returns what was counted for an endpoint, and with an empty name for the
// pool, since the pool was made.
func counts(p *pool.Pool, t testing.TB, endpoint string) sla.Counts {
	t.Helper()
	r := resultOf(reportOf(p, t), endpoint)
	return sla.Counts{Calls: r.Calls, Failures: r.Failures, Cancelled: r.Cancelled}
}

// reportOf is the pool's report of the last hour.
func reportOf(p *pool.Pool, t testing.TB) sla.Report {
	t.Helper()
	now := time.Now()
	report, _ := p.Report(t.Context(), now.Add(-time.Hour), now.Add(time.Minute), now)
	return report
}

// resultOf is what a report says of an endpoint, or with an empty name of the pool.
func resultOf(report sla.Report, endpoint string) sla.Result {
	if endpoint == "" {
		return report.Total
	}
	for _, r := range report.Endpoints {
		if r.Name == endpoint {
			return r
		}
	}
	return sla.Result{}
}

// incidentsOf are those that a report has of an endpoint, or with an empty name of the pool.
func incidentsOf(report sla.Report, endpoint string) (list []sla.ReportIncident) {
	for _, in := range report.Incidents {
		if in.Endpoint == endpoint {
			list = append(list, in)
		}
	}
	return list
}

// failed are failures of one kind.
func failed(kind sla.Kind, n uint64) (f sla.Failures) {
	f[kind-sla.Dial] = n
	return f
}

// TestRecordsCalls sends one call of each sort, and looks at what is recorded of
// it for the endpoints and for the pool: what clients saw.
func TestRecordsCalls(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site(`
	timeout 300ms
	breaker {
		consecutive_failures 4
		open_for 1m
	}
	retry {
		methods any
		budget 100% 1000
	}`, one, two))
	pool := runningPool(t, "api")
	was := map[string]sla.Counts{}
	for _, step := range []struct {
		name     string
		do       func()
		pool     sla.Counts
		one, two sla.Counts
	}{{
		name: "success",
		do:   func() { p.get("/") },
		pool: sla.Counts{Calls: 1}, one: sla.Counts{Calls: 1},
	}, {
		name: "an answer that is no failure",
		do:   func() { one.answer(http.StatusNotFound); p.get("/") },
		pool: sla.Counts{Calls: 1}, one: sla.Counts{Calls: 1},
	}, {
		name: "rescued",
		do:   func() { one.answer(http.StatusBadGateway); p.get("/") },
		pool: sla.Counts{Calls: 1}, one: sla.Counts{Calls: 1, Failures: failed(sla.Status, 1)}, two: sla.Counts{Calls: 1},
	}, {
		name: "failed everywhere",
		do:   func() { two.behave(cut); p.get("/") },
		pool: sla.Counts{Calls: 1, Failures: failed(sla.Reset, 1)},
		one:  sla.Counts{Calls: 1, Failures: failed(sla.Status, 1)}, two: sla.Counts{Calls: 1, Failures: failed(sla.Reset, 1)},
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
		pool: sla.Counts{Calls: 1, Failures: failed(sla.Truncated, 1)}, one: sla.Counts{Calls: 1, Failures: failed(sla.Truncated, 1)},
	}, {
		name: "opened, and down",
		do: func() {
			two.behave(two.fine)
			one.answer(http.StatusBadGateway)
			for endpointOf(t, "api", "one").State == "closed" {
				p.get("/")
			}
			one.down()
			was = map[string]sla.Counts{} // however many that took
			for _, name := range []string{"", "one", "two"} {
				was[name] = counts(pool, t, name)
			}
			two.down()
			for range 4 {
				p.get("/")
			}
		},
		pool: sla.Counts{Calls: 4, Failures: failed(sla.Dial, 4)}, two: sla.Counts{Calls: 4, Failures: failed(sla.Dial, 4)},
	}} {
		step.do()
		for name, want := range map[string]sla.Counts{"": step.pool, "one": step.one, "two": step.two} {
			eventually(t, 2*time.Second, step.name+": settled", func() bool {
				return counts(pool, t, name).Calls-was[name].Calls >= want.Calls
			})
			now := counts(pool, t, name)
			got := sla.Counts{Calls: now.Calls - was[name].Calls, Cancelled: now.Cancelled - was[name].Cancelled}
			for i := range now.Failures {
				got.Failures[i] = now.Failures[i] - was[name].Failures[i]
			}
			if got != want {
				t.Errorf("%s: recorded for %q: %+v, want %+v", step.name, name, got, want)
			}
			was[name] = now
		}
	}
	before := counts(pool, t, "")
	for range 20 {
		p.get("/")
	}
	after := counts(pool, t, "")
	refused := after.Failures.Of(sla.AllDown) - before.Failures.Of(sla.AllDown)
	if calls := after.Calls - before.Calls; calls != 20 || refused < 15 {
		t.Errorf("20 calls while all is down: %d recorded, %d of them refused", calls, refused)
	}
	report := reportOf(pool, t)
	for name, cause := range map[string]string{"one": "consecutive_failures, last: status", "two": "consecutive_failures, last: dial"} {
		in := incidentsOf(report, name)
		if len(in) != 1 || in[0].Cause != cause || !in[0].End.IsZero() || in[0].Calls < 4 {
			t.Errorf("incidents of %s: %+v", name, in)
		}
	}
	in := incidentsOf(report, "")
	if len(in) != 1 || in[0].Cause != "breaker" || in[0].Calls < 20 {
		t.Errorf("incidents of the pool: %+v", in)
	}
	two.up(t, two.address)
	eventually(t, 5*time.Second, "the pool is up again", func() bool {
		p.get("/")
		return !pool.Status(time.Now()).Down
	})
}

// TestRecordsClientsThatLeave counts them as neither success nor failure.
func TestRecordsClientsThatLeave(t *testing.T) {
	one := newAPI(t, "one")
	p := startCaddy(t, site("", one))
	arrived := make(chan struct{}, 1)
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	left := make(chan error)
	r, err := http.NewRequest(http.MethodGet, "http://api.test/", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := p.client.Do(r.WithContext(ctx))
		left <- err
	}()
	<-arrived
	cancel()
	<-left
	pool := runningPool(t, "api")
	eventually(t, 2*time.Second, "the call is recorded", func() bool { return counts(pool, t, "").Cancelled > 0 })
	for _, name := range []string{"", "one"} {
		if got, want := counts(pool, t, name), (sla.Counts{Cancelled: 1}); got != want {
			t.Errorf("recorded for %q: %+v", name, got)
		}
	}
}

// TestRecordsWhatIsLeftByLBRetryMatch wants a call to be recorded by the answer that
// its client gets, not by one that the proxy has thrown away.
func TestRecordsWhatIsLeftByLBRetryMatch(t *testing.T) {
	slowly := func(w http.ResponseWriter, _ *http.Request) {
		lasting(200 * time.Millisecond)
		io.WriteString(w, "two")
	}
	partly := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		io.WriteString(w, "part")
	}
	for _, c := range []struct {
		name, options string
		method        string
		one           int // its status
		two           http.HandlerFunc
		want          sla.Counts
		longest       bool // it takes as long as both
	}{
		{name: "success", method: "GET", one: 404, two: slowly, want: sla.Counts{Calls: 1}, longest: true},
		{name: "success, held", options: "commit complete", method: "GET", one: 404, two: slowly, want: sla.Counts{Calls: 1}, longest: true},
		{name: "success after a failure", method: "POST", one: 503, two: slowly, want: sla.Counts{Calls: 1}, longest: true},
		{name: "failure", method: "GET", one: 404, two: cut, want: sla.Counts{Calls: 1, Failures: failed(sla.Reset, 1)}},
		{name: "bad status", method: "GET", one: 404, two: status(500), want: sla.Counts{Calls: 1, Failures: failed(sla.Status, 1)}},
		{name: "truncated", method: "GET", one: 404, two: partly, want: sla.Counts{Calls: 1, Failures: failed(sla.Truncated, 1)}},
		{name: "the same again", method: "GET", one: 404, two: status(404), want: sla.Counts{Calls: 1}},
		{name: "the same failure again", method: "POST", one: 503, two: status(503), want: sla.Counts{Calls: 1, Failures: failed(sla.Status, 1)}},
		{name: "nowhere to go", options: "retry off", method: "POST", one: 503, two: slowly, want: sla.Counts{Calls: 1, Failures: failed(sla.Status, 1)}},
		{name: "no match", method: "GET", one: 200, two: cut, want: sla.Counts{Calls: 1}},
		{name: "an answer that was kept", options: "next_on 410", method: "GET", one: 410, two: status(410), want: sla.Counts{Calls: 1}},
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
			pool := runningPool(t, "api")
			eventually(t, 2*time.Second, "the call is recorded", func() bool { return counts(pool, t, "").Calls > 0 })
			if got := counts(pool, t, ""); got != c.want {
				t.Errorf("recorded: %+v, want %+v", got, c.want)
			}
			if took := time.Duration(reportOf(pool, t).Total.P50); c.longest != (took > 180*time.Millisecond) {
				t.Errorf("recorded: it took %v", took)
			}
		})
	}
}

// TestLatencyOfACall is from its beginning, over all its attempts; that of an
// attempt is its own.
func TestLatencyOfACall(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("\n\ttimeout 400ms\n\tretry {\n\t\tmethods any\n\t}", one, two))
	one.behave(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
	})
	if status, body := p.get("/"); status != 200 || body != "two" {
		t.Fatalf("got %d %q", status, body)
	}
	pool := runningPool(t, "api")
	report := reportOf(pool, t)
	if got := time.Duration(report.Total.P50); got < 380*time.Millisecond || got > 3*time.Second {
		t.Errorf("the call took %v", got)
	}
	if got := time.Duration(resultOf(report, "two").P50); got <= 0 || got > 300*time.Millisecond {
		t.Errorf("the second attempt took %v", got)
	}
}
