package lab

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	failover "github.com/apifailover/caddy-failover"
)

// TestSlowRequestsAreNoSlowEndpoint checks that requests that are slow at every endpoint open nothing
// beside 200 quick ones a second, in bursts or steadily, whether their clients wait or leave.
func TestSlowRequestsAreNoSlowEndpoint(t *testing.T) {
	for _, tt := range []struct {
		name     string
		burst    int
		every    time.Duration
		patience time.Duration // of the clients of slow requests
	}{
		{"30 each 10 s", 30, 10 * time.Second, time.Minute},
		{"30 each 10 s, whose clients leave", 30, 10 * time.Second, 300 * time.Millisecond},
		{"100 a second", 1, 10 * time.Millisecond, time.Minute},
		{"50 a second, whose clients leave", 1, 20 * time.Millisecond, 300 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				addresses := []string{"one:80", "two:80", "three:80"}
				l := newLab(t, &failover.Policy{Timeout: caddy.Duration(20 * time.Second)}, addresses...)
				for _, address := range addresses {
					l.on(address, func(r *http.Request) (*http.Response, error) {
						if strings.HasPrefix(r.URL.Path, "/slow") {
							return after(10*time.Second, http.StatusOK)(r)
						}
						return after(2*time.Millisecond, http.StatusOK)(r)
					})
				}
				l.load(200, 3*time.Second)
				var slow sync.WaitGroup
				slow.Go(func() {
					for began := time.Now(); time.Since(began) < 30*time.Second; time.Sleep(tt.every) {
						for range tt.burst {
							slow.Go(func() {
								ctx, leave := context.WithTimeout(t.Context(), tt.patience)
								defer leave()
								l.callWith(ctx, http.MethodGet, "/slow", "")
							})
						}
					}
				})
				s := l.load(200, 30*time.Second)
				if s.failed > 0 || s.slow > 0 {
					t.Errorf("quick calls: %+v", s)
				}
				for _, address := range addresses {
					if moves := l.endpoint(address).moves(); len(moves) > 0 {
						t.Errorf("%s: %+v", address, moves)
					}
				}
				slow.Wait()
			})
		})
	}
}
