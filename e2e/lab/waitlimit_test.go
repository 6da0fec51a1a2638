package lab

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestCallsThatWaitForALimitUseAllOfIt checks that calls wait in order at twice the demand that a limit
// allows, and that the endpoint gets all that its limit grants, even with a small burst.
func TestCallsThatWaitForALimitUseAllOfIt(t *testing.T) {
	for _, limit := range []string{"limit 10 requests per 1s", "limit 600 requests per 1m", "limit 50 requests per 1s", "limit 10000 tokens per 1s"} {
		synctest.Test(t, func(t *testing.T) {
			l := openLab(t, "failover {\nname lab\nendpoint http://one:1 {\n"+limit+"\n}\nall_down wait 1m 10000\n}")
			defer l.close()
			var mu sync.Mutex
			var asked []time.Time
			var order []string
			l.on("one:1", func(r *http.Request) (*http.Response, error) {
				mu.Lock()
				asked, order = append(asked, time.Now()), append(order, r.URL.Path)
				mu.Unlock()
				return respond(r, http.StatusOK, `{"usage":{"total_tokens":1000}}`), nil
			})
			rate := 10
			if limit == "limit 50 requests per 1s" {
				rate = 50
			}
			const seconds = 20
			var wg sync.WaitGroup
			for i := range 2 * rate * seconds {
				time.Sleep(time.Second / time.Duration(2*rate))
				wg.Go(func() {
					if got := l.call(http.MethodGet, fmt.Sprintf("/%05d", i), ""); got.Code != http.StatusOK {
						t.Errorf("call %d got %d", i, got.Code)
					}
				})
			}
			began := time.Now().Add(-seconds * time.Second)
			wg.Wait()
			in := 0
			for i, at := range asked {
				if at.Sub(began) < seconds*time.Second {
					in++
				}
				if i > 0 && at.After(asked[i-1]) && order[i] < order[i-1] { // those let in at once are asked for in any order
					t.Errorf("%s: %s came before %s", limit, order[i-1], order[i])
				}
			}
			if part := float64(in) / float64(rate*seconds); part < 0.95 || part > 1.06 {
				t.Errorf("%s: %.3f of the grant used while calls wait", limit, part)
			}
		})
	}
}

// TestWaitingCallsLeaveTimeForTheirResponse has five times the calls that the endpoints can take, and a deadline. The
// endpoints must get only calls that they can answer in time, and be busy with these.
func TestWaitingCallsLeaveTimeForTheirResponse(t *testing.T) {
	for _, bound := range []string{"max_requests 2", "limit 40 requests per 1s", "max_requests 2\nlimit 4000 tokens per 1s"} {
		for _, options := range []string{"", "scope {header.X-Model}", "affinity {header.X-Model}\nscope {header.X-Model}"} {
			synctest.Test(t, func(t *testing.T) {
				const lasts, rate, capacity, deadline = 5 * time.Second, 200, 80, 2 * time.Second
				l := openLab(t, fmt.Sprintf("failover {\nname lab\nall_down wait 1m 10000\nretry {\ndeadline %v\n}\n%s\nendpoint http://one:1 {\npriority 1\n%s\n}\nendpoint http://two:1 {\npriority 1\n%[3]s\n}\n}", deadline, options, bound))
				defer l.close()
				answers := func(r *http.Request) (*http.Response, error) {
					if err := pauseFor(r.Context(), 50*time.Millisecond); err != nil {
						return nil, err
					}
					return respond(r, http.StatusOK, `{"usage":{"total_tokens":100}}`), nil
				}
				l.on("one:1", answers)
				l.on("two:1", answers)
				var mu sync.Mutex
				var wg sync.WaitGroup
				codes := make(map[int]int)
				for i := range int(lasts.Seconds() * rate) {
					time.Sleep(time.Second / rate)
					wg.Go(func() {
						began := time.Now()
						w := l.call(http.MethodGet, "/", "", "X-Model", fmt.Sprint(i%5))
						mu.Lock()
						defer mu.Unlock()
						codes[w.Code]++
						if took := time.Since(began); took > deadline {
							t.Errorf("%s %q: a call takes %v", bound, options, took)
						}
					})
				}
				wg.Wait()
				if asked := len(l.takeAsked()); codes[200] < capacity*int(lasts.Seconds())*8/10 || codes[200] < asked*95/100 {
					t.Errorf("%s %q: of %d calls at the endpoints, %d in time: %v", bound, options, asked, codes[200], codes)
				}
			})
		}
	}
}

// TestCallsWhoseResponsesTakeMostOfTheDeadlineWait drains the only endpoint for a moment. A call must wait for it, however much of
// the deadline its response usually takes.
func TestCallsWhoseResponsesTakeMostOfTheDeadlineWait(t *testing.T) {
	for _, takes := range []time.Duration{time.Second, 7 * time.Second, 8 * time.Second, 9 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			l := openLab(t, "failover {\nname lab\nall_down wait 1m\nretry {\ndeadline 10s\n}\nendpoint http://one:1 {\nname one\n}\n}")
			defer l.close()
			l.on("one:1", after(takes, http.StatusOK))
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() { l.call("GET", "/", "") })
				time.Sleep(100 * time.Millisecond)
			}
			wg.Wait()
			l.endpoint("one").order("drain", "")
			synctest.Wait()
			wg.Go(func() {
				if w := l.call("GET", "/", ""); w.Code != http.StatusOK {
					t.Errorf("with responses in %v, a call gets %d", takes, w.Code)
				}
			})
			time.Sleep(500 * time.Millisecond)
			l.endpoint("one").order("enable", "")
			wg.Wait()
		})
	}
}
