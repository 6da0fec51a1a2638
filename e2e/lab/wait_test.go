package lab

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestTriesGoOnBeyondTheBudget checks that calls without another endpoint go on soon after an endpoint's
// return although their tries have used up the retry budget, and that an endpoint gets few tries before it.
func TestTriesGoOnBeyondTheBudget(t *testing.T) {
	const one, two = "endpoint http://one:1\n", "endpoint http://one:1\nendpoint http://two:1\n"
	for _, test := range []struct {
		options       string
		calls         int
		down, soonest time.Duration
	}{
		{one + "lb_try_duration 30s\nbreaker off", 20, 1200 * time.Millisecond, time.Second},
		{two + "lb_try_duration 30s\nbreaker off", 20, 1200 * time.Millisecond, time.Second},
		{one + "all_down wait 30s\nbreaker off", 200, 15 * time.Second, 3 * time.Second},
		{one + "lb_try_duration 30s\nbreaker off\nretry {\nbudget 0 0\n}", 20, 15 * time.Second, time.Second},
		{one + "lb_try_duration 30s", 20, 1200 * time.Millisecond, time.Second},
	} {
		for name, fails := range map[string]roundTrip{"refused": refusesConnections, "slow to refuse": func(r *http.Request) (*http.Response, error) {
			if err := pauseFor(r.Context(), 300*time.Millisecond); err != nil {
				return nil, err
			}
			return refusesConnections(r)
		}} {
			synctest.Test(t, func(t *testing.T) {
				l := openLab(t, "failover {\nname lab\n"+test.options+"\n}")
				defer l.close()
				back := time.Now().Add(test.down)
				var tries atomic.Int64
				for _, host := range []string{"one:1", "two:1"} {
					l.on(host, func(r *http.Request) (*http.Response, error) {
						if time.Now().Before(back) {
							tries.Add(1)
							return fails(r)
						}
						return answers200(r)
					})
				}
				var wg sync.WaitGroup
				for i := range test.calls {
					wg.Go(func() {
						if got := l.call("GET", fmt.Sprint("/", i), ""); got.Code != http.StatusOK {
							t.Errorf("%q, %s: a call got %d", test.options, name, got.Code)
						}
					})
				}
				wg.Wait()
				if took := time.Since(back); took > test.soonest {
					t.Errorf("%q, %s: the last call ended %v after the return", test.options, name, took)
				}
				if most := float64(test.calls)*1.2*2 + 8*test.down.Seconds() + 60; float64(tries.Load()) > most {
					t.Errorf("%q, %s: %d tries while the endpoint was down, at most %.0f wanted", test.options, name, tries.Load(), most)
				}
			})
		}
	}
}

// TestErrorsInsideA200LetInNoMoreCalls has endpoints whose 200s are errors. Calls that wait must make few attempts, as if the
// status said so, and go on when the endpoints are well again.
func TestErrorsInsideA200LetInNoMoreCalls(t *testing.T) {
	const limited, failed = `{"error":{"code":"rate_limit_exceeded"}}`, `{"error":{"code":"server_error"}}`
	for _, test := range []struct{ options, body string }{
		{"api openai", limited},
		{"api openai\ncommit complete", limited},
		{"answer 200 json error.code rate as held", limited},
		{"api openai\nbreaker off", failed},
		{"answer 200 json error as failure", failed},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := openAlike(t, 2, "quota endpoint\nall_down wait 30s\n"+test.options, answers200)
			defer l.close()
			answers := func(body string) roundTrip {
				return func(r *http.Request) (*http.Response, error) {
					return respond(r, http.StatusOK, body, "Content-Type", "application/json"), nil
				}
			}
			var bad atomic.Int32
			calls := func(n int) {
				for range n {
					time.Sleep(20 * time.Millisecond)
					go func() {
						if w := l.call(http.MethodPost, "/", `{"model":"m"}`, "Content-Type", "application/json"); w.Code != http.StatusOK || w.Body.String() == test.body {
							bad.Add(1)
						}
					}()
				}
			}
			l.onAll(2, answers(`{"choices":[{"message":{"content":"x"}}]}`))
			calls(200)
			l.onAll(2, answers(test.body))
			l.takeAsked()
			calls(100)
			if asked := len(l.takeAsked()); asked > 320 {
				t.Errorf("%q: %d attempts of 100 calls", test.options, asked)
			}
			l.onAll(2, answers(`{"choices":[{"message":{"content":"x"}}]}`))
			calls(200)
			time.Sleep(time.Minute)
			if got := bad.Load(); test.body == limited && got > 0 {
				t.Errorf("%q: %d calls got an error", test.options, got)
			}
		})
	}
}

// TestAFullQueueTurnsAwayOnlyWhatFindsNoEndpoint checks that calls that find an endpoint get it at once, although as many
// others wait as may.
func TestAFullQueueTurnsAwayOnlyWhatFindsNoEndpoint(t *testing.T) {
	for name, test := range map[string]struct{ options, waits, goes string }{
		"another scope":             {"scope json model\nendpoint http://one:1", "ill", "well"},
		"another model":             {"api openai\nendpoint http://one:1 {\nmodel ill one\n}\nendpoint http://two:1 {\nmodel well two\n}", "ill", "well"},
		"a model of every endpoint": {"api openai\nendpoint http://one:1 {\nmodel ill one\nmodel well one\n}\nendpoint http://two:1 {\nmodel well two\n}", "ill", "well"},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := openLab(t, "failover {\nname lab\nall_down wait 20s 5\n"+test.options+"\n}")
			defer l.close()
			var well atomic.Bool
			l.on("one:1", func(r *http.Request) (*http.Response, error) {
				body, _ := io.ReadAll(r.Body)
				if !well.Load() && (name != "another scope" || bytes.Contains(body, []byte(test.waits))) {
					return respond(r, http.StatusServiceUnavailable, ""), nil
				}
				return respond(r, http.StatusOK, "{\"choices\":[{}]}", "Content-Type", "application/json"), nil
			})
			call := func(model string) int {
				return l.call(http.MethodPost, "/v1/chat/completions", `{"model":"`+model+`"}`, "Content-Type", "application/json").Code
			}
			var wg sync.WaitGroup
			for range 20 {
				time.Sleep(time.Millisecond)
				wg.Go(func() { call(test.waits) })
			}
			for range 100 {
				began := time.Now()
				if got := call(test.goes); got != http.StatusOK || time.Since(began) > 0 {
					t.Errorf("%s: a call got %d after %v", name, got, time.Since(began))
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			well.Store(true)
			wg.Wait()
		})
	}
}
