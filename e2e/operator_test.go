package e2e

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// counts makes n calls, which must succeed, and returns how many each endpoint answered.
func (p *proxy) counts(n int, path string) map[string]int {
	p.t.Helper()
	seen := make(map[string]int)
	for range n {
		resp, err := p.do(http.MethodGet, path, nil)
		if err != nil {
			p.t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			p.t.Fatalf("got %d %s, %v", resp.StatusCode, body, err)
		}
		seen[string(body)]++
	}
	return seen
}

// TestDrainLetsCallsFinish checks that a drained endpoint gets no new calls, and that its three calls in flight finish.
func TestDrainLetsCallsFinish(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("", one, two))
	release := make(chan struct{})
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		http.NewResponseController(w).Flush()
		<-release
		io.WriteString(w, "one, to the end")
	})
	bodies := make([]io.ReadCloser, 3)
	for i := range bodies {
		resp, err := p.do(http.MethodGet, "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		bodies[i] = resp.Body
	}
	began := time.Now()
	answer := p.order(http.MethodPost, "api/endpoints/one/drain", `{"reason":"an upgrade"}`)
	if answer.InFlight != 3 || !answer.Status.Draining || answer.Status.Traffic != 0 || answer.Status.State != "closed" ||
		answer.Status.Operator.Action != "drain" || answer.Status.Operator.Reason != "an upgrade" ||
		answer.Status.Operator.Since.Before(began) || !answer.Status.Operator.Until.IsZero() {
		t.Errorf("drained: %+v, %+v", answer, answer.Status.Operator)
	}
	if seen := p.counts(20, "/"); seen["two"] != 20 {
		t.Errorf("while draining: %v", seen)
	}
	close(release)
	for _, body := range bodies {
		text, err := io.ReadAll(body)
		body.Close()
		if err != nil || string(text) != "one, to the end" {
			t.Errorf("a call in flight ended with %v after %q", err, text)
		}
	}
	eventually(t, "no call is in flight", func() bool { return p.endpoint("api", "one").InFlight == 0 })

	one.behave(one.fine)
	if answer := p.order(http.MethodPost, "api/endpoints/one/enable", ""); answer.Status.Operator != nil || answer.Status.Traffic != 1 {
		t.Errorf("enabled: %+v", answer)
	}
	if seen := p.counts(20, "/"); seen["one"] != 20 {
		t.Errorf("enabled: %v", seen)
	}
}

// TestOperatorActionsHoldOverReloads checks that a drain, a trip and settings outlive reloads with other
// configurations, one of which fails.
func TestOperatorActionsHoldOverReloads(t *testing.T) {
	one, two, three := newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")
	p := startCaddy(t, site("", one, two, three))
	p.order(http.MethodPost, "api/endpoints/one/drain", `{"reason":"a"}`)
	p.order(http.MethodPost, "api/endpoints/two/trip", `{"reason":"b","for":"1h"}`)
	p.order(http.MethodPatch, "api/endpoints/three", `{"weight":3,"priority":1,"reason":"c"}`)
	check := func(when string) {
		t.Helper()
		if e := p.endpoint("api", "one"); !e.Draining || e.Operator.Reason != "a" || e.Traffic != 0 {
			t.Errorf("%s: one is %+v", when, e)
		}
		if e := p.endpoint("api", "two"); e.State != "forced_open" || e.Operator.Reason != "b" || e.Operator.Until.IsZero() || e.Share != 0 || e.Traffic != 0 {
			t.Errorf("%s: two is %+v", when, e)
		}
		e := p.endpoint("api", "three")
		if e.Weight != 3 || e.Priority != 1 || e.Traffic != 1 || e.Override == nil ||
			e.Override.Weight.Configured != 1 || e.Override.Priority.Configured != 3 || e.Override.Priority.Reason != "c" {
			t.Errorf("%s: three is %+v", when, e)
		}
		if seen := p.counts(10, "/"); seen["three"] != 10 {
			t.Errorf("%s: %v", when, seen)
		}
	}
	check("before")
	for _, options := range []string{"\tbalance least_latency", "\tbreaker off", ""} {
		p.reload(site(options, one, two, three))
		check(fmt.Sprintf("reloaded with %q", options))
	}
	if err := p.load(site("", one, two, three) + "\nfailover /x {\n\tname api\n\tendpoint http://" + one.address + "/x {\n\t\tname one\n\t}\n}"); err == nil {
		t.Error("two URLs of one endpoint were accepted")
	}
	check("after a configuration that failed")

	p.order(http.MethodPatch, "api/endpoints/three", `{"weight":null,"priority":null}`)
	p.order(http.MethodPost, "api/endpoints/two/reset", "")
	p.order(http.MethodPost, "api/endpoints/one/enable", "")
	for i, name := range []string{"one", "two", "three"} {
		e := p.endpoint("api", name)
		if e.Operator != nil || e.Override != nil || e.State != "closed" || e.Priority != i+1 || e.Weight != 1 || e.Draining {
			t.Errorf("undone: %s is %+v", name, e)
		}
	}
	if seen := p.counts(10, "/"); seen["one"] != 10 {
		t.Errorf("undone: %v", seen)
	}
}

// TestOperatorActionsWorkInEveryHandler checks that actions affect both handlers that share a pool.
func TestOperatorActionsWorkInEveryHandler(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	directive := site("", one, two)
	p := startCaddy(t, strings.Replace(directive, "failover", "failover /a", 1)+"\n"+directive)
	both := func(when, name string) {
		t.Helper()
		for _, path := range []string{"/a", "/"} {
			if seen := p.counts(10, path); seen[name] != 10 {
				t.Errorf("%s: %s got %v", when, path, seen)
			}
		}
	}
	both("before", "one")
	p.order(http.MethodPost, "api/endpoints/one/trip", "")
	both("tripped", "two")
	p.order(http.MethodPost, "api/endpoints/one/reset", "")
	both("reset", "one")
	p.order(http.MethodPatch, "api/endpoints/two", `{"priority":1}`)
	p.order(http.MethodPatch, "api/endpoints/one", `{"weight":0}`)
	both("without weight", "two")
	p.order(http.MethodPatch, "api/endpoints/one", `{"weight":3}`)
	for _, path := range []string{"/a", "/"} {
		const n = 800
		seen := p.counts(n, path)
		if want := 0.75 * n; math.Abs(float64(seen["one"])-want) > 5*math.Sqrt(n*0.75*0.25) {
			t.Errorf("weights 3 and 1 at %s: %v", path, seen)
		}
	}
	p.order(http.MethodPatch, "api/endpoints/one", `{"weight":null,"priority":7}`)
	if e := p.endpoint("api", "one"); e.Weight != 1 || e.Priority != 7 || e.Override.Weight != nil {
		t.Errorf("the weight was not undone alone: %+v", e)
	}
	both("behind", "two")
}

// TestTripRecovers checks that an endpoint recovers step by step after its trip is over or undone, and is back at once
// after a reset.
func TestTripRecovers(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("\tbreaker {\n\t\tstep 50ms\n\t}", one, two))
	stream := p.follow("/failover/events")
	tripped := time.Now()
	p.order(http.MethodPost, "api/endpoints/one/trip", `{"for":"1s","reason":"to see"}`)
	if seen := p.counts(5, "/"); seen["two"] != 5 && time.Since(tripped) < time.Second {
		t.Errorf("tripped: %v", seen)
	}
	reasons := make(map[string]event)
	eventually(t, "the endpoint is closed again", func() bool {
		p.get()
		for len(stream) > 0 {
			e, _ := next(t, stream)
			reasons[e.Kind+" "+e.Reason] = e
		}
		e := p.endpoint("api", "one")
		return e.State == "closed" && e.Traffic == 1 && len(reasons) >= 5
	})
	for _, want := range []string{"operator trip", "breaker_opened operator", "operator trip_over", "breaker_recovering operator", "breaker_closed recovered"} {
		if _, ok := reasons[want]; !ok {
			t.Errorf("no event %s in %v", want, reasons)
		}
	}
	if over := reasons["operator trip_over"]; over.Endpoint != "one" || over.Details["note"] != "to see" {
		t.Errorf("the event trip_over is %+v", over)
	}
	eventually(t, "the log has both reasons", func() bool {
		return slices.ContainsFunc(p.lines("operator"), func(l map[string]any) bool { return l["reason"] == "trip" && l["note"] == "to see" })
	})

	p.order(http.MethodPost, "api/endpoints/one/trip", "")
	if answer := p.order(http.MethodPost, "api/endpoints/one/enable", ""); answer.Status.State != "recovering" || answer.Status.Share != 0 {
		t.Errorf("enabled: %+v", answer.Status)
	}
	p.order(http.MethodPost, "api/endpoints/one/trip", "")
	if answer := p.order(http.MethodPost, "api/endpoints/one/drain", ""); answer.Status.State != "recovering" || !answer.Status.Draining || answer.Status.Operator.Action != "drain" {
		t.Errorf("drained instead of tripped: %+v", answer.Status)
	}
	if answer := p.order(http.MethodPost, "api/endpoints/one/reset", ""); answer.Status.State != "closed" || answer.Status.Operator != nil || answer.Status.Traffic != 1 {
		t.Errorf("reset: %+v", answer.Status)
	}
}

// TestEnableForATimeForcesClosed checks that a failing endpoint stays closed for that time, and that its breaker works
// again afterwards.
func TestEnableForATimeForcesClosed(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("\tbreaker {\n\t\tconsecutive_failures 2\n\t\topen_for 1h\n\t\topen_max 1h\n\t}", one, two))
	one.answer(http.StatusServiceUnavailable)
	if answer := p.order(http.MethodPost, "api/endpoints/one/enable", `{"for":"1h"}`); answer.Status.State != "forced_closed" || answer.Status.Operator.Action != "enable" {
		t.Errorf("enabled: %+v", answer.Status)
	}
	before := one.hits.Load()
	if seen := p.counts(10, "/"); seen["two"] != 10 || one.hits.Load() == before {
		t.Errorf("forced closed: %v, one got %d requests", seen, one.hits.Load()-before)
	}
	if e := p.endpoint("api", "one"); e.State != "forced_closed" || e.Share != 1 {
		t.Errorf("after failures: %+v", e)
	}
	if answer := p.order(http.MethodPost, "api/endpoints/one/enable", ""); answer.Status.State != "closed" || answer.Status.Operator != nil {
		t.Errorf("undone: %+v", answer.Status)
	}
	eventually(t, "failures open the breaker again", func() bool {
		p.counts(10, "/")
		return p.endpoint("api", "one").State == "open"
	})
	// a reset forgets all failures
	one.behave(one.fine)
	if answer := p.order(http.MethodPost, "api/endpoints/one/reset", ""); answer.Status.State != "closed" || answer.Status.Score != 1 || answer.Status.Share != 1 {
		t.Errorf("reset: %+v", answer.Status)
	}
	if seen := p.counts(10, "/"); seen["one"] != 10 {
		t.Errorf("reset: %v", seen)
	}
}

// TestTripWithoutBreakers checks that a trip works in a pool with `breaker off`.
func TestTripWithoutBreakers(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("\tbreaker off", one, two))
	if answer := p.order(http.MethodPost, "api/endpoints/one/trip", ""); answer.Status.State != "forced_open" || answer.Status.Share != 0 {
		t.Errorf("tripped: %+v", answer.Status)
	}
	if seen := p.counts(10, "/"); seen["two"] != 10 {
		t.Errorf("tripped: %v", seen)
	}
	if answer := p.order(http.MethodPost, "api/endpoints/one/enable", ""); answer.Status.State != "closed" {
		t.Errorf("enabled: %+v", answer.Status)
	}
	if seen := p.counts(10, "/"); seen["one"] != 10 {
		t.Errorf("enabled: %v", seen)
	}
}

// TestNothingGetsPastAnOperator checks that no endpoint gets a request while an operator has taken all out, and that
// trials go only to a failed endpoint which no operator has taken out.
func TestNothingGetsPastAnOperator(t *testing.T) {
	for _, allDown := range []string{"fail_fast", "try_anyway"} {
		t.Run(allDown, func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			p := startCaddy(t, site("\tall_down "+allDown+quick, one, two))
			p.order(http.MethodPost, "api/endpoints/one/drain", `{"for":"1h"}`)
			tripped := time.Now()
			p.order(http.MethodPost, "api/endpoints/two/trip", `{"for":"40s"}`)
			var pool poolStatus
			if p.read("/failover/pools/api", &pool); !pool.Down {
				t.Errorf("the pool is not down: %+v", pool)
			}
			hits := one.hits.Load() + two.hits.Load()
			for range 10 {
				resp, err := p.do(http.MethodGet, "/", nil)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
				if least := 40 - int(time.Since(tripped).Seconds()); resp.StatusCode != http.StatusServiceUnavailable || after < least || after > 40 {
					t.Fatalf("all out: %d, Retry-After %d, want %d to 40", resp.StatusCode, after, least)
				}
			}
			if one.hits.Load()+two.hits.Load() != hits {
				t.Error("an endpoint that an operator took out got a request")
			}

			two.down()
			p.order(http.MethodPost, "api/endpoints/two/reset", "")
			eventually(t, "two is found to be down", func() bool {
				p.get()
				return p.endpoint("api", "two").State == "open"
			})
			two.up(t, two.address)
			eventually(t, "a trial succeeds at two", func() bool {
				got := p.get()
				return got.status == http.StatusOK && got.body == "two"
			})
			if one.hits.Load() != 0 {
				t.Error("the drained endpoint got a request")
			}
		})
	}
}

// TestTripMovesWaitingCalls checks that a trip makes the calls that wait at the endpoint move on.
func TestTripMovesWaitingCalls(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("", one, two))
	arrived, hang := make(chan struct{}, 5), make(chan struct{})
	defer close(hang)
	one.behave(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-hang
	})
	var answers []<-chan string
	for range 5 {
		answers = append(answers, p.waiting(http.MethodGet, "/"))
	}
	for range 5 {
		receive(t, "a call at the endpoint", arrived)
	}
	p.order(http.MethodPost, "api/endpoints/one/trip", "")
	for _, answer := range answers {
		if got := receive(t, "the answer to a call that waited at the tripped endpoint", answer); got != "200 two" {
			t.Errorf("got %q", got)
		}
	}
}
