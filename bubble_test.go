package failover

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"
)

// A bubble is a handler with a failover policy whose clock is that of synctest:
// a proxy's loop around Select and RoundTrip, and endpoints that are functions.
type bubble struct {
	t      testing.TB
	policy *Policy
	pool   reverseproxy.UpstreamPool
	trip   http.RoundTripper
	apis   *fakes
}

// fakes answer for endpoints by their dial addresses.
type fakes struct {
	mu   sync.Mutex
	apis map[string]http.RoundTripper
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (f *fakes) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	api := f.apis[r.URL.Host]
	f.mu.Unlock()
	if api == nil {
		return nil, reverseproxy.NewDialError(errors.New("connection refused"))
	}
	return api.RoundTrip(r)
}

// behave makes an endpoint answer by a function.
func (b *bubble) behave(address string, f roundTripFunc) {
	b.apis.mu.Lock()
	b.apis.apis[address] = f
	b.apis.mu.Unlock()
}

// after answers with a status when a time has passed.
func after(d time.Duration, status int) roundTripFunc {
	return func(r *http.Request) (*http.Response, error) {
		if err := pauseFor(r.Context(), d); err != nil {
			return nil, err
		}
		return responseTo(r, status, ""), nil
	}
}

func pauseFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func responseTo(r *http.Request, status int, body string) *http.Response {
	rec := httptest.NewRecorder()
	rec.WriteHeader(status)
	_, _ = io.WriteString(rec, body)
	resp := rec.Result()
	resp.Request = r
	return resp
}

// newBubble makes a handler over the addresses of endpoints that all answer
// within 2 ms. It must run inside synctest.Test.
func newBubble(t testing.TB, policy *Policy, addresses ...string) *bubble {
	t.Helper()
	b := &bubble{t: t, policy: policy, apis: &fakes{apis: make(map[string]http.RoundTripper)}}
	for _, address := range addresses {
		b.pool = append(b.pool, &reverseproxy.Upstream{Dial: address})
		b.behave(address, after(2*time.Millisecond, http.StatusOK))
	}
	b.start()
	t.Cleanup(b.stop)
	return b
}

// start provisions the policy as Caddy would.
func (b *bubble) start() {
	p := b.policy
	handler := &reverseproxy.Handler{
		Upstreams:     b.pool,
		Transport:     b.apis,
		LoadBalancing: new(reverseproxy.LoadBalancing),
	}
	p.logger = zap.NewNop()
	p.Name = b.t.Name()
	p.setDefaults(handler)
	if err := p.Validate(); err != nil {
		b.t.Fatal(err)
	}
	if err := p.matchUpstreams(handler); err != nil {
		b.t.Fatal(err)
	}
	var err error
	if p.pool, err = loadPool(p.Name); err != nil {
		b.t.Fatal(err)
	}
	if err := p.pool.attach(p, p); err != nil {
		b.t.Fatal(err)
	}
	p.pool.mu.Lock()
	p.rebuild(time.Now())
	p.pool.mu.Unlock()
	if err := p.join(handler, caddy.Context{}); err != nil {
		b.t.Fatal(err)
	}
	b.trip = handler.Transport
	p.goLive()
}

func (b *bubble) stop() {
	if err := b.policy.Cleanup(); err != nil {
		b.t.Error(err)
	}
}

// reload lets another policy take over.
func (b *bubble) reload(policy *Policy) {
	old := b.policy
	b.policy = policy
	b.start()
	if err := old.Cleanup(); err != nil {
		b.t.Error(err)
	}
}

// state is the state of the endpoint of an address.
func (b *bubble) state(address string) *endpointState {
	b.policy.pool.mu.Lock()
	defer b.policy.pool.mu.Unlock()
	return b.policy.pool.states[endpointKey{address, address}]
}

// copyNow is what is known about an endpoint now.
func (s *endpointState) copyNow() (c struct {
	breaker breaker
	checks  checks
	lost    float64
}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.breaker, c.checks, c.lost = s.breaker, s.checks, s.scorer.lost
	return c
}

// call makes one call, as the proxy would, and returns the status the client
// sees, 0 for an error.
func (b *bubble) call(method string, body io.Reader) int {
	ctx := context.WithValue(b.t.Context(), caddyhttp.VarsCtxKey, make(map[string]any))
	ctx = context.WithValue(ctx, caddy.ReplacerCtxKey, caddy.NewReplacer())
	r, err := http.NewRequestWithContext(ctx, method, "http://api.test/", body)
	if err != nil {
		b.t.Error(err)
		return 0
	}
	for {
		upstream := b.policy.Select(b.pool, r, httptest.NewRecorder())
		if upstream == nil {
			return 0
		}
		out := r.WithContext(ctx)
		u := *r.URL
		u.Host = upstream.Dial
		out.URL = &u
		resp, err := b.trip.RoundTrip(out)
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			return resp.StatusCode
		}
		if _, again := errors.AsType[reverseproxy.DialError](err); !again {
			return 0
		}
	}
}

// stats are what the clients of a load saw.
type stats struct {
	calls, failed, slow int
	slowest             time.Duration
}

// load sends rate calls a second for a time and waits for their answers.
func (b *bubble) load(rate int, lasting time.Duration) (s stats) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range int(float64(rate) * lasting.Seconds()) {
		time.Sleep(time.Second / time.Duration(rate))
		wg.Go(func() {
			began := time.Now()
			status := b.call(http.MethodGet, nil)
			took := time.Since(began)
			mu.Lock()
			defer mu.Unlock()
			s.calls++
			if status != http.StatusOK {
				s.failed++
			}
			if took > 100*time.Millisecond {
				s.slow++
			}
			s.slowest = max(s.slowest, took)
		})
	}
	wg.Wait()
	return s
}

// within waits until a condition holds and returns how long that took.
func (b *bubble) within(most time.Duration, what string, holds func() bool) time.Duration {
	b.t.Helper()
	began := time.Now()
	for !holds() {
		if time.Since(began) > most {
			b.t.Fatalf("not within %v: %s", most, what)
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(began)
}

// inBubble runs f with a clock of its own.
func inBubble(t *testing.T, f func(t *testing.T)) { synctest.Test(t, f) }
