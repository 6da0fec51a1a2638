package lab

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// askAll sends a call for each model, five times a second, and returns how many failed.
func (l *lab) askAll(lasting time.Duration, models ...string) (failed int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for until := time.Now().Add(lasting); time.Now().Before(until); time.Sleep(200 * time.Millisecond) {
		for _, model := range models {
			wg.Go(func() {
				defer func() { _ = recover() }() // the proxy aborts a response that it cannot complete
				mu.Lock()
				failed++
				mu.Unlock()
				body := `{"messages":[]}`
				if model != "" {
					body = fmt.Sprintf(`{"messages":[],"model":%q}`, model)
				}
				if l.call(http.MethodPost, "/v1/chat", body).Code == http.StatusOK {
					mu.Lock()
					failed--
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	return failed
}

// breaks makes some models fail at some endpoints.
func (l *lab) breaks(failure roundTrip, endpoints, models string) {
	special := make(map[string]roundTrip)
	for _, model := range strings.Fields(models) {
		special[model] = failure
	}
	for _, name := range strings.Fields(endpoints) {
		l.on(name+":80", byModelOf(special))
	}
}

func byModelOf(special map[string]roundTrip) roundTrip { return models(answers200, special) }

// outageKinds returns the kinds of a pool's incidents that events tell of, and whether the pool is down.
func (l *lab) outageKinds() (kinds []string, down bool) {
	l.t.Helper()
	var incidents []struct {
		ID   uint64
		Kind string
	}
	admin(l.t, http.MethodGet, "incidents?pool="+l.pool, "", &incidents)
	for _, i := range incidents {
		if slices.ContainsFunc(l.events(), func(e event) bool { return e.Incident == i.ID }) {
			kinds = append(kinds, i.Kind)
		}
	}
	var pool struct{ Down bool }
	admin(l.t, http.MethodGet, "pools/"+l.pool, "", &pool)
	return kinds, pool.Down
}

// happened returns the events of a kind.
func (l *lab) happened(kind string) (list []event) {
	for _, e := range l.events() {
		if e.Kind == kind {
			list = append(list, e)
		}
	}
	return list
}

// TestEveryScopeIsOut takes models out at all endpoints, in turn. Only when the last one that has calls is
// out is the pool down, by its event, its incident and its status alike.
func TestEveryScopeIsOut(t *testing.T) {
	for name, failure := range map[string]roundTrip{"status": answersWith(http.StatusServiceUnavailable), "truncated": cutsShort} {
		for _, order := range []string{"a", "a b", "a+b c", "a b+c"} {
			t.Run(name+" "+order, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := openLab(t, byModel())
					defer func() { l.close() }()
					steps := strings.Fields(order)
					all := strings.FieldsFunc(order, func(r rune) bool { return r == ' ' || r == '+' })
					l.askAll(20*time.Second, all...)
					broken := ""
					for i, step := range steps {
						if kinds, down := l.outageKinds(); down || slices.Contains(kinds, "down") || len(l.happened("all_down")) > 0 {
							t.Errorf("before %s: incidents %v, down %v", step, kinds, down)
						}
						broken += " " + strings.ReplaceAll(step, "+", " ")
						l.breaks(failure, "one two", broken)
						l.askAll(20*time.Second, all...)
						if kinds, _ := l.outageKinds(); i < len(steps)-1 && !slices.Equal(kinds, []string{"degraded"}) {
							t.Errorf("after %s: incidents %v", step, kinds)
						}
					}
					fell := l.happened("all_down")
					if kinds, down := l.outageKinds(); !down || !slices.Equal(kinds, []string{"down"}) || len(fell) != 1 {
						t.Fatalf("down %v, incidents %v, events %+v", down, kinds, fell)
					}
					if text, _ := fell[0].Details["causes"].(string); !strings.HasPrefix(text, "one:80: ") || !strings.Contains(text, "two:80: ") {
						t.Errorf("the causes are %q", text)
					}
					if fell[0].Reason == "scopes" && fell[0].Details["scopes"] != strings.Join(all, ", ") {
						t.Errorf("the scopes are %v", fell[0].Details["scopes"])
					}
					l.breaks(failure, "one two", "")
					l.askAll(20*time.Second, all...)
					up := l.happened("pool_up")
					if _, down := l.outageKinds(); down || len(up) != 1 || len(l.happened("all_down")) != 1 {
						t.Fatalf("afterwards: down %v, events %+v", down, up)
					}
					if seconds, _ := up[0].Details["down_seconds"].(float64); seconds < 10 || up[0].Details["by"] == nil {
						t.Errorf("up again: %v", up[0].Details)
					}
				})
			})
		}
	}
}

// TestPoolServesSomething checks that a pool is not down while something is served: another model, also one
// that is asked for once a minute and fails at times, one known at another endpoint, or calls without a model.
func TestPoolServesSomething(t *testing.T) {
	fails := answersWith(http.StatusServiceUnavailable)
	for name, during := range map[string]func(l *lab){
		"a busy model": func(l *lab) { l.askAll(2*time.Minute, "a", "b", "works") },
		"a quiet model": func(l *lab) {
			for range 2 {
				l.askAll(100*time.Millisecond, "works")
				l.askAll(time.Minute, "a", "b")
			}
		},
		"calls without a model": func(l *lab) {
			for range 2 {
				l.askAll(100*time.Millisecond, "")
				l.askAll(time.Minute, "a", "b")
			}
		},
		"a model at the other endpoint": func(l *lab) {
			l.on("one:80", byModelOf(map[string]roundTrip{"a": fails, "b": fails, "works": fails}))
			l.askAll(2*time.Minute, "a", "b", "works")
		},
		"one endpoint for all models": func(l *lab) {
			l.on("two:80", answers200)
			l.askAll(2*time.Minute, "a", "b")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := openLab(t, byModel())
				defer func() { l.close() }()
				l.askAll(20*time.Second, "a", "b", "works", "")
				l.breaks(fails, "one two", "a b")
				during(l)
				if kinds, down := l.outageKinds(); down || slices.Contains(kinds, "down") || len(l.happened("all_down")) > 0 {
					t.Errorf("incidents %v, down %v, events %+v", kinds, down, l.happened("all_down"))
				}
			})
		})
	}
}

// TestScopeStaysOut checks that a model that stays out, or some of several, cause few events however long
// that lasts, and that their open periods grow to open_max as an endpoint's do.
func TestScopeStaysOut(t *testing.T) {
	cut := func(*http.Request) (*http.Response, error) { return nil, errCut }
	for name, failure := range map[string]roundTrip{"status": answersWith(http.StatusServiceUnavailable), "reset": cut, "hangs": hangs, "truncated": cutsShort} {
		for ill, where := range map[string]string{"a": "one", "a b": "one two"} {
			t.Run(name+" at "+where+" for "+ill, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := openLab(t, byModel("timeout 1s"))
					defer func() { l.close() }()
					l.askAll(20*time.Second, "a", "b", "c")
					l.breaks(failure, where, ill)
					l.askAll(4*time.Minute, "a", "b", "c")
					told := make(map[string]int)
					longest := make(map[string]time.Duration)
					for _, e := range l.events() {
						if !strings.HasPrefix(e.Kind, "breaker_") {
							continue
						}
						of := e.Endpoint + " " + e.Scope
						told[of]++
						if text, _ := e.Details["until"].(string); text != "" {
							until, err := time.Parse(time.RFC3339, text)
							if err != nil {
								t.Fatal(err)
							}
							longest[of] = max(longest[of], until.Sub(e.At))
						}
					}
					for of, n := range told {
						if n > 9 { // by chance an endpoint opens for its scopes, and closes again
							t.Errorf("%d events of %s: %+v", n, of, l.events())
						}
						if n > 3 && longest[of] < 8*time.Second {
							t.Errorf("the longest open period of %s is %v", of, longest[of])
						}
					}
					l.breaks(failure, where, "")
					l.askAll(90*time.Second, "a", "b", "c")
					for _, name := range []string{"one:80", "two:80"} {
						for _, s := range l.endpoint(name).status().Scopes {
							if s.State != "closed" {
								t.Errorf("%s of %s is %s", s.Scope, name, s.State)
							}
						}
					}
				})
			})
		}
	}
}
