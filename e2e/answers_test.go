package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

const (
	overload = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n"
	aWord    = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n"
	aRole    = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n"
	aPing    = ": ping\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n"
)

// streaming sends the first part of a stream, and the rest when goOn is closed. With stays set it keeps
// the stream open until the client leaves.
func streaming(kind string, goOn <-chan struct{}, stays bool, first []string, rest ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(http.StatusOK)
		flush(w)
		for _, piece := range first {
			_, _ = io.WriteString(w, piece)
			flush(w)
		}
		if goOn != nil {
			select {
			case <-goOn:
			case <-r.Context().Done():
				return
			}
		}
		for _, piece := range rest {
			_, _ = io.WriteString(w, piece)
			flush(w)
		}
		if stays {
			silent(w, r)
		}
	}
}

// TestNextOnHoldsNoStreamUp checks that a stream reaches the client unchanged, and as it comes, once its first
// event shows what it is.
func TestNextOnHoldsNoStreamUp(t *testing.T) {
	for _, test := range []struct {
		name, options, kind string
		first               []string
	}{
		{"events", "next_on 200 overloaded_error", "text/event-stream", []string{aWord}},
		{"after a beginning", "next_on 200 overloaded_error", "text/event-stream; charset=utf-8", []string{aPing, aRole, aWord}},
		{"with commit", "commit first_byte\nnext_on 200 overloaded_error", "text/event-stream", []string{aPing, aRole, aWord}},
		{"lines", "next_on 200 overloaded_error", "application/x-ndjson", []string{"{\"response\":\"hi\"}\n"}},
		{"no rule for the status", "next_on 404 overloaded_error", "text/plain", []string{"hi"}},
		{"no rule for the type", "next_on 200 overloaded_error", "image/png", []string{"\x89PNG"}},
		{"64 KiB", "next_on 200 overloaded_error", "text/plain", []string{strings.Repeat("x", 64<<10)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			goOn := make(chan struct{})
			one.behave(streaming(test.kind, goOn, false, test.first, overload, aWord))
			p := startCaddy(t, site(test.options, one, two))
			resp, err := p.do(http.MethodPost, "/", strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			want := strings.Join(test.first, "")
			got := make([]byte, len(want))
			if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != want {
				t.Fatalf("got %.80q (%v) before the rest was sent", got, err)
			}
			close(goOn)
			if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != overload+aWord {
				t.Errorf("the rest is %q (%v)", rest, err)
			}
			p.wantTotals("one", totals{Attempts: 1, Successes: 1})
		})
	}
}

// TestNextOnMovesOnAtOnce checks that a call moves on from a first event that is an error although the stream
// stays open, and that this time does not count as the next endpoint's latency.
func TestNextOnMovesOnAtOnce(t *testing.T) {
	for name, pieces := range map[string][]string{
		"at first":          {overload},
		"after a beginning": {aPing, aRole, overload},
		"in parts":          strings.SplitAfter(overload, ":"),
	} {
		t.Run(name, func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			one.behave(streaming("text/event-stream", nil, true, pieces))
			two.behave(streaming("text/event-stream", nil, false, []string{aRole, aWord}))
			p := startCaddy(t, site("timeout 1h\nnext_on 200 overloaded_error", one, two))
			p.call(http.MethodPost, "/", "x").want(t, "the call", 200, aRole+aWord)
			p.wantTotals("one", totals{Attempts: 1, Successes: 1})
			p.quiet()
		})
	}
}

// TestNextOnGivesASlowAnswerWhole checks that the client gets the whole answer that the call moved on from, if
// no other endpoint has a better one.
func TestNextOnGivesASlowAnswerWhole(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	asked := make(chan struct{})
	one.behave(streaming("text/event-stream", asked, false, []string{aPing, overload}, aWord, aWord))
	two.behave(func(w http.ResponseWriter, _ *http.Request) {
		close(asked)
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	p := startCaddy(t, site("next_on 200 overloaded_error", one, two))
	p.call(http.MethodPost, "/", "x").want(t, "the call", 200, aPing+overload+aWord+aWord)
	p.quiet()
}

// TestASlowRefusalIsNotTheNextEndpointsLatency checks that the slow body of a refusal does not count as the
// latency of the endpoint that answers next.
func TestASlowRefusalIsNotTheNextEndpointsLatency(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	ended := make(chan time.Time, 1) // when the refusal did
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, "model ")
		flush(w)
		delayed(600*time.Millisecond, func(w http.ResponseWriter, _ *http.Request) {
			ended <- time.Now()
			fmt.Fprint(w, "not found")
		})(w, r)
	})
	p := startCaddy(t, site("next_on 404 \"model not found\"", one, two))
	p.call(http.MethodPost, "/", "x").want(t, "the call", 200, "two"+digest("x"))
	most := time.Since(receive(t, "the refusal's end", ended))
	p.quiet()
	if l := p.one("two").Latency; l == nil || l.P50 > most.Seconds()+0.5 {
		t.Errorf("two took %v to answer, at most %v", l, most)
	}
}

// TestNextOnLearns checks that an endpoint that lacks what calls want gets a call only now and then.
func TestNextOnLearns(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.behave(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"error":{"code":"model_not_found"}}`)
	})
	p := startCaddy(t, site("next_on 404 model_not_found", one, two))
	before := p.newestEvent()
	for i := range 150 { // which take much less than the half minute that it gets no calls
		p.call(http.MethodPost, "/", "x").want(t, fmt.Sprint("call ", i), 200, "two"+digest("x"))
	}
	if n := one.hits.Load(); n < 20 || n > 30 {
		t.Errorf("one was asked %d times", n)
	}
	status := p.one("one")
	if status.State != "closed" || status.HeldReason != "next_on" || time.Until(status.HeldUntil) < 10*time.Second {
		t.Errorf("one is %s, on hold for %q until %v", status.State, status.HeldReason, status.HeldUntil)
	}
	found := false
	for _, e := range p.events(before) {
		found = found || e.Kind == "endpoint_held" && e.Endpoint == "one" && e.Reason == "next_on"
	}
	if !found {
		t.Error("no event says why one gets no calls")
	}
}

// TestNextOnLearnsOnASmallBudget checks that an answer does not count in an endpoint's favour because the budget
// kept the call from moving on.
func TestNextOnLearnsOnASmallBudget(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.behave(status(http.StatusNotFound))
	p := startCaddy(t, site("next_on 404\nretry {\nbudget 20% 1\n}", one, two))
	for range 100 {
		p.call(http.MethodGet, "/", "")
	}
	if status := p.one("one"); status.HeldReason != "next_on" {
		t.Errorf("one is on hold for %q after %d calls", status.HeldReason, one.hits.Load())
	}
}

// TestWhatIsRefusedEverywhereTeachesNothing checks that calls for what no endpoint has affect no other calls, and
// that a call that no other endpoint serves reaches one that calls pass over.
func TestWhatIsRefusedEverywhereTeachesNothing(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	lacks := func(a *api, models ...string) {
		a.behave(func(w http.ResponseWriter, r *http.Request) {
			for _, m := range models {
				if r.URL.Path == "/"+m {
					w.WriteHeader(http.StatusNotFound)
					fmt.Fprint(w, a.name, " has no ", m)
					return
				}
			}
			fmt.Fprint(w, a.name)
		})
	}
	lacks(one, "nonsense", "b")
	lacks(two, "nonsense", "a")
	p := startCaddy(t, site("next_on 404\nretry {\nbudget 100% 100\n}", one, two))
	for i := range 60 {
		p.call(http.MethodGet, "/nonsense", "").want(t, fmt.Sprint("call ", i), 404, "one has no nonsense")
	}
	if status := p.one("one"); !status.HeldUntil.IsZero() {
		t.Fatalf("one is on hold for %s", status.HeldReason)
	}
	p.call(http.MethodGet, "/a", "").want(t, "another call", 200, "one")
	for i := range 60 {
		p.call(http.MethodGet, "/b", "").want(t, fmt.Sprint("call ", i), 200, "two")
	}
	if status := p.one("one"); status.HeldReason != "next_on" {
		t.Fatalf("one is on hold for %q", status.HeldReason)
	}
	p.call(http.MethodGet, "/a", "").want(t, "a call that only one can answer", 200, "one")
	two.down()
	p.call(http.MethodGet, "/a", "").want(t, "without two", 200, "one")
}

// TestAnswersAreWhatTheyMean checks that a pool's options decide what an answer means, whatever its status.
func TestAnswersAreWhatTheyMean(t *testing.T) {
	inJSON := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	inStream := func(pieces ...string) http.HandlerFunc { return streaming("text/event-stream", nil, false, pieces) }
	const limited = `{"error":{"code":"rate_limit_exceeded"}}`
	for _, test := range []struct {
		name, options string
		one           http.HandlerFunc
		body          string // "two": the second endpoint's
		status        int
		outcome       string // of the first
		held          bool
	}{
		{"a failure in JSON", "answer 200 json error.code server_error as failure", inJSON(200, `{"error":{"code":"server_error"}}`), "two", 200, "status", false},
		{"a failure in a stream", "answer 200 json error.type overloaded as failure", inStream(aPing, aRole, overload), "two", 200, "status", false},
		{"with first_event", "commit first_event\nanswer 200 json error.type overloaded as failure", inStream(aPing, aRole, overload), "two", 200, "status", false},
		{"with complete", "commit complete\nanswer 200 json error.type overloaded as failure", inStream(aPing, aRole, overload), "two", 200, "status", false},
		{"after content", "answer 200 json error.type overloaded as failure", inStream(aWord, overload), aWord + overload, 200, "success", false},
		{"a limit", "answer 200 json error.code ^rate_limit as held", inJSON(200, limited), "two", 200, "rate_limited", true},
		{"a limit in a stream", "answer 200 json error.code ^rate_limit as held", inStream("data: " + limited + "\n\n"), "two", 200, "rate_limited", true},
		{"a refusal", "answer 200 json error.code insufficient_quota as denied", inJSON(200, `{"error":{"code":"insufficient_quota"}}`), "two", 200, "denied", false},
		{"another's", "answer 200 json result.lag ^[1-9] as next", inJSON(200, `{"result":{"lag":12}}`), "two", 200, "success", false},
		{"an answer", "answer 500 json error.type invalid as ok", inJSON(500, `{"error":{"type":"invalid"}}`), `{"error":{"type":"invalid"}}`, 500, "success", false},
		{"no match", "answer 500 json error.type invalid as ok", inJSON(500, `{"error":{"type":"other"}}`), "two", 200, "status", false},
		{"the first counts", "answer 200 json error.code x as ok\nanswer 200 as failure", inJSON(200, `{"error":{"code":"x"}}`), `{"error":{"code":"x"}}`, 200, "success", false},
		{"without attempts", "answer 200 json error as failure\nretry {\nattempts 1\n}", inJSON(200, limited), limited, 200, "status", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			one.behave(test.one)
			p := startCaddy(t, site(test.options, one, two))
			want := test.body
			if want == "two" {
				want += digest("x")
			}
			p.call(http.MethodPut, "/", "x").want(t, "the call", test.status, want)
			p.quiet()
			status := p.one("one")
			if got := status.lastOutcome(); got != test.outcome || (status.HeldReason == "rate_limited") != test.held {
				t.Errorf("the first endpoint's outcome is %s, held because of %q", got, status.HeldReason)
			}
		})
	}
}

// TestCommitFirstEvent checks that a call moves on from a stream that begins but sends no event that commits it,
// and that a committed stream loses nothing.
func TestCommitFirstEvent(t *testing.T) {
	for _, test := range []struct {
		commit string
		first  []string
		want   string
	}{
		{"first_event", []string{aPing, aRole}, "two"},
		{"first_event", []string{aPing, aRole, aWord}, aPing + aRole + aWord + aWord},
		{"first_byte", []string{aPing, aPing}, "two"},
		{"first_byte", []string{aPing, aRole}, aPing + aRole + aWord},
	} {
		t.Run(fmt.Sprint(test.commit, len(test.first)), func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			goOn, timeout := make(chan struct{}), "700ms"
			if test.want != "two" {
				close(goOn)
				timeout = "1h"
			}
			one.behave(streaming("text/event-stream", goOn, false, test.first, aWord))
			p := startCaddy(t, site("commit "+test.commit+"\ntimeout "+timeout+"\nretry {\nmethods any\n}", one, two))
			want := test.want
			if want == "two" {
				want += digest("x")
			}
			p.call(http.MethodPost, "/", "x").want(t, "the call", 200, want)
			p.quiet()
			if got := p.one("one").lastOutcome(); test.want == "two" && got != "timeout" {
				t.Errorf("the first endpoint is blamed for %s", got)
			}
		})
	}
}

// TestAStalledRivalStopsNoTimeouts checks that a hedge's 429 with a stalled body delays neither the first attempt
// nor the timeouts of the pool's calls.
func TestAStalledRivalStopsNoTimeouts(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.behave(silent)
	two.behave(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprint(w, `{"error":`)
		flush(w)
		silent(w, r)
	})
	p := startCaddy(t, site("quota endpoint\ntimeout 700ms\nbreaker off\nretry {\nattempts 2\nhedge 50ms max 100%\n}", one, two))
	var calls []<-chan string
	for range 5 {
		calls = append(calls, p.waiting(http.MethodGet, "/"))
	}
	for _, c := range calls {
		receive(t, "an answer", c)
	}
	p.wantTotals("one", totals{Attempts: 5, Failures: 5})
	p.quiet()
}
