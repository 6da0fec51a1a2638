package failover

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/call"
	"github.com/apifailover/caddy-failover/internal/endpoint"
)

// A lab is one provisioned proxy handler with a failover policy, whose round
// trips go to functions instead of sockets, so that it runs in a synctest
// bubble.
type lab struct {
	t       testing.TB
	handler *reverseproxy.Handler
	policy  *call.Handler
	close   context.CancelFunc

	mu    sync.Mutex
	apis  map[string]roundTrip // by host:port of the request's URL
	asked []string             // the endpoints that were asked, in order
}

type roundTrip func(*http.Request) (*http.Response, error)

// handlerJSON adapts a directive and returns the proxy handler it becomes.
func handlerJSON(t testing.TB, directive string) json.RawMessage {
	t.Helper()
	var config struct {
		Apps struct {
			HTTP struct {
				Servers map[string]struct {
					Routes []struct {
						Handle []json.RawMessage `json:"handle"`
					} `json:"routes"`
				} `json:"servers"`
			} `json:"http"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(adapt(t, "http:// {\n"+directive+"\n}"), &config); err != nil {
		t.Fatal(err)
	}
	for _, server := range config.Apps.HTTP.Servers {
		return server.Routes[0].Handle[0]
	}
	t.Fatal("no server")
	return nil
}

// openLab provisions the handler of a directive. Every endpoint answers 200
// until told otherwise. The lab has to be closed within the bubble.
func openLab(t testing.TB, directive string) *lab {
	t.Helper()
	l, err := openLabJSON(t, handlerJSON(t, directive))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func openLabJSON(t testing.TB, config json.RawMessage) (*lab, error) {
	l := &lab{t: t, apis: make(map[string]roundTrip)}
	return l, l.provision(config)
}

// newLab is openLab for a policy in a pool of the test's name, over endpoints that
// all answer within 2 ms. It closes itself.
func newLab(t testing.TB, policy *Policy, addresses ...string) *lab {
	t.Helper()
	l := &lab{t: t, apis: make(map[string]roundTrip)}
	for _, address := range addresses {
		l.on(address, after(2*time.Millisecond, http.StatusOK))
	}
	l.use(policy, addresses)
	t.Cleanup(func() { l.close() })
	return l
}

// reload lets another policy over these endpoints take over.
func (l *lab) reload(policy *Policy, addresses ...string) {
	l.t.Helper()
	end := l.close
	l.use(policy, addresses)
	end()
}

// use provisions a policy, as the one that the pool runs by.
func (l *lab) use(policy *Policy, addresses []string) {
	l.t.Helper()
	policy.Name = l.t.Name()
	var upstreams reverseproxy.UpstreamPool
	for _, address := range addresses {
		upstreams = append(upstreams, &reverseproxy.Upstream{Dial: address})
	}
	config, err := json.Marshal(map[string]any{
		"upstreams":      upstreams,
		"load_balancing": map[string]any{"selection_policy": caddyconfig.JSONModuleObject(policy, "policy", "failover", nil)},
	})
	if err == nil {
		err = l.provision(config)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.policy.GoLive()
}

// provision makes the handler as Caddy would, and sends what it sends to the lab.
func (l *lab) provision(config json.RawMessage) error {
	parent, err := caddy.ProvisionContext(&caddy.Config{Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{
		"default": {BaseLog: caddy.BaseLog{WriterRaw: json.RawMessage(`{"output": "discard"}`)}},
	}}})
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(parent)
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(config, &fields); err != nil {
		l.t.Fatal(err)
	}
	delete(fields, "handler")
	config, err = json.Marshal(fields)
	if err != nil {
		l.t.Fatal(err)
	}
	module, err := ctx.LoadModuleByID("http.handlers.reverse_proxy", config)
	if err != nil {
		cancel()
		return err
	}
	l.close, l.handler = cancel, module.(*reverseproxy.Handler)
	transport := l.handler.Transport.(*call.Transport)
	l.policy = transport.Handler
	transport.RoundTripper = roundTripper(l.roundTrip)
	l.policy.Pool.Check(&l.policy.Handler, roundTripper(l.roundTrip))
	return nil
}

type roundTripper roundTrip

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (l *lab) roundTrip(r *http.Request) (*http.Response, error) {
	l.mu.Lock()
	l.asked = append(l.asked, r.URL.Host)
	f := l.apis[r.URL.Host]
	l.mu.Unlock()
	if f == nil {
		f = answers200
	}
	return f(r)
}

// on says what an endpoint does from now on.
func (l *lab) on(host string, f roundTrip) {
	l.mu.Lock()
	l.apis[host] = f
	l.mu.Unlock()
}

// takeAsked returns which endpoints were asked since it was called last.
func (l *lab) takeAsked() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	asked := l.asked
	l.asked = nil
	return asked
}

// call sends a request through the handler.
func (l *lab) call(method, path, body string, header ...string) *httptest.ResponseRecorder {
	return l.callWith(context.Background(), method, path, body, header...)
}

func (l *lab) callWith(ctx context.Context, method, path, body string, header ...string) *httptest.ResponseRecorder {
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	return l.callFrom(ctx, method, path, reader, header...)
}

func (l *lab) callFrom(ctx context.Context, method, path string, reader io.Reader, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(ctx, method, "http://api.test"+path, reader)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	if err := l.handler.ServeHTTP(w, r, next); err != nil {
		// what Caddy's server makes of an error
		w.Code = http.StatusInternalServerError
		if with, ok := errors.AsType[caddyhttp.HandlerError](err); ok && with.StatusCode != 0 {
			w.Code = with.StatusCode
		}
	}
	return w
}

// stateOf is the state of an endpoint.
func (l *lab) stateOf(name string) *endpoint.State {
	l.t.Helper()
	l.policy.Pool.Mu.Lock()
	defer l.policy.Pool.Mu.Unlock()
	for key, s := range l.policy.Pool.Members {
		if key.Name == name {
			return s.State
		}
	}
	l.t.Fatalf("no endpoint %q among %v", name, slices.Collect(maps.Keys(l.policy.Pool.Members)))
	return nil
}

// copyNow is what is known about an endpoint now.
func copyNow(s *endpoint.State) (c struct {
	breaker breaker.Breaker
	checks  endpoint.Checks
	lost    float64
}) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	c.breaker, c.checks, c.lost = s.Breaker, s.Checks, s.Scorer.Lost
	return c
}

// stats are what the clients of a load saw.
type stats struct {
	calls, failed, slow int
	slowest             time.Duration
}

// load sends rate calls a second for a time and waits for their answers.
func (l *lab) load(rate int, lasting time.Duration) (s stats) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range int(float64(rate) * lasting.Seconds()) {
		time.Sleep(time.Second / time.Duration(rate))
		wg.Go(func() {
			began := time.Now()
			status := l.call(http.MethodGet, "/", "").Code
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
func (l *lab) within(most time.Duration, what string, holds func() bool) time.Duration {
	l.t.Helper()
	began := time.Now()
	for !holds() {
		if time.Since(began) > most {
			l.t.Fatalf("not within %v: %s", most, what)
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(began)
}

// respond makes an answer.
func respond(r *http.Request, status int, body string, header ...string) *http.Response {
	resp := &http.Response{
		StatusCode:    status,
		Status:        fmt.Sprintf("%d %s", status, http.StatusText(status)),
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        make(http.Header),
		Body:          io.NopCloser(bytes.NewReader([]byte(body))),
		ContentLength: int64(len(body)),
		Request:       r,
	}
	for i := 0; i+1 < len(header); i += 2 {
		resp.Header.Set(header[i], header[i+1])
	}
	return resp
}

// after answers with a status when a time has passed.
func after(d time.Duration, status int) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		if err := pauseFor(r.Context(), d); err != nil {
			return nil, err
		}
		return respond(r, status, ""), nil
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

// answersWith answers with a status.
func answersWith(status int, header ...string) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		if r.Body != nil {
			_, _ = io.Copy(io.Discard, r.Body)
			r.Body.Close()
		}
		return respond(r, status, http.StatusText(status), header...), nil
	}
}

var answers200 = answersWith(http.StatusOK)

// refusesConnections is an endpoint nobody listens at.
func refusesConnections(*http.Request) (*http.Response, error) {
	return nil, reverseproxy.NewDialError(errRefused)
}

var errRefused = errors.New("connection refused")

// hangs never answers.
func hangs(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}
