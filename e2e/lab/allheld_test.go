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
