package failover

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// misbehave answers in a way of its own for each request: mostly well.
func (a *api) misbehave(w http.ResponseWriter, r *http.Request) {
	switch n := rand.IntN(20); {
	case n == 0:
		cut(w, r)
	case n == 1:
		w.WriteHeader(http.StatusServiceUnavailable)
	case n == 2:
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-r.Context().Done():
		case <-time.After(400 * time.Millisecond): // longer than the timeout
		}
	case n == 3:
		fmt.Fprint(w, "half of ")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case n == 4:
		_, _ = io.CopyN(io.Discard, r.Body, 100)
		cut(w, r)
	case n == 5 && rand.IntN(50) == 0:
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	default:
		a.fine(w, r)
	}
}

// TestNothingIsLeftBehindByChaos: endpoints that fail in every way, clients that
// leave at any time, and reloads every now and then. Whatever comes of a call, it
// is a whole answer, an endpoint's own failure or a refusal; and when all is quiet
// again nothing is in flight, every permit is back and every endpoint recovers.
func TestNothingIsLeftBehindByChaos(t *testing.T) {
	apis := []*api{newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")}
	for _, a := range apis {
		a.behave(a.misbehave)
	}
	config := func(n int) string {
		used := apis
		if n%3 == 2 {
			used = apis[:2]
		}
		endpoints := ""
		for _, a := range used {
			endpoints += keyed(a)
		}
		return fmt.Sprintf("failover {\n\tname api\n%s\ttimeout %dms\n\tbreaker {\n\t\topen_for 300ms\n\t\topen_max 300ms\n\t\tstep 100ms\n\t}\n\tretry {\n\t\tmethods any\n\t\tsame_endpoint %d\n\t\tbackoff 1ms 5ms\n\t\tbuffer 10KB\n\t}\n}",
			endpoints, 150+n%5, n%2)
	}
	p := startCaddy(t, config(0))
	quit := make(chan struct{})
	var clients sync.WaitGroup
	var calls, whole, wrong atomic.Int64
	for range 12 {
		clients.Go(func() {
			for {
				select {
				case <-quit:
					return
				default:
				}
				body := randomBody(rand.IntN(20_000))
				method := []string{http.MethodGet, http.MethodPost, http.MethodPut}[rand.IntN(3)]
				if method == http.MethodGet {
					body = ""
				}
				ctx, leave := context.WithCancel(t.Context())
				if rand.IntN(5) == 0 {
					time.AfterFunc(time.Duration(rand.IntN(50))*time.Millisecond, leave)
				}
				var reader io.Reader = strings.NewReader(body)
				if rand.IntN(2) == 0 {
					reader = unknownLength(body)
				}
				if body == "" {
					reader = nil
				}
				r, _ := http.NewRequestWithContext(ctx, method, "http://api.test/", reader)
				calls.Add(1)
				if resp, err := p.client.Do(r); err == nil {
					text, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if err == nil && resp.StatusCode == http.StatusOK {
						if strings.HasSuffix(string(text), digest(body)) && strings.Contains("one two three", strings.Fields(string(text) + " ?")[0]) {
							whole.Add(1)
						} else if len(text) > 0 { // else it is the endpoint that hung to its end
							wrong.Add(1)
							t.Errorf("got %q for a body of %d bytes", text, len(body))
						}
					}
				}
				leave()
			}
		})
	}
	for n := range 12 {
		lasting(200 * time.Millisecond)
		if err := p.load(config(n + 1)); err != nil {
			t.Errorf("reload %d: %v", n, err)
		}
		if n%4 == 3 && p.load(config(n)+"\ntest_fails") == nil {
			t.Error("loading should have failed")
		}
	}
	close(quit)
	clients.Wait()
	if whole.Load() < 100 { // clients that are refused ask again at once, so that no ratio says much
		t.Errorf("only %d of %d calls were answered well", whole.Load(), calls.Load())
	}
	t.Logf("%d calls, %d of them answered well", calls.Load(), whole.Load())

	pool := runningPool(t, "api")
	eventually(t, 3*time.Second, "nothing is in flight", func() bool { return !pool.busy() })
	for _, a := range apis {
		a.behave(a.fine)
	}
	if now := snap(t, "api"); now.attached != 1 || now.policies != 1 || len(now.states) != 3 {
		t.Errorf("the pool is %+v", now)
	}
	eventually(t, 10*time.Second, "every endpoint has recovered", func() bool {
		p.call("GET", "/", "")
		for _, a := range apis {
			if stateOf(t, "api", a.name).breakerNow() != stateClosed {
				return false
			}
		}
		return true
	})
	eventually(t, 2*time.Second, "every attempt is accounted for", func() bool {
		for _, a := range apis {
			if n := stateOf(t, "api", a.name).totalsNow(); n.Attempts != n.Successes+n.Failures+n.Cancelled {
				return false
			}
		}
		return !pool.busy()
	})
	eventually(t, 15*time.Second, "the primary has its traffic back", func() bool {
		hits := apis[0].hits.Load()
		for range 20 {
			p.call("GET", "/", "")
		}
		return apis[0].hits.Load()-hits >= 19
	})
}
