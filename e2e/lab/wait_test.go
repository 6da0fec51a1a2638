package lab

import (
	"fmt"
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
