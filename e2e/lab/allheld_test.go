package lab

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestAllEndpointsAskToWait has endpoints that answer every call with a 429. After 2 s, in which the calls may be
// to blame, they are left alone for as long as they ask, and calls wait if they may.
func TestAllEndpointsAskToWait(t *testing.T) {
	const lasts, every = 20 * time.Second, 50 * time.Millisecond
	const waits = "all_down wait 10s"
	for _, n := range []int{1, 2, 3} {
		for _, option := range []string{"", waits, "scope {header.X-Model}"} {
			t.Run(fmt.Sprintf("%d endpoints, %s", n, option), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := openAlike(t, n, "quota endpoint\n"+option, answersWith(http.StatusOK))
					defer l.close()
					// calls begins calls for a time, and returns how many attempts they made in it and how many
					// of them are refused in the end
					calls := func(lasting time.Duration) (attempts int, refused *atomic.Int32) {
						l.takeAsked()
						refused = new(atomic.Int32)
						for until := time.Now().Add(lasting); time.Now().Before(until); time.Sleep(every) {
							path := fmt.Sprint("/", time.Now().UnixNano())
							go func() {
								if w := l.call(http.MethodGet, path, "", "X-Model", "m"); w.Code != http.StatusOK {
									refused.Add(1)
								}
							}()
						}
						return len(l.takeAsked()), refused
					}
					_, first := calls(3 * time.Second)
					l.onAll(n, answersWith(http.StatusTooManyRequests, "Retry-After", "5"))
					calls(2500 * time.Millisecond)
					attempts, _ := calls(lasts)
					if attempts > n*int(lasts/time.Second) {
						t.Errorf("%d attempts in %v", attempts, lasts)
					}
					l.onAll(n, answersWith(http.StatusOK))
					_, healed := calls(10 * time.Second)
					time.Sleep(time.Minute)
					if got := first.Load(); got != 0 {
						t.Errorf("%d calls refused before", got)
					}
					if got := healed.Load(); option == waits && got != 0 {
						t.Errorf("%d calls refused afterwards", got)
					}
				})
			})
		}
	}
}

// TestCallsWaitFromTheFirst429 has endpoints that all answer every call with a 429 for a time. Calls that may wait wait
// from the first one on, and make few attempts more than calls that may not.
func TestCallsWaitFromTheFirst429(t *testing.T) {
	for _, n := range []int{1, 2, 3} {
		for _, test := range []struct {
			method, retryAfter string
			rate               int
			lasts              time.Duration
		}{
			{http.MethodGet, "", 200, time.Second},
			{http.MethodPost, "1", 20, time.Second},
			{http.MethodGet, "", 2, 3 * time.Second},
			{http.MethodPost, "", 50, 6 * time.Second},
			{http.MethodGet, "5", 50, 6 * time.Second},
		} {
			t.Run(fmt.Sprintf("%d endpoints, %+v", n, test), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := openAlike(t, n, "quota endpoint\nall_down wait 30s 10000", answersWith(http.StatusOK))
					defer l.close()
					var bad, calls atomic.Int32
					load := func(lasting time.Duration) {
						for until := time.Now().Add(lasting); time.Now().Before(until); time.Sleep(time.Second / time.Duration(test.rate)) {
							calls.Add(1)
							go func() {
								if w := l.call(test.method, fmt.Sprint("/", calls.Load()), "x"); w.Code != http.StatusOK {
									bad.Add(1)
								}
							}()
						}
					}
					load(2 * time.Second)
					header := []string{"Retry-After", test.retryAfter}
					if test.retryAfter == "" {
						header = nil
					}
					l.onAll(n, answersWith(http.StatusTooManyRequests, header...))
					l.takeAsked()
					before := calls.Load()
					load(test.lasts)
					// two of each call, and of those that wait what the retry budget allows and saved up before
					most := 2.2*float64(calls.Load()-before) + 0.2*float64(before) + 30 + 8*test.lasts.Seconds()
					if asked := len(l.takeAsked()); float64(asked) > most {
						t.Errorf("%d attempts of %d calls, want at most %.0f", asked, calls.Load()-before, most)
					}
					l.onAll(n, answersWith(http.StatusOK))
					load(10 * time.Second)
					time.Sleep(30 * time.Second)
					if got := bad.Load(); got != 0 {
						t.Errorf("%d of %d calls refused", got, calls.Load())
					}
				})
			})
		}
	}
}

// TestA429OfTheRequestsOwnWaitsNotLong has requests that get a 429 at every endpoint while others are served. They get it
// soon, and leave the queue to others.
func TestA429OfTheRequestsOwnWaitsNotLong(t *testing.T) {
	for _, option := range []string{"", "scope {header.X-Model}"} {
		for _, retryAfter := range []string{"", "20"} {
			synctest.Test(t, func(t *testing.T) {
				l := openAlike(t, 2, "quota endpoint\nall_down wait 1m 100\n"+option, func(r *http.Request) (*http.Response, error) {
					switch {
					case r.URL.Path != "/odd":
						return respond(r, http.StatusOK, ""), nil
					case retryAfter != "":
						return respond(r, http.StatusTooManyRequests, "", "Retry-After", retryAfter), nil
					}
					return respond(r, http.StatusTooManyRequests, ""), nil
				})
				defer l.close()
				var longest atomic.Int64
				for i := range 600 {
					time.Sleep(50 * time.Millisecond)
					path := "/good"
					if i%2 == 0 {
						path = "/odd"
					}
					go func() {
						began := time.Now()
						w := l.call(http.MethodGet, path, "", "X-Model", "m")
						took := time.Since(began)
						switch {
						case path == "/good" && (w.Code != http.StatusOK || took > time.Second):
							t.Errorf("%q %q: a good call gets %d after %v", option, retryAfter, w.Code, took)
						case path == "/odd" && w.Code != http.StatusTooManyRequests:
							t.Errorf("%q %q: an odd call gets %d", option, retryAfter, w.Code)
						case path == "/odd":
							longest.Store(max(longest.Load(), int64(took)))
						}
					}()
				}
				time.Sleep(2 * time.Minute)
				if got := time.Duration(longest.Load()); got > 15*time.Second {
					t.Errorf("%q %q: an odd call waits for %v", option, retryAfter, got)
				}
			})
		}
	}
}
