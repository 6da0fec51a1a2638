package failover

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apifailover/caddy-failover/internal/call"
	"github.com/apifailover/caddy-failover/internal/endpoint"
)

// TestClientLeavesDuringRescue lets a client leave when the watcher has just moved its
// call: what was reserved is made and ended, so that attempts, failovers and calls add up.
func TestClientLeavesDuringRescue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, "failover {\nname lab\nendpoint http://one:1 {\nname one\n}\nendpoint http://two:1 {\nname two\n}\n}")
		defer l.close()
		ctx, leave := context.WithCancel(t.Context())
		l.on("one:1", func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			leave()
			return nil, r.Context().Err()
		})
		l.on("two:1", func(r *http.Request) (*http.Response, error) {
			if err := r.Context().Err(); err != nil {
				return nil, err
			}
			return answers200(r)
		})
		code := make(chan int)
		go func() { code <- l.callWith(ctx, http.MethodGet, "/", "").Code }()
		time.Sleep(time.Second)
		one, two := l.stateOf("one"), l.stateOf("two")
		one.Mu.Lock()
		one.Breaker.Trip(time.Now(), l.policy.BreakerConfig(), "test")
		one.Mu.Unlock()
		if got := <-code; got != 499 {
			t.Errorf("got %d", got)
		}
		synctest.Wait()
		want := endpoint.Totals{Attempts: 1, Cancelled: 1}
		if a, b := totalsNow(one), totalsNow(two); a != want || b != want || one.Busy.Load()+two.Busy.Load() != 0 {
			t.Errorf("totals are %+v and %+v", a, b)
		}
		l.policy.Pool.Fold(time.Now())
		if n := l.policy.Pool.Calls.Counts().Cancelled; n != 1 {
			t.Errorf("%d calls were cancelled", n)
		}
		if n := memberOf(one).Total.Failovers[endpoint.Route{To: "two", Reason: call.ReasonRescued}]; n != 1 {
			t.Errorf("%d failovers", n)
		}
	})
}
