package failover

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

// delayed lets an endpoint wait before it does something.
func delayed(wait time.Duration, then http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-time.After(wait):
			then(w, r)
		case <-r.Context().Done():
		}
	}
}

// named answers 200 with an endpoint's name.
func named(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, name) }
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// saveUp lets a pool have all the hedges that it can save up.
func saveUp(t *testing.T, pool string) {
	h := &runningPool(t, pool).hedges
	h.mu.Lock()
	h.saved = hedgeBurst
	h.mu.Unlock()
}

func TestHedge(t *testing.T) {
	const ms = time.Millisecond
	never := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	silent := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	for _, test := range []struct {
		name            string
		options         string
		method          string
		header          []string
		one, two, three http.HandlerFunc
		want            string
		status          int // 0: 200
		most            time.Duration
		hits            [3]int64
		totals          [3]totals
	}{
		{name: "the hedge wins", one: never, want: "two", most: 150 * ms, hits: [3]int64{1, 1, 0},
			totals: [3]totals{{Attempts: 1, Cancelled: 1}, {Attempts: 1, Successes: 1}}},
		{name: "the first wins after all", one: delayed(80*ms, named("one")), two: never, want: "one", most: 200 * ms, hits: [3]int64{1, 1, 0},
			totals: [3]totals{{Attempts: 1, Successes: 1}, {Attempts: 1, Cancelled: 1}}},
		{name: "no hedge before the delay", one: delayed(5*ms, named("one")), want: "one", hits: [3]int64{1, 0, 0},
			totals: [3]totals{{Attempts: 1, Successes: 1}}},
		{name: "a hedge that fails", one: delayed(120*ms, named("one")), two: status(503), want: "one", most: 250 * ms, hits: [3]int64{1, 1, 0},
			totals: [3]totals{{Attempts: 1, Successes: 1}, {Attempts: 1, Failures: 1}}},
		{name: "a hedge that hangs up", one: delayed(120*ms, named("one")), two: cut, want: "one", most: 250 * ms, hits: [3]int64{1, 1, 0},
			totals: [3]totals{{Attempts: 1, Successes: 1}, {Attempts: 1, Failures: 1}}},
		{name: "the first fails while the hedge is under way", one: delayed(60*ms, status(503)), two: delayed(100*ms, named("two")), want: "two", most: 300 * ms, hits: [3]int64{1, 1, 0},
			totals: [3]totals{{Attempts: 1, Failures: 1}, {Attempts: 1, Successes: 1}}},
		{name: "the first hangs up while the hedge is under way", one: delayed(60*ms, cut), two: delayed(100*ms, named("two")), want: "two", most: 300 * ms, hits: [3]int64{1, 1, 0},
			totals: [3]totals{{Attempts: 1, Failures: 1}, {Attempts: 1, Successes: 1}}},
		{name: "both fail", one: delayed(60*ms, status(503)), two: delayed(30*ms, cut), three: named("three"), want: "three", most: 300 * ms, hits: [3]int64{1, 1, 1},
			totals: [3]totals{{Attempts: 1, Failures: 1}, {Attempts: 1, Failures: 1}, {Attempts: 1, Successes: 1}}},
		{name: "both fail, and there is no more", options: "attempts 2", one: delayed(60*ms, status(503)), two: delayed(30*ms, cut), status: 503, most: 300 * ms, hits: [3]int64{1, 1, 0},
			totals: [3]totals{{Attempts: 1, Failures: 1}, {Attempts: 1, Failures: 1}}},
		{name: "with a body", method: http.MethodPut, one: delayed(5000*ms, named("one")), want: "two", most: 150 * ms, hits: [3]int64{1, 1, 0},
			totals: [3]totals{{Attempts: 1, Cancelled: 1}, {Attempts: 1, Successes: 1}}},
		{name: "not what may not be retried", method: http.MethodPost, one: delayed(100*ms, named("one")), want: "one", hits: [3]int64{1, 0, 0},
			totals: [3]totals{{Attempts: 1, Successes: 1}}},
		{name: "not upgrades", header: []string{"Connection", "Upgrade", "Upgrade", "other"}, one: delayed(100*ms, named("one")), want: "one", hits: [3]int64{1, 0, 0},
			totals: [3]totals{{Attempts: 1, Successes: 1}}},
		{name: "not without attempts", options: "attempts 1", one: delayed(100*ms, named("one")), want: "one", hits: [3]int64{1, 0, 0},
			totals: [3]totals{{Attempts: 1, Successes: 1}}},
		{name: "first byte", options: "}\ncommit first_byte\nbreaker {\nstep 500ms", one: silent, want: "two", most: 150 * ms, hits: [3]int64{1, 1, 0},
			totals: [3]totals{{Attempts: 1, Cancelled: 1}, {Attempts: 1, Successes: 1}}},
		{name: "a hedge that is cut before its first byte", options: "}\ncommit first_byte\nbreaker {\nstep 500ms", one: delayed(120*ms, named("one")), want: "one", most: 300 * ms, hits: [3]int64{1, 1, 0},
			two:    func(w http.ResponseWriter, _ *http.Request) { announce(w, false); panic(http.ErrAbortHandler) },
			totals: [3]totals{{Attempts: 1, Successes: 1}, {Attempts: 1, Failures: 1}}},
		{name: "complete", options: "}\ncommit complete\nbreaker {\nstep 500ms", one: silent, want: "two", most: 150 * ms, hits: [3]int64{1, 1, 0},
			totals: [3]totals{{Attempts: 1, Cancelled: 1}, {Attempts: 1, Successes: 1}}},
		{name: "no more than the first byte", one: silent, status: 200, hits: [3]int64{1, 0, 0}, want: "cut",
			options: "}\nidle_timeout 100ms\nbreaker {\nstep 500ms", totals: [3]totals{{Attempts: 1, Failures: 1}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			apis := []*api{newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")}
			for i, h := range []http.HandlerFunc{test.one, test.two, test.three} {
				if h == nil {
					h = named(apis[i].name)
				}
				apis[i].behave(h)
			}
			p := startCaddy(t, "header >X-Endpoint \"{http.failover.endpoint} {http.reverse_proxy.upstream.hostport}\"\n"+
				site("retry {\nhedge 30ms\n"+test.options+"\n}", apis...))
			saveUp(t, "api")
			method := test.method
			var body io.Reader
			if method == "" {
				method = http.MethodGet
			} else {
				body = strings.NewReader("body")
			}
			began := time.Now()
			resp, err := p.do(method, "/", body, test.header...)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			took := time.Since(began)
			wantStatus := test.status
			if wantStatus == 0 {
				wantStatus = http.StatusOK
			}
			if test.want == "cut" {
				if err == nil {
					t.Errorf("got %d %q", resp.StatusCode, text)
				}
			} else if err != nil || resp.StatusCode != wantStatus || string(text) != test.want {
				t.Errorf("got %d %v %q", resp.StatusCode, err, text)
			}
			if test.most > 0 && took > test.most {
				t.Errorf("took %v", took)
			}
			for i, a := range apis {
				s := stateOf(t, "api", a.name)
				eventually(t, time.Second, "nothing is in flight", func() bool { return s.busy.Load() == 0 })
				if got := a.hits.Load(); got != test.hits[i] {
					t.Errorf("%s was asked %d times", a.name, got)
				}
				if got := s.totalsNow(); got != test.totals[i] {
					t.Errorf("totals of %s are %+v", a.name, got)
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

// TestHedgesWaitForTheBody lets the client be slow.
func TestHedgesWaitForTheBody(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.behave(one.fine)
	p := startCaddy(t, site("retry {\nhedge 20ms\n}", one, two))
	saveUp(t, "api")
	reader, writer := io.Pipe()
	go func() {
		_, _ = io.WriteString(writer, "begun")
		<-time.After(150 * time.Millisecond)
		_, _ = io.WriteString(writer, " and done")
		writer.Close()
	}()
	resp, err := p.do(http.MethodPut, "/", reader)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); string(text) != "one"+digest("begun and done") || two.hits.Load() != 0 {
		t.Errorf("got %q; two was asked %d times", text, two.hits.Load())
	}
}

func TestHedgeBudget(t *testing.T) {
	var b hedgeBudget
	hedges := 0
	for calls := range int64(10000) {
		if b.take(calls, 0.05) {
			hedges++
		}
	}
	if hedges < 480 || hedges > 500 {
		t.Errorf("%d hedges for 10000 calls", hedges)
	}
	b.take(1000000, 0.05)
	burst := 0
	for b.take(1000000, 0.05) {
		burst++
	}
	if burst > hedgeBurst {
		t.Errorf("%d hedges at once", burst)
	}
}

func TestHedgeIsChecked(t *testing.T) {
	for _, test := range []struct{ options, want string }{
		{"hedge", "wrong argument count"},
		{"hedge soon", "want a duration"},
		{"hedge p100", "want a quantile"},
		{"hedge p", "want a quantile"},
		{"hedge 50ms 5%", "want max"},
		{"hedge 50ms max 105%", "want 0% to 100%"},
		{"hedge p95 max 5% x", "unexpected argument"},
	} {
		_, err := tryAdapt("http://:0 {\nfailover {\nendpoint http://a:1\nretry {\n" + test.options + "\n}\n}\n}")
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", test.options, err)
		}
	}
	for h, want := range map[*Hedge]string{
		{}:                                 "either a delay or a quantile",
		{After: 1, Quantile: 0.5}:          "either a delay or a quantile",
		{Quantile: 1}:                      "between 0 and 1",
		{After: -1}:                        "must not be negative",
		{After: 1, Max: new(float64(1.5))}: "max must be",
	} {
		if err := h.validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", h, err)
		}
	}
}

// TestRacesEnd lets endpoints answer late, badly, in part or not at all, at random,
// under hedges, rescues and holding: every call gets an answer of one endpoint, and
// nothing stays in flight.
func TestRacesEnd(t *testing.T) {
	const ms = time.Millisecond
	var apis []*api
	for _, name := range []string{"one", "two", "three"} {
		a := newAPI(t, name)
		whole := named(strings.Repeat(name+" ", 100))
		broken := func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, name)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		a.behave(func(w http.ResponseWriter, r *http.Request) {
			wait := time.Duration(rand.IntN(30)) * ms
			switch rand.IntN(24) {
			case 0:
				delayed(wait, status(http.StatusServiceUnavailable))(w, r)
			case 1:
				delayed(wait, cut)(w, r)
			case 2:
				delayed(wait, broken)(w, r)
			case 3:
				delayed(wait, status(http.StatusNotFound))(w, r)
			case 4:
				delayed(time.Minute, whole)(w, r)
			default:
				delayed(wait, whole)(w, r)
			}
		})
		apis = append(apis, a)
	}
	for _, commit := range []string{"headers", "first_byte", "complete"} {
		t.Run(commit, func(t *testing.T) {
			p := startCaddy(t, site("commit "+commit+`
				timeout 200ms
				idle_timeout 100ms
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
						what := ""
						resp, err := p.do(http.MethodPut, "/", strings.NewReader("body"))
						if err != nil {
							what = err.Error()
						} else {
							body, err := io.ReadAll(resp.Body)
							resp.Body.Close()
							first, _, _ := strings.Cut(string(body), " ")
							switch {
							case err != nil && commit == "complete":
								what = "cut: " + err.Error()
							case err != nil:
								what = "aborted"
							case resp.StatusCode == 200 && string(body) != strings.Repeat(first+" ", 100):
								what = "mixed: " + string(body)
							default:
								what = fmt.Sprint(resp.StatusCode)
							}
						}
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
				t.Errorf("only %d calls were answered well", seen["200"])
			}
			for _, a := range apis {
				s := stateOf(t, "api", a.name)
				eventually(t, 2*time.Second, "nothing is in flight", func() bool { return s.busy.Load() == 0 })
				if got := s.totalsNow(); got.Attempts != got.Successes+got.Failures+got.Cancelled {
					t.Errorf("totals of %s are %+v", a.name, got)
				}
			}
		})
	}
}
