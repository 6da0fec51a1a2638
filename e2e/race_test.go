package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestHedge checks the client's response and the endpoints' counts if the first endpoint is late and a hedge goes to
// the next. The limit of hedges allows one per call.
func TestHedge(t *testing.T) {
	const ms = time.Millisecond
	const late = 1000 * ms // long after the hedge
	announced := func(w http.ResponseWriter, r *http.Request) {
		flush(w)
		silent(w, r)
	}
	const succeeded, failed, given = "success", "failure", "cancelled"
	const holding = "breaker {\nstep 500ms\n}\ncommit "
	for _, test := range []struct {
		name            string
		retry, options  string
		method          string
		header          []string
		one, two, three http.HandlerFunc
		want            string    // the client's body; cut: it breaks off
		status          int       // 0: 200
		outcomes        [3]string // of the attempt at each endpoint; "": there is none
	}{
		{name: "the hedge wins", one: silent, want: "two", outcomes: [3]string{given, succeeded}},
		{name: "the first wins after all", one: delayed(late, named("one")), two: silent, want: "one", outcomes: [3]string{succeeded, given}},
		{name: "a hedge that fails", one: delayed(late, named("one")), two: status(503), want: "one", outcomes: [3]string{succeeded, failed}},
		{name: "a hedge that hangs up", one: delayed(late, named("one")), two: cut, want: "one", outcomes: [3]string{succeeded, failed}},
		{name: "the first fails during the hedge", one: delayed(late, status(503)), two: delayed(2*late, named("two")), want: "two", outcomes: [3]string{failed, succeeded}},
		{name: "the first hangs up during the hedge", one: delayed(late, cut), two: delayed(2*late, named("two")), want: "two", outcomes: [3]string{failed, succeeded}},
		{name: "both fail", one: delayed(late, status(503)), two: delayed(100*ms, cut), want: "three", outcomes: [3]string{failed, failed, succeeded}},
		{name: "both fail, and no attempt is left", retry: "attempts 2", one: delayed(late, status(503)), two: delayed(100*ms, cut), status: 503, outcomes: [3]string{failed, failed}},
		{name: "with a body", method: http.MethodPut, one: delayed(time.Hour, named("one")), want: "two", outcomes: [3]string{given, succeeded}},
		{name: "not calls that may not be retried", method: http.MethodPost, one: delayed(late, named("one")), want: "one", outcomes: [3]string{succeeded}},
		{name: "not upgrades", header: []string{"Connection", "Upgrade", "Upgrade", "other"}, one: delayed(late, named("one")), want: "one", outcomes: [3]string{succeeded}},
		{name: "not if no attempt is left", retry: "attempts 1", one: delayed(late, named("one")), want: "one", outcomes: [3]string{succeeded}},
		{name: "first byte", options: holding + "first_byte", one: announced, want: "two", outcomes: [3]string{given, succeeded}},
		{name: "a hedge that is cut before its first byte", options: holding + "first_byte", one: delayed(late, named("one")),
			two: func(w http.ResponseWriter, _ *http.Request) { flush(w); panic(http.ErrAbortHandler) }, want: "one", outcomes: [3]string{succeeded, failed}},
		{name: "complete", options: holding + "complete", one: announced, want: "two", outcomes: [3]string{given, succeeded}},
		{name: "not after the response's header", options: "idle_timeout 200ms\nbreaker {\nstep 500ms\n}", one: announced, want: "cut", outcomes: [3]string{failed}},
	} {
		t.Run(test.name, func(t *testing.T) {
			apis := newAPIs(t, "one", "two", "three")
			for i, h := range []http.HandlerFunc{test.one, test.two, test.three} {
				if h == nil {
					h = named(apis[i].name)
				}
				apis[i].behave(h)
			}
			p := startCaddy(t, "header >X-Endpoint \"{http.failover.endpoint} {http.reverse_proxy.upstream.hostport}\"\n"+
				site("retry {\nhedge 50ms max 100%\n"+test.retry+"\n}\n"+test.options, apis...))
			method, body := http.MethodGet, io.Reader(nil)
			if test.method != "" {
				method, body = test.method, strings.NewReader("body")
			}
			resp, err := p.do(method, "/", body, test.header...)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			wantStatus := test.status
			if wantStatus == 0 {
				wantStatus = http.StatusOK
			}
			if cut := test.want == "cut"; cut != (err != nil) || resp.StatusCode != wantStatus || !cut && string(text) != test.want {
				t.Errorf("got %d %v %q", resp.StatusCode, err, text)
			}
			for i, a := range apis {
				want := map[string]totals{"": {}, succeeded: {Attempts: 1, Successes: 1}, failed: {Attempts: 1, Failures: 1}, given: {Attempts: 1, Cancelled: 1}}[test.outcomes[i]]
				p.wantTotals(a.name, want)
				if got := a.hits.Load(); got != int64(want.Attempts) {
					t.Errorf("%s got %d requests", a.name, got)
				}
				if a.name == test.want {
					if got, want := resp.Header.Get("X-Endpoint"), a.name+" "+a.address; got != want {
						t.Errorf("X-Endpoint is %q, want %q", got, want)
					}
				}
			}
		})
	}
}

// TestHedgesWaitForTheDelay checks that there are no hedges if an endpoint answers within the delay.
func TestHedgesWaitForTheDelay(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.behave(delayed(5*time.Millisecond, one.fine))
	p := startCaddy(t, site("retry {\nhedge 1h max 100%\n}", one, two))
	for range 10 {
		p.get().want(t, "a call", 200, "one")
	}
	p.wantTotals("one", totals{Attempts: 10, Successes: 10})
	p.wantTotals("two", totals{})
}

// TestHedgesWaitForTheBody checks that the delay does not count while the client still sends its body.
func TestHedgesWaitForTheBody(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("retry {\nhedge 200ms max 100%\n}", one, two))
	reader, writer := io.Pipe()
	go func() {
		_, _ = io.WriteString(writer, "begun")
		pause(t.Context(), 500*time.Millisecond)
		_, _ = io.WriteString(writer, " and done")
		writer.Close()
	}()
	p.callWith(http.MethodPut, "/", reader).want(t, "the call", 200, "one"+digest("begun and done"))
	if hits := two.hits.Load(); hits != 0 {
		t.Errorf("two got %d requests", hits)
	}
}

// TestHedgesByQuantile checks that a tenth of late answers causes hedges, and that they stay within 5 % of the calls.
func TestHedgesByQuantile(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		wait := 2 * time.Millisecond
		if one.hits.Load()%10 == 0 {
			wait = 300 * time.Millisecond
		}
		delayed(wait, one.fine)(w, r)
	})
	two.behave(delayed(2*time.Millisecond, two.fine))
	p := startCaddy(t, site("retry {\nhedge p80\n}\nbreaker {\nslow_factor 0\n}", one, two))
	l := p.startLoad(200, http.MethodGet, "")
	l.await(700)
	l.stop()
	l.wantNoFailure()
	p.quiet()
	hedges := p.one("one").Attempts + p.one("two").Attempts - uint64(l.answered())
	t.Logf("%d hedges for %d calls, a tenth of them slow", hedges, l.answered())
	if hedges < 5 || float64(hedges) > 0.05*float64(l.answered()) {
		t.Errorf("%d hedges for %d calls", hedges, l.answered())
	}
}

// TestRacesEnd has endpoints answer late, with errors, in part or not at all, at random, under hedges, rescues and each
// value of `commit`. Every call must get one endpoint's response, and nothing may stay in flight.
func TestRacesEnd(t *testing.T) {
	apis := newAPIs(t, "one", "two", "three")
	for _, a := range apis {
		whole := named(strings.Repeat(a.name+" ", 100))
		broken := func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, a.name)
			flush(w)
			panic(http.ErrAbortHandler)
		}
		faults := []http.HandlerFunc{status(http.StatusServiceUnavailable), cut, broken, status(http.StatusNotFound), silent}
		a.behave(func(w http.ResponseWriter, r *http.Request) {
			then := whole
			if n := rand.IntN(24); n < len(faults) {
				then = faults[n]
			}
			delayed(time.Duration(rand.IntN(30))*time.Millisecond, then)(w, r)
		})
	}
	for _, commit := range []string{"headers", "first_byte", "complete"} {
		t.Run(commit, func(t *testing.T) {
			p := startCaddy(t, site("commit "+commit+`
				timeout 1s
				idle_timeout 500ms
				next_on 404
				breaker {
					open_for 100ms
					open_max 100ms
				}
				retry {
					attempts 4
					hedge 10ms max 100%
					budget 100% 1000
				}`, apis...))
			var wg sync.WaitGroup
			var mu sync.Mutex
			seen := make(map[string]int)
			for range 16 {
				wg.Go(func() {
					for range 40 {
						what := p.raced(commit == "complete")
						mu.Lock()
						seen[what]++
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			t.Log(seen)
			for what, n := range seen {
				switch what {
				case "200", "404", "502", "503", "504", "aborted":
				default:
					t.Errorf("%d times: %s", n, what)
				}
			}
			if seen["200"] < 16*40/2 {
				t.Errorf("only %d calls succeeded", seen["200"])
			}
			p.quiet()
			for _, a := range apis {
				if got := p.one(a.name).totals; got.Attempts != got.Successes+got.Failures+got.Cancelled {
					t.Errorf("totals of %s are %+v", a.name, got)
				}
			}
		})
	}
}

// raced makes a call and returns the response's status, "aborted", or what is wrong with it. A response that is held
// until it is complete must not break off.
func (p *proxy) raced(held bool) string {
	resp, err := p.do(http.MethodPut, "/", strings.NewReader("body"))
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	first, _, _ := strings.Cut(string(body), " ")
	switch {
	case err != nil && held:
		return "cut: " + err.Error()
	case err != nil:
		return "aborted"
	case resp.StatusCode == 200 && string(body) != strings.Repeat(first+" ", 100):
		return "mixed: " + string(body)
	}
	return fmt.Sprint(resp.StatusCode)
}

// slowly hangs on /slow until the request ends, and fails on everything else.
func slowly(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/slow" {
		silent(w, r)
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
}

// TestRescue opens an endpoint's breaker while calls wait for its response. Calls that may be sent again must move on,
// and the others wait for their timeout.
func TestRescue(t *testing.T) {
	const waiting = 20
	for _, test := range []struct {
		name    string
		timeout string // 1h if all move on, so that none ends by it
		options string // options of retry
		method  string
		backup  bool
		moved   int // waiting calls that move on
	}{
		{name: "all move on", timeout: "1h", method: http.MethodGet, backup: true, moved: waiting},
		{name: "POST stays", timeout: "5s", method: http.MethodPost, backup: true},
		{name: "POST with methods any", timeout: "1h", options: "methods any", method: http.MethodPost, backup: true, moved: waiting},
		{name: "one attempt only", timeout: "5s", options: "attempts 1", method: http.MethodGet, backup: true},
		// the budget is 10 in 10 s, and the calls that open the breaker use 5; a denied call stays at the endpoint
		{name: "within the budget", timeout: "5s", options: "budget 0% 1", method: http.MethodGet, backup: true, moved: 5},
		{name: "nowhere to go", timeout: "5s", method: http.MethodGet},
	} {
		apart(t, test.name, func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			one.behave(slowly)
			apis := []*api{one, two}
			if !test.backup {
				apis = apis[:1]
			}
			p := startCaddy(t, site("timeout "+test.timeout+"\nretry {\nbuffer 1MiB\n"+test.options+"\n}", apis...))
			before := p.newestEvent()
			var answers []<-chan string
			for range waiting {
				answers = append(answers, p.waiting(test.method, "/slow"))
			}
			eventually(t, "all calls wait", func() bool { return p.one("one").InFlight == waiting })
			for range 5 {
				p.call(http.MethodGet, "/fail", "")
			}
			p.wantState("one", "open")
			moved, stayed := 0, make(map[string]int)
			for _, answer := range answers {
				if got := receive(t, "an answer", answer); got == "200 two" {
					moved++
				} else {
					stayed[got]++
				}
			}
			if moved != test.moved || stayed["504 "] != waiting-test.moved {
				t.Errorf("%d moved, others: %v", moved, stayed)
			}
			p.quiet()
			if got := p.one("one").totals; got.Cancelled != uint64(test.moved) || got.Attempts != got.Failures+got.Cancelled {
				t.Errorf("totals of the primary are %+v", got)
			}
			rescued := func() (n int) {
				for _, e := range p.events(before) {
					if e.Kind == "failover" && e.Reason == "rescued" && e.Endpoint == "one" && e.To == "two" {
						n++
					}
				}
				return n
			}
			if test.moved > 0 {
				eventually(t, "there is an event of a rescue", func() bool { return rescued() > 0 })
			} else if rescued() > 0 {
				t.Errorf("events: %+v", p.events(before))
			}
		})
	}
}

// TestPrimaryThatHangs has the primary hang under 200 calls a second, or 100 with the race detector. By rescues, no call
// may wait for the timeout of an hour; by hedges, hardly any may be slow. Before that, hardly any call may go to the
// backup. Once the primary is out, only trials may go to it. Hedges end trials early, so there are more of them.
func TestPrimaryThatHangs(t *testing.T) {
	for name, retry := range map[string]string{"rescue": "attempts 3", "hedge": "hedge 50ms"} {
		apart(t, name, func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			one.behave(delayed(2*time.Millisecond, one.fine))
			two.behave(delayed(2*time.Millisecond, two.fine))
			p := startCaddy(t, site("timeout 1h\nbreaker {\nopen_for 1s\n}\nretry {\n"+retry+"\n}", one, two))
			calm := p.startLoad(200/loadPart, http.MethodGet, "")
			calm.await(300)
			calm.stop()
			calm.wantNoFailure()
			if asked := two.hits.Load(); float64(asked) > 0.06*float64(calm.answered()) {
				t.Errorf("the backup got %d requests of %d calls in normal traffic", asked, calm.answered())
			}
			one.behave(silent)
			l := p.startLoad(200/loadPart, http.MethodGet, "")
			out := p.becomes("one", "open")
			asked, before := one.hits.Load(), l.answered()
			l.await(500)
			l.stop()
			l.wantNoFailure()
			trials, calls := int(one.hits.Load()-asked), l.answered()-before
			t.Logf("out after %v and %d calls; then %d calls and %d trials; p50 %v, p99 %v, longest %v",
				out, before, calls, trials, l.quantile(0.5), l.quantile(0.99), l.quantile(1))
			if name == "hedge" {
				if p99 := l.quantile(0.99); p99 > 3*time.Second {
					t.Errorf("p99 is %v", p99)
				}
				return
			}
			if trials > calls/50+2 {
				t.Errorf("%d of %d calls were trials", trials, calls)
			}
			if longest := l.quantile(1); longest > 5*time.Second {
				t.Errorf("a client waited %v", longest)
			}
		})
	}
}

// TestAClientMayLeaveARace checks that both attempts end when the client leaves.
func TestAClientMayLeaveARace(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.behave(silent)
	two.behave(silent)
	p := startCaddy(t, site("timeout 1h\nretry {\nhedge 50ms max 100%\n}", one, two))
	leave, left := p.leaving(http.MethodGet, "/")
	eventually(t, "both endpoints have a request", func() bool { return one.hits.Load() == 1 && two.hits.Load() == 1 })
	leave()
	if err := receive(t, "the client's end", left); err == nil {
		t.Error("the client got an answer")
	}
	p.wantTotals("one", totals{Attempts: 1, Cancelled: 1})
	p.wantTotals("two", totals{Attempts: 1, Cancelled: 1})
}
