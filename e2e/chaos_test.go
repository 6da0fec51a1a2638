package e2e

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

// misbehave answers most requests well, and fails the others in different ways.
func (a *api) misbehave(w http.ResponseWriter, r *http.Request) {
	switch n := rand.IntN(20); {
	case n == 0:
		cut(w, r)
	case n == 1:
		w.WriteHeader(http.StatusServiceUnavailable)
	case n == 2:
		_, _ = io.Copy(io.Discard, r.Body)
		pause(r.Context(), 400*time.Millisecond) // longer than the timeout
	case n == 3:
		fmt.Fprint(w, "half of ")
		flush(w)
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

// clumsy makes one call of any method and size; one client in five leaves early. It returns what is
// wrong with the answer, and whether the answer is whole.
func (p *proxy) clumsy(ctx context.Context) (whole bool, wrong error) {
	method := []string{http.MethodGet, http.MethodPost, http.MethodPut}[rand.IntN(3)]
	body := ""
	if method != http.MethodGet {
		body = randomBody(rand.IntN(20_000))
	}
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	if rand.IntN(5) == 0 {
		time.AfterFunc(time.Duration(rand.IntN(50))*time.Millisecond, leave)
	}
	var reader io.Reader
	switch {
	case body == "":
	case rand.IntN(2) == 0:
		reader = unknownLength(body)
	default:
		reader = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://api.test/", reader)
	if err != nil {
		return false, err
	}
	resp, err := p.client.Do(r)
	if err != nil {
		return false, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil || resp.StatusCode != http.StatusOK || len(text) == 0: // or it is the endpoint that hung to its end
		return false, nil
	case !strings.HasSuffix(string(text), digest(body)) || !strings.Contains("one two three", strings.Fields(string(text) + " ?")[0]):
		return false, fmt.Errorf("got %q for a body of %d bytes", text, len(body))
	}
	return true, nil
}

// TestNothingIsLeftBehindByChaos mixes endpoints that fail in every way, clients that leave at any time,
// and reloads. Each call must get a whole answer, an endpoint's own failure or a refusal. Afterwards
// nothing may be in flight, every permit must be back, and every endpoint must recover.
func TestNothingIsLeftBehindByChaos(t *testing.T) {
	apis := newAPIs(t, "one", "two", "three")
	for _, a := range apis {
		a.behave(a.misbehave)
	}
	config := func(n int) string {
		used := apis
		if n%3 == 2 {
			used = apis[:2]
		}
		return keyed(fmt.Sprintf("timeout %dms\n\tbreaker {\n\t\topen_for 300ms\n\t\topen_max 300ms\n\t\tstep 100ms\n\t}\n\tretry {\n\t\tmethods any\n\t\tsame_endpoint %d\n\t\tbackoff 1ms 5ms\n\t\tbuffer 10KB\n\t}",
			150+n%5, n%2), used...)
	}
	p := startCaddy(t, config(0))
	ctx, quit := context.WithCancel(t.Context())
	defer quit()
	var clients sync.WaitGroup
	var calls, whole atomic.Int64
	for range 12 {
		clients.Go(func() {
			for ctx.Err() == nil {
				calls.Add(1)
				ok, err := p.clumsy(t.Context())
				if err != nil {
					t.Error(err)
				}
				if ok {
					whole.Add(1)
				}
			}
		})
	}
	for n := range 12 {
		before := whole.Load()
		eventually(t, "more calls are answered well", func() bool { return whole.Load() >= before+50 })
		if err := p.load(config(n + 1)); err != nil {
			t.Errorf("reload %d: %v", n, err)
		}
		if n%4 == 3 && p.load(config(n)+"\ntest_fails") == nil {
			t.Error("loading should have failed")
		}
	}
	quit()
	clients.Wait()
	t.Logf("%d calls, %d of them answered well", calls.Load(), whole.Load())

	p.quiet()
	for _, a := range apis {
		a.behave(a.fine)
	}
	if pools := p.pools(); len(pools) != 1 || len(pools[0].Endpoints) != 3 {
		t.Errorf("the pools are %+v", pools)
	}
	eventually(t, "every endpoint has recovered", func() bool {
		p.get()
		for _, a := range apis {
			if p.one(a.name).State != "closed" {
				return false
			}
		}
		return true
	})
	eventually(t, "every attempt is accounted for", func() bool {
		for _, a := range apis {
			if n := p.one(a.name); n.InFlight != 0 || n.Attempts != n.Successes+n.Failures+n.Cancelled {
				return false
			}
		}
		return true
	})
	eventually(t, "the primary has its traffic back", func() bool {
		hits := apis[0].hits.Load()
		p.gets(20)
		return apis[0].hits.Load()-hits >= 19
	})
}
