// Package lab runs whole proxy handlers in virtual time. It provisions them from the Caddyfile or JSON;
// their endpoints are functions. Tests see what users see: answers, requests to endpoints, the admin API.
package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	failover "github.com/apifailover/caddy-failover"
)

// A lab is one provisioned proxy handler with a failover policy. Functions replace its sockets,
// so that it runs in a synctest bubble.
type lab struct {
	t       testing.TB
	id      string // of its transport
	pool    string
	since   uint64 // the newest event from before
	handler *reverseproxy.Handler
	close   context.CancelFunc

	mu       sync.Mutex
	apis     map[string]roundTrip // by host:port of the request's URL
	asked    []string             // the endpoints that were asked, in order
	underway map[string]int       // round trips
}

type roundTrip func(*http.Request) (*http.Response, error)

// labs are the open labs, by the names of their transports.
var labs sync.Map

var labCount atomic.Int64

func init() { caddy.RegisterModule(new(transport)) }

// transport is the proxy's transport "lab", which sends requests to a lab.
type transport struct {
	Lab string `json:"lab"`
}

func (*transport) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.reverse_proxy.transport.lab", New: func() caddy.Module { return new(transport) }}
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	l, ok := labs.Load(t.Lab)
	if !ok {
		return nil, errors.New("the lab is closed")
	}
	return l.(*lab).roundTrip(r)
}

// handlerJSON adapts a directive and returns the proxy handler it becomes.
func handlerJSON(t testing.TB, directive string) json.RawMessage {
	t.Helper()
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte("http:// {\n"+directive+"\n}"), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatalf("adapting: %v\n%s", err, directive)
	}
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
	if err := json.Unmarshal(adapted, &config); err != nil {
		t.Fatal(err)
	}
	for _, server := range config.Apps.HTTP.Servers {
		return server.Routes[0].Handle[0]
	}
	t.Fatal("no server")
	return nil
}

// newEmpty returns a lab without a handler. Its pool knows nothing of earlier labs, which may have left an incident open.
func newEmpty(t testing.TB, pool string) *lab {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(caddy.DefaultStorage.Path, "failover")); err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, pool: pool, id: fmt.Sprint(labCount.Add(1)), apis: make(map[string]roundTrip), underway: make(map[string]int)}
	labs.Store(l.id, l)
	l.since = newestEvent(t)
	return l
}

// openLab provisions a directive's handler, for a pool named lab. Every endpoint answers 200 until
// on changes it. The test must close the lab within the bubble.
func openLab(t testing.TB, directive string) *lab {
	t.Helper()
	return openLabJSON(t, handlerJSON(t, directive))
}

func openLabJSON(t testing.TB, config json.RawMessage) *lab {
	t.Helper()
	l := newEmpty(t, "lab")
	l.provision(config)
	return l
}

// newLab opens a lab for a policy, in a pool with the test's name, whose endpoints answer within
// 2 ms. The lab closes itself.
func newLab(t testing.TB, policy *failover.Policy, addresses ...string) *lab {
	t.Helper()
	l := newEmpty(t, t.Name())
	for _, address := range addresses {
		l.on(address, after(2*time.Millisecond, http.StatusOK))
	}
	l.use(policy, addresses)
	t.Cleanup(func() { l.close() })
	return l
}

// reload replaces the policy and keeps the endpoints.
func (l *lab) reload(policy *failover.Policy, addresses ...string) {
	l.t.Helper()
	end := l.close
	l.use(policy, addresses)
	end()
}

// use provisions a policy and makes the pool follow it.
func (l *lab) use(policy *failover.Policy, addresses []string) {
	l.t.Helper()
	policy.Name = l.pool
	var upstreams reverseproxy.UpstreamPool
	for _, address := range addresses {
		upstreams = append(upstreams, &reverseproxy.Upstream{Dial: address})
	}
	config, err := json.Marshal(map[string]any{
		"upstreams":      upstreams,
		"load_balancing": map[string]any{"selection_policy": caddyconfig.JSONModuleObject(policy, "policy", "failover", nil)},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.provision(config)
}

// provision makes the handler as Caddy does, and starts its configuration.
func (l *lab) provision(config json.RawMessage) {
	l.t.Helper()
	l.prepare(config)()
}

// prepare makes the handler as Caddy does. The function that it returns starts the handler's configuration.
func (l *lab) prepare(config json.RawMessage) (start func()) {
	l.t.Helper()
	parent, err := caddy.ProvisionContext(&caddy.Config{Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{
		"default": {BaseLog: caddy.BaseLog{WriterRaw: json.RawMessage(`{"output": "discard"}`)}},
	}}})
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(parent)
	var fields map[string]any
	if err := json.Unmarshal(config, &fields); err != nil {
		l.t.Fatal(err)
	}
	delete(fields, "handler")
	fields["transport"] = map[string]any{"protocol": "lab", "lab": l.id}
	config, err = json.Marshal(fields)
	if err != nil {
		l.t.Fatal(err)
	}
	module, err := ctx.LoadModuleByID("http.handlers.reverse_proxy", config)
	if err != nil {
		cancel()
		l.t.Fatal(err)
	}
	l.close, l.handler = cancel, module.(*reverseproxy.Handler)
	events, err := ctx.App("events")
	if err != nil {
		l.t.Fatal(err)
	}
	return func() { events.(*caddyevents.App).Emit(ctx, "started", nil) }
}

func (l *lab) roundTrip(r *http.Request) (*http.Response, error) {
	host := r.URL.Host
	l.mu.Lock()
	l.asked = append(l.asked, host)
	l.underway[host]++
	f := l.apis[host]
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.underway[host]--
		l.mu.Unlock()
	}()
	if f == nil {
		f = answers200
	}
	return f(r)
}

// openAlike opens a lab whose pool has options and n endpoints, e0, e1 and so on, in order of preference. All
// respond with f.
func openAlike(t *testing.T, n int, options string, f roundTrip) *lab {
	config := "failover {\nname lab\n" + options
	for i := range n {
		config += fmt.Sprintf("\nendpoint http://e%d", i)
	}
	l := openLab(t, config+"\n}")
	l.onAll(n, f)
	return l
}

// onAll sets how the endpoints of openAlike respond.
func (l *lab) onAll(n int, f roundTrip) {
	for i := range n {
		l.on(fmt.Sprintf("e%d:80", i), f)
	}
}

// on sets what an endpoint does from now on.
func (l *lab) on(host string, f roundTrip) {
	l.mu.Lock()
	l.apis[host] = f
	l.mu.Unlock()
}

// waitingAt returns how many round trips to an endpoint are under way.
func (l *lab) waitingAt(host string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.underway[host]
}

// takeAsked returns the endpoints that got requests since its last call.
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
	r := newRequest(ctx, method, path, reader)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	if err := l.serve(w, r); err != nil {
		// as Caddy's server answers an error
		w.Code = http.StatusInternalServerError
		if with, ok := errors.AsType[caddyhttp.HandlerError](err); ok && with.StatusCode != 0 {
			w.Code = with.StatusCode
		}
	}
	return w
}

// callInto sends a request through the handler, for a client that reads as w does.
func (l *lab) callInto(w http.ResponseWriter, method, path string, body io.Reader) {
	l.t.Helper()
	if err := l.serve(w, newRequest(context.Background(), method, path, body)); err != nil {
		l.t.Error(err)
	}
}

// newRequest returns a request as a server gets it. Unlike httptest's, it is not written and parsed, which takes
// longer than the handler.
func newRequest(ctx context.Context, method, path string, body io.Reader) *http.Request {
	r, err := http.NewRequestWithContext(ctx, method, "http://api.test"+path, body)
	if err != nil {
		panic(err)
	}
	r.RequestURI, r.RemoteAddr, r.GetBody = "http://api.test"+path, "192.0.2.1:1234", nil
	switch {
	case r.Body == nil:
		r.Body = http.NoBody
	case r.ContentLength == 0 && r.Body != http.NoBody:
		r.ContentLength = -1
	}
	return r
}

// serve runs the handler on a request.
func (l *lab) serve(w http.ResponseWriter, r *http.Request) error {
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	return l.handler.ServeHTTP(w, r, next)
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
		time.Sleep(5 * time.Millisecond)
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

// refusesConnections is an endpoint where nobody listens.
func refusesConnections(*http.Request) (*http.Response, error) {
	return nil, reverseproxy.NewDialError(errRefused)
}

var errRefused = errors.New("connection refused")

var errCut = io.ErrUnexpectedEOF

// hangs never answers.
func hangs(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// admin sends a request to the admin API and decodes the answer.
func admin(t testing.TB, method, path, body string, into any) (status int) {
	t.Helper()
	module, err := caddy.GetModule("admin.api.failover")
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(method, "http://localhost/failover/"+path, strings.NewReader(body))
	var best caddy.AdminRoute
	for _, route := range module.New().(caddy.AdminRouter).Routes() {
		exact := route.Pattern == r.URL.Path
		if prefix := strings.HasSuffix(route.Pattern, "/") && strings.HasPrefix(r.URL.Path, route.Pattern); (exact || prefix) && len(route.Pattern) > len(best.Pattern) {
			best = route
		}
	}
	w := httptest.NewRecorder()
	if err := best.Handler.ServeHTTP(w, r); err != nil {
		if with, ok := errors.AsType[caddy.APIError](err); ok {
			return with.HTTPStatus
		}
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
		t.Fatalf("%s %s: %v in %s", method, path, err, w.Body)
	}
	return w.Code
}

// totals count attempts.
type totals struct{ Attempts, Successes, Failures, Cancelled uint64 }

// status is an endpoint's status in the admin API.
type status struct {
	Name, State, Reason string
	Since, Until        time.Time
	Share, Score        float64
	Traffic             float64
	InFlight            int64    `json:"in_flight"`
	LastOutcomes        []string `json:"last_outcomes"`
	totals
	Latency *struct{ P50 float64 }
	Scopes  []scopeStatus
	Check   *struct {
		State         string
		LastResult    string    `json:"last_result"`
		LastAt        time.Time `json:"last_at"`
		Sent, Skipped uint64
	}
}

// scopeStatus is an endpoint's status for calls of one scope.
type scopeStatus struct {
	Scope, State, Reason string
	Share                float64
	HeldUntil            time.Time `json:"held_until"`
	HeldReason           string    `json:"held_reason"`
	Attempts             uint64
}

// scope returns the endpoint's status for calls of a scope; nil if the admin API does not show it.
func (e endpoint) scope(name string) *scopeStatus {
	e.l.t.Helper()
	for _, s := range e.status().Scopes {
		if s.Scope == name {
			return &s
		}
	}
	return nil
}

// An endpoint is one endpoint of a lab's pool.
type endpoint struct {
	l    *lab
	name string
}

// endpoint returns the endpoint with a name.
func (l *lab) endpoint(name string) endpoint { return endpoint{l, name} }

// status returns the endpoint's status.
func (e endpoint) status() (s status) {
	e.l.t.Helper()
	if code := admin(e.l.t, http.MethodGet, "pools/"+url.PathEscape(e.l.pool)+"/endpoints/"+url.PathEscape(e.name), "", &s); code != http.StatusOK {
		e.l.t.Fatalf("the status of %s is %d", e.name, code)
	}
	return s
}

func (e endpoint) state() string   { return e.status().State }
func (e endpoint) totals() totals  { return e.status().totals }
func (e endpoint) inFlight() int64 { return e.status().InFlight }

// order sends an operator's command.
func (e endpoint) order(action, body string) {
	e.l.t.Helper()
	var answer any
	if code := admin(e.l.t, http.MethodPost, "pools/"+url.PathEscape(e.l.pool)+"/endpoints/"+url.PathEscape(e.name)+"/"+action, body, &answer); code != http.StatusOK {
		e.l.t.Fatalf("%s %s: %d", action, e.name, code)
	}
}

// An event is an event in the admin API.
type event struct {
	ID                     uint64
	At                     time.Time
	Kind, Endpoint, Reason string
	Scope                  string
	Incident               uint64
	Details                map[string]any
}

// newestEvent returns the ID of the latest event of this process; 0 if there is none.
func newestEvent(t testing.TB) uint64 {
	var latest []event
	admin(t, http.MethodGet, "events?limit=1", "", &latest)
	if len(latest) == 0 {
		return 0
	}
	return latest[0].ID
}

// events returns the pool's events since the lab was opened, oldest first.
func (l *lab) events() (list []event) {
	l.t.Helper()
	var all []event
	admin(l.t, http.MethodGet, "events?limit=1000&since="+fmt.Sprint(l.since)+"&pool="+url.QueryEscape(l.pool), "", &all)
	return all
}

// moves returns the endpoint's changes of state since the lab was opened.
func (e endpoint) moves() (list []event) {
	for _, one := range e.l.events() {
		if one.Endpoint == e.name && strings.HasPrefix(one.Kind, "breaker_") {
			list = append(list, one)
		}
	}
	return list
}

// known returns the names of the pool's endpoints.
func (l *lab) known() (names []string) {
	l.t.Helper()
	var pool struct{ Endpoints []status }
	admin(l.t, http.MethodGet, "pools/"+url.PathEscape(l.pool), "", &pool)
	for _, e := range pool.Endpoints {
		names = append(names, e.Name)
	}
	return names
}

// These are bounds of the documentation that tests rely on.
const (
	tickEvery    = 250 * time.Millisecond // between two looks at a pool
	pollAllIn    = 250 * time.Millisecond // between trials while all endpoints are out
	watchAtMost  = 50 * time.Millisecond  // the longest delay until a timeout is noticed
	watchAtLeast = 5 * time.Millisecond
	checkSlot    = 40 * time.Millisecond
	checkedBy    = "caddy-failover health check"
)
