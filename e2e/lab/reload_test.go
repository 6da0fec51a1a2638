package lab

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	failover "github.com/apifailover/caddy-failover"
)

// TestAttemptsOutliveTheirEndpoint checks attempts that go on after a reload without their endpoint,
// or without any. They keep their timeouts and failovers, their clients may leave, and their results
// count where they began.
func TestAttemptsOutliveTheirEndpoint(t *testing.T) {
	for name, next := range map[string][]string{
		"the same endpoints":  {"one:1", "two:1"},
		"one endpoint leaves": {"two:1"},
		"all endpoints leave": {"three:1"},
		"the pool leaves":     nil,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				policy := func() *failover.Policy { return &failover.Policy{Timeout: caddy.Duration(time.Second)} }
				l := newLab(t, policy(), "one:1", "two:1")
				l.on("one:1", hangs)
				ctx, leave := context.WithCancel(t.Context())
				left, stays := make(chan int), make(chan int)
				go func() { left <- l.callWith(ctx, http.MethodPost, "/", "").Code }()
				go func() { stays <- l.call(http.MethodGet, "/", "").Code }()
				synctest.Wait()
				if n := l.waitingAt("one:1"); n != 2 {
					t.Fatalf("%d attempts are in flight", n)
				}
				if next == nil {
					l.close()
				} else {
					l.reload(policy(), next...)
				}
				leave()
				if code := <-left; code != 499 {
					t.Errorf("the client that left got %d", code)
				}
				synctest.Wait()
				if n := l.waitingAt("one:1"); n != 1 {
					t.Errorf("when a client has left the endpoint has %d in flight", n)
				}
				if code := <-stays; code != http.StatusOK {
					t.Errorf("the request that hung got %d", code)
				}
				synctest.Wait()
				if n := l.waitingAt("one:1") + l.waitingAt("two:1"); n != 0 {
					t.Errorf("%d attempts are in flight", n)
				}
				if name == "the same endpoints" {
					if got := l.endpoint("one:1").totals(); got != (totals{Attempts: 2, Failures: 1, Cancelled: 1}) {
						t.Errorf("the endpoint has %+v", got)
					}
					if got := l.endpoint("two:1").totals(); got != (totals{Attempts: 1, Successes: 1}) {
						t.Errorf("the next endpoint has %+v", got)
					}
				}
				time.Sleep(watchAtMost) // or the bubble tells that the pool's loop goes on after its last attempt
			})
		})
	}
}
