package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	failover "github.com/apifailover/caddy-failover"
)

// byModel is a pool whose calls have their model as scope.
func byModel(options ...string) string {
	return "failover {\nname lab\nendpoint http://one\nendpoint http://two\nscope json model\nretry {\nmethods any\n}\n" +
		strings.Join(options, "\n") + "\n}"
}

// models answers according to the model that a request names.
func models(otherwise roundTrip, special map[string]roundTrip) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		var asked struct{ Model string }
		_ = json.Unmarshal(body, &asked)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if f := special[asked.Model]; f != nil {
			return f(r)
		}
		return otherwise(r)
	}
}

// ask sends a call for a model, and returns the status and the endpoints that got it.
func (l *lab) ask(model string) (status int, asked string) {
	l.takeAsked()
	status = l.call(http.MethodPost, "/v1/chat", fmt.Sprintf(`{"messages":[],"model":%q}`, model)).Code
	return status, strings.ReplaceAll(strings.Join(l.takeAsked(), " "), ":80", "")
}

// wants sends some calls for a model, and fails the test unless each has the same given result.
func (l *lab) wants(times int, model string, status int, asked string) {
	l.t.Helper()
	for i := range times {
		if code, at := l.ask(model); code != status || at != asked {
			l.t.Errorf("call %d of %s: %d by %q, want %d by %q", i+1, model, code, at, status, asked)
		}
	}
}

// TestOneModelFails checks that a model that fails for good at the primary leaves it within 5 of its
// calls, and that no other model's call leaves the primary or waits longer.
func TestOneModelFails(t *testing.T) {
	for name, failure := range map[string]roundTrip{
		"status":    answersWith(http.StatusServiceUnavailable),
		"reset":     func(*http.Request) (*http.Response, error) { return nil, errCut },
		"hangs":     hangs,
		"truncated": cutsShort,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := openLab(t, byModel("timeout 1s", "commit complete"))
				defer func() { l.close() }()
				for range 3 {
					l.wants(40, "ill", 200, "one")
					l.wants(40, "well", 200, "one")
				}
				l.on("one:80", models(answers200, map[string]roundTrip{"ill": failure}))
				failing := 0
				for range 30 {
					code, asked := l.ask("ill")
					if code != 200 {
						t.Errorf("a call of the model that fails got %d", code)
					}
					if strings.HasPrefix(asked, "one") {
						failing++
					}
					began := time.Now()
					l.wants(1, "well", 200, "one")
					if took := time.Since(began); took > 10*time.Millisecond {
						t.Errorf("a call of another model took %v", took)
					}
				}
				if failing > 5 {
					t.Errorf("%d calls of the model went to the primary", failing)
				}
				one := l.endpoint("one:80")
				if s := one.scope("ill"); s == nil || s.State != "open" {
					t.Errorf("the model stands at %+v", s)
				}
				if s := one.scope("well"); s == nil || s.State != "closed" || one.state() != "closed" {
					t.Errorf("the other model stands at %+v, the endpoint at %s", s, one.state())
				}
				opened := slices.ContainsFunc(l.events(), func(e event) bool {
					return e.Kind == "breaker_opened" && e.Endpoint == "one:80" && e.Scope == "ill"
				})
				if !opened {
					t.Errorf("no event tells of it: %+v", l.events())
				}
				l.on("one:80", answers200)
				for range 300 {
					time.Sleep(100 * time.Millisecond)
					l.ask("ill")
				}
				l.wants(10, "ill", 200, "one")
			})
		})
	}
}

// cutsShort answers with fewer bytes than it declares.
func cutsShort(r *http.Request) (*http.Response, error) {
	resp := respond(r, http.StatusOK, "half")
	resp.ContentLength = 100
	resp.Body = io.NopCloser(io.MultiReader(strings.NewReader("half"), brokenReader{}))
	return resp, nil
}

// TestAllModelsFail checks that a primary that fails for all models is out as a whole within three
// scopes after the first one, and back as a whole when it works.
func TestAllModelsFail(t *testing.T) {
	for name, calls := range map[string]int{"one call of each": 1, "two calls of each": 2, "five calls of each": 5} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := openLab(t, byModel())
				defer func() { l.close() }()
				one := l.endpoint("one:80")
				for i := range 20 {
					l.wants(3, fmt.Sprint("model-", i), 200, "one")
				}
				l.on("one:80", answersWith(http.StatusBadGateway))
				for range 6 {
					l.ask("model-0")
				}
				if one.state() != "closed" {
					t.Fatal("one model was enough")
				}
				for i := range 3 {
					for range calls {
						l.ask(fmt.Sprint("model-", i+1))
					}
				}
				if s := one.status(); s.State != "open" || s.Reason != "scopes" {
					t.Fatalf("the endpoint is %s (%s): %+v", s.State, s.Reason, s.Scopes)
				}
				l.wants(5, "model-19", 200, "two")
				l.wants(5, "new", 200, "two")
				l.on("one:80", answers200)
				for i := range 200 {
					time.Sleep(100 * time.Millisecond)
					l.ask(fmt.Sprint("model-", i%20))
				}
				if s := one.status(); s.State != "closed" {
					t.Errorf("20 s later the endpoint is %s (%s)", s.State, s.Reason)
				}
				l.wants(3, "model-19", 200, "one")
			})
		})
	}
}

// TestOneModelStaysIll checks that a model that still fails takes no other model out again after the
// endpoint is back for all others.
func TestOneModelStaysIll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, byModel())
		defer func() { l.close() }()
		one := l.endpoint("one:80")
		for _, model := range []string{"a", "b", "c"} {
			l.wants(3, model, 200, "one")
		}
		l.on("one:80", answersWith(http.StatusBadGateway))
		for range 8 {
			for _, model := range []string{"a", "b", "c"} {
				l.ask(model)
			}
		}
		if one.state() != "open" {
			t.Fatalf("the endpoint is %s", one.state())
		}
		l.on("one:80", models(answers200, map[string]roundTrip{"a": answersWith(http.StatusBadGateway)}))
		for range 400 { // the busiest is the one that stays ill
			time.Sleep(50 * time.Millisecond)
			for range 4 {
				l.ask("a")
			}
			l.ask("b")
			l.ask("c")
		}
		if one.state() != "closed" {
			t.Errorf("the endpoint is %s", one.state())
		}
		for range 200 {
			time.Sleep(100 * time.Millisecond)
			l.ask("a")
			l.wants(1, "b", 200, "one")
			l.wants(1, "c", 200, "one")
		}
	})
}

// TestOldFailuresSayNothingOfTheRest checks that a rarely used model stays at an endpoint where other
// models have failed for long.
func TestOldFailuresSayNothingOfTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, byModel())
		defer func() { l.close() }()
		bad := answersWith(http.StatusBadGateway)
		l.on("one:80", models(answers200, map[string]roundTrip{"a": bad}))
		for range 8 {
			l.ask("a")
			l.wants(1, "well", 200, "one")
		}
		l.on("one:80", models(answers200, map[string]roundTrip{"a": bad, "b": bad}))
		for range 8 {
			l.ask("b")
			l.wants(1, "well", 200, "one")
		}
		for i := range 600 {
			time.Sleep(100 * time.Millisecond)
			l.ask("a")
			l.ask("b")
			if i%200 == 199 { // each 20 s
				l.wants(1, "well", 200, "one")
			}
		}
	})
}

// TestTheEndpointItself checks that a failure that concerns the whole endpoint closes it for all scopes.
func TestTheEndpointItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, byModel())
		defer func() { l.close() }()
		l.wants(5, "a", 200, "one")
		l.wants(5, "b", 200, "one")
		l.on("one:80", refusesConnections)
		for range 6 {
			l.ask("a")
		}
		if state := l.endpoint("one:80").state(); state != "open" {
			t.Fatalf("the endpoint is %s", state)
		}
		l.wants(5, "b", 200, "two")
		if s := l.endpoint("one:80").scope("a"); s != nil && s.State != "closed" {
			t.Errorf("the model stands at %+v", s)
		}
		l.on("one:80", answers200)
		for range 300 {
			time.Sleep(100 * time.Millisecond)
			l.ask("b")
		}
		l.wants(5, "a", 200, "one")
	})
}

// TestHoldOfOneModel checks that a 429 for one model holds only that model.
func TestHoldOfOneModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, byModel("quota endpoint"))
		defer func() { l.close() }()
		l.wants(5, "busy", 200, "one")
		l.on("one:80", models(answers200, map[string]roundTrip{"busy": answersWith(http.StatusTooManyRequests, "Retry-After", "20")}))
		l.wants(1, "busy", 200, "one two")
		l.wants(5, "busy", 200, "two")
		l.wants(5, "calm", 200, "one")
		one := l.endpoint("one:80")
		if s := one.scope("busy"); s == nil || s.HeldReason != "rate_limited" || time.Until(s.HeldUntil) > 20*time.Second {
			t.Errorf("the model stands at %+v", s)
		}
		l.on("one:80", answers200)
		time.Sleep(21 * time.Second)
		l.wants(1, "busy", 200, "one")
	})
}

// TestSlownessOfOneModel checks that only a model that becomes much slower than it was leaves an
// endpoint, and that none leaves because models differ in speed.
func TestSlownessOfOneModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, byModel("balance least_latency"))
		defer func() { l.close() }()
		speeds := func(slow time.Duration) roundTrip {
			return models(after(5*time.Millisecond, 200), map[string]roundTrip{"big": after(slow, 200)})
		}
		l.on("one:80", speeds(400*time.Millisecond))
		l.on("two:80", speeds(400*time.Millisecond))
		for range 130 {
			l.wants(1, "big", 200, "one")
			l.wants(1, "small", 200, "one")
		}
		l.on("one:80", speeds(8*time.Second))
		var wg sync.WaitGroup
		for range 60 {
			time.Sleep(500 * time.Millisecond)
			wg.Go(func() { l.call(http.MethodPost, "/", `{"model":"big"}`) })
			if code := l.call(http.MethodPost, "/", `{"model":"small"}`).Code; code != 200 {
				t.Errorf("the other model got %d", code)
			}
		}
		wg.Wait()
		one := l.endpoint("one:80")
		if s := one.scope("big"); s == nil || s.State == "closed" {
			t.Errorf("the slow model stands at %+v", s)
		}
		if one.state() != "closed" {
			t.Errorf("the endpoint is %s", one.state())
		}
		l.wants(5, "small", 200, "one")
	})
}

// TestMadeUpModels checks that a client that invents model names costs a bounded number of states and
// changes nothing for others, whether its calls fail or not.
func TestMadeUpModels(t *testing.T) {
	missing := answersWith(http.StatusNotFound)
	fails := answersWith(http.StatusInternalServerError)
	holds := answersWith(http.StatusTooManyRequests, "Retry-After", "100")
	for name, made := range map[string][2]roundTrip{
		"they are answered":          {missing, missing},
		"they fail":                  {fails, fails},
		"they fail at the primary":   {fails, missing},
		"they are held":              {holds, holds},
		"they are held by the first": {holds, missing},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := openLab(t, byModel("quota endpoint"))
				defer func() { l.close() }()
				l.wants(5, "real", 200, "one")
				l.on("one:80", models(made[0], map[string]roundTrip{"real": answers200}))
				l.on("two:80", models(made[1], map[string]roundTrip{"real": answers200}))
				for i := range 2000 { // 65 are kept
					l.ask(fmt.Sprint("made-up-", i))
					if i%20 == 0 {
						l.wants(1, "real", 200, "one")
						time.Sleep(10 * time.Millisecond)
					}
				}
				if n := len(l.endpoint("one:80").status().Scopes); n > 65 {
					t.Errorf("%d scopes are kept", n)
				}
				if state := l.endpoint("one:80").state(); state != "closed" {
					t.Errorf("the endpoint is %s", state)
				}
				for range 2 { // an idle pool looks again when it gets a call
					time.Sleep(15 * time.Minute)
					l.wants(1, "real", 200, "one")
					time.Sleep(time.Second)
				}
				if list := l.endpoint("one:80").status().Scopes; len(list) != 1 {
					t.Errorf("half an hour later %d scopes are kept", len(list))
				}
			})
		})
	}
}

// TestAllDownForOneModel checks that calls for a model that no endpoint has are refused, with a trial
// every 250 ms, and that the pool is not down.
func TestAllDownForOneModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, byModel())
		defer func() { l.close() }()
		l.wants(3, "cut", 200, "one")
		time.Sleep(3 * time.Second)
		ill := models(answers200, map[string]roundTrip{"cut": func(*http.Request) (*http.Response, error) { return nil, errCut }})
		l.on("one:80", ill)
		l.on("two:80", ill)
		for range 20 {
			l.ask("cut")
			l.wants(1, "well", 200, "one")
		}
		time.Sleep(time.Second)
		refused, tried := 0, 0
		for range 100 {
			time.Sleep(20 * time.Millisecond)
			code, asked := l.ask("cut")
			switch {
			case asked != "":
				tried++
			case code == http.StatusServiceUnavailable:
				refused++
			}
			l.wants(1, "well", 200, "one")
		}
		if tried < 6 || tried > 10 || refused != 100-tried {
			t.Errorf("%d calls were trials and %d refused", tried, refused)
		}
		for _, e := range l.events() {
			if e.Kind == "all_down" {
				t.Errorf("the pool is told to be down: %+v", e)
			}
		}
		l.on("one:80", answers200)
		l.on("two:80", answers200)
		for range 100 {
			time.Sleep(250 * time.Millisecond)
			l.ask("cut")
		}
		l.wants(3, "cut", 200, "one")
	})
}

// TestWaitForOneModel checks that `all_down wait` keeps only the failed model's calls waiting, whatever
// the order of arrival.
func TestWaitForOneModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, byModel("all_down wait 30s"))
		defer func() { l.close() }()
		for _, model := range []string{"a", "b", "well"} {
			l.wants(3, model, 200, "one")
		}
		time.Sleep(3 * time.Second)
		cut := func(*http.Request) (*http.Response, error) { return nil, errCut }
		ill := models(answers200, map[string]roundTrip{"a": cut, "b": cut})
		l.on("one:80", ill)
		l.on("two:80", ill)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		for range 20 {
			for _, model := range []string{"a", "b"} {
				go l.callWith(ctx, http.MethodPost, "/", fmt.Sprintf(`{"model":%q}`, model))
			}
			time.Sleep(50 * time.Millisecond)
			l.call(http.MethodPost, "/", `{"model":"well"}`)
		}
		time.Sleep(2 * time.Second)
		for _, model := range []string{"a", "b"} {
			for _, name := range []string{"one:80", "two:80"} {
				if s := l.endpoint(name).scope(model); s == nil || s.State == "closed" {
					t.Fatalf("%s of %s stands at %+v", model, name, s)
				}
			}
		}
		first, second := make(chan int, 1), make(chan int, 1)
		go func() { first <- l.call(http.MethodPost, "/", `{"model":"a"}`).Code }()
		time.Sleep(100 * time.Millisecond)
		go func() { second <- l.call(http.MethodPost, "/", `{"model":"b"}`).Code }()
		time.Sleep(100 * time.Millisecond)
		began := time.Now()
		for range 5 {
			if code := l.call(http.MethodPost, "/", `{"model":"well"}`).Code; code != 200 {
				t.Errorf("a call of another model got %d", code)
			}
		}
		if took := time.Since(began); took > 10*time.Millisecond {
			t.Errorf("calls of another model took %v", took)
		}
		onlyA := models(answers200, map[string]roundTrip{"a": cut})
		l.on("one:80", onlyA)
		l.on("two:80", onlyA)
		began = time.Now()
		if code := <-second; code != 200 || time.Since(began) > 5*time.Second {
			t.Errorf("the model that works again got %d after %v", code, time.Since(began))
		}
		l.on("one:80", answers200)
		l.on("two:80", answers200)
		if code := <-first; code != 200 {
			t.Errorf("the other model got %d", code)
		}
	})
}

// TestPassedOverForOneModel checks that calls pass over an endpoint only for the model that it lacks.
func TestPassedOverForOneModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, byModel("next_on 404"))
		defer func() { l.close() }()
		l.on("one:80", models(answers200, map[string]roundTrip{"missing": answersWith(http.StatusNotFound)}))
		for range 60 {
			time.Sleep(200 * time.Millisecond)
			l.ask("missing")
			l.wants(1, "here", 200, "one")
		}
		if code, asked := l.ask("missing"); code != 200 || asked != "two" {
			t.Errorf("got %d by %s", code, asked)
		}
		if s := l.endpoint("one:80").scope("missing"); s == nil || s.HeldReason != "next_on" {
			t.Errorf("the model stands at %+v", s)
		}
	})
}

// TestRescueInOneScope checks that, when a scope opens, its waiting calls move on and other calls stay.
func TestRescueInOneScope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, byModel("timeout 60s"))
		defer func() { l.close() }()
		cut := func(*http.Request) (*http.Response, error) { return nil, errCut }
		release := make(chan struct{})
		waits := func(r *http.Request) (*http.Response, error) {
			select {
			case <-release:
				return respond(r, 200, "late"), nil
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
		}
		l.on("one:80", models(waits, nil))
		var mu sync.Mutex
		got := make(map[string]bool)
		for _, model := range []string{"ill", "well"} {
			go func() {
				l.call(http.MethodPost, "/", fmt.Sprintf(`{"model":%q}`, model))
				mu.Lock()
				got[model] = true
				mu.Unlock()
			}()
		}
		synctest.Wait()
		l.on("one:80", models(waits, map[string]roundTrip{"ill": cut}))
		for range 6 {
			l.ask("ill")
		}
		time.Sleep(time.Second)
		mu.Lock()
		if !got["ill"] || got["well"] {
			t.Errorf("answered: %v", got)
		}
		mu.Unlock()
		close(release)
		synctest.Wait()
	})
}

// TestScopesAcrossReloads checks that the states of scopes outlive a reload that does not change their meaning.
func TestScopesAcrossReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := func(field string) *failover.Policy {
			return &failover.Policy{Scope: &failover.Scope{By: "json", Value: field}, Retry: &failover.Retry{Methods: []string{"any"}}}
		}
		l := newLab(t, policy("model"), "one:80", "two:80")
		l.on("one:80", models(answers200, map[string]roundTrip{"ill": answersWith(500)}))
		for range 8 {
			l.ask("ill")
		}
		l.wants(1, "ill", 200, "two")
		l.reload(policy("model"), "one:80", "two:80")
		l.wants(1, "ill", 200, "two")
		l.wants(1, "well", 200, "one")
		l.reload(policy("kind"), "one:80", "two:80")
		l.wants(1, "well", 200, "one")
		time.Sleep(time.Second)
		if s := l.endpoint("one:80").scope("ill"); s != nil {
			t.Errorf("the model is still known: %+v", s)
		}
		l.wants(1, "ill", 200, "one two")
	})
}

// TestResetClosesScopes checks that an operator's reset clears scopes, and that other orders concern
// the whole endpoint.
func TestResetClosesScopes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, byModel())
		defer func() { l.close() }()
		l.on("one:80", models(answers200, map[string]roundTrip{"ill": answersWith(500)}))
		for range 8 {
			l.ask("ill")
		}
		one := l.endpoint("one:80")
		one.order("drain", "")
		l.wants(2, "well", 200, "two")
		one.order("enable", "")
		l.wants(2, "well", 200, "one")
		l.wants(2, "ill", 200, "two")
		one.order("enable", `{"for": "10m"}`)
		l.wants(2, "ill", 200, "one two") // the operator wants it used
		one.order("enable", "")
		one.order("reset", "")
		if s := one.scope("ill"); s != nil {
			t.Errorf("the scope is still there: %+v", s)
		}
		l.on("one:80", answers200)
		l.wants(2, "ill", 200, "one")
	})
}

// TestNoScope checks that calls without a scope's value count for the endpoint, as in a pool without scopes.
func TestNoScope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, byModel())
		defer func() { l.close() }()
		l.on("one:80", answersWith(500))
		for range 6 {
			l.call(http.MethodPost, "/", `{"prompt":"model"}`)
		}
		if state := l.endpoint("one:80").state(); state != "open" {
			t.Errorf("the endpoint is %s", state)
		}
		if list := l.endpoint("one:80").status().Scopes; len(list) != 0 {
			t.Errorf("there are scopes: %+v", list)
		}
	})
}

// TestHedgesKnowScopes checks that a hedge does not go to an endpoint where its scope is out.
func TestHedgesKnowScopes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, strings.Replace(byModel(), "methods any", "methods any\nhedge 50ms max 100%", 1))
		defer func() { l.close() }()
		l.wants(20, "well", 200, "one")
		l.on("one:80", refusesConnections)
		l.on("two:80", models(answers200, map[string]roundTrip{"ill": answersWith(500)}))
		for range 8 {
			l.ask("ill")
			l.ask("well")
		}
		l.on("one:80", answers200)
		for l.endpoint("one:80").state() != "closed" {
			time.Sleep(100 * time.Millisecond)
			l.ask("well")
		}
		l.ask("ill") // its trial fails
		l.on("one:80", after(time.Second, 200))
		if _, asked := l.ask("ill"); asked != "one" {
			t.Errorf("the hedge of the model that fails there asked %s", asked)
		}
		if _, asked := l.ask("well"); asked != "one two" {
			t.Errorf("the hedge of the model that works asked %s", asked)
		}
	})
}
