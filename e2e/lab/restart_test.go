package lab

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestARestartKeepsTheOrder restarts the only endpoint for 3 s under 200 calls a second, which wait in
// the queue or retry by the proxy's own option. No call may be lost, and they must reach the endpoint
// in the order of arrival, within 10 ms.
func TestARestartKeepsTheOrder(t *testing.T) {
	for _, option := range []string{"all_down wait 10s", "lb_try_duration 10s"} {
		synctest.Test(t, func(t *testing.T) {
			const rate, down = 200, 3 * time.Second
			l := openLab(t, "failover {\nname lab\nendpoint http://one:1\n"+option+"\n}")
			defer l.close()
			var mu sync.Mutex
			type reached struct{ came, at time.Duration } // after the beginning, of a call that the endpoint got
			var calls []reached
			busy, most := 0, 0
			began := time.Now()
			up := began.Add(2*time.Second + down)
			l.on("one:1", func(r *http.Request) (*http.Response, error) {
				now := time.Now()
				if now.After(began.Add(2*time.Second)) && now.Before(up) {
					return refusesConnections(r)
				}
				at, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
				mu.Lock()
				if !now.Before(up) {
					calls = append(calls, reached{time.Duration(at), now.Sub(began)})
					busy++
					most = max(most, busy)
				}
				mu.Unlock()
				if err := pauseFor(r.Context(), 5*time.Millisecond); err != nil {
					return nil, err
				}
				mu.Lock()
				if !now.Before(up) {
					busy--
				}
				mu.Unlock()
				return respond(r, http.StatusOK, ""), nil
			})
			var wg sync.WaitGroup
			for range rate * 12 {
				time.Sleep(time.Second / rate)
				at := time.Since(began)
				wg.Go(func() {
					if got := l.call(http.MethodGet, fmt.Sprint("/", int(at)), ""); got.Code != http.StatusOK {
						t.Errorf("%s: a call that came after %v got %d", option, at, got.Code)
					}
				})
			}
			wg.Wait()
			overtaken, latest, i := 0, time.Duration(0), 0
			for _, c := range calls {
				for ; calls[i].at < c.at-10*time.Millisecond; i++ {
					latest = max(latest, calls[i].came) // of those that the endpoint got more than 10 ms before
				}
				if c.came < latest {
					overtaken++
				}
			}
			t.Logf("%s: %d calls after the return, %d overtaken, %d at once", option, len(calls), overtaken, most)
			if overtaken > 0 || len(calls) < 2000 {
				t.Errorf("%s: of %d calls %d were overtaken", option, len(calls), overtaken)
			}
			if most > rate*3/4 {
				t.Errorf("%s: of 600 calls that waited the endpoint had %d at once", option, most)
			}
		})
	}
}
