// Package failover teaches Caddy's reverse proxy to keep an API answering when
// the endpoints behind it do not. It is a selection policy of the stock
// reverse_proxy handler that also watches what becomes of every attempt.
//
// A Policy is one handler's configuration; the state of its endpoints lives in
// a pool, by name, and outlives configurations. See docs/architecture.md.
package failover

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	_ "github.com/apifailover/caddy-failover/internal/command"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

func init() { caddy.RegisterModule(new(Policy)) }

// Policy selects endpoints by priority, weight and how they have been doing,
// and moves calls that fail to the next best endpoint. Each endpoint has a
// circuit breaker of its own, which recovers progressively.
type Policy struct {
	// The pool's name: the key of its state, which is kept over reloads and
	// shared by all handlers that use the name. Default: the name of the first
	// endpoint.
	Name string `json:"name,omitempty"`

	// The endpoints that need more than the defaults. Upstreams of the handler
	// that are not among them are endpoints too.
	Endpoints []*Endpoint `json:"endpoints,omitempty"`

	// Whose quota a 401, 402, 403 or 429 speaks of: `endpoint` or `client`.
	// Default: `endpoint` for endpoints with credentials of their own, else
	// `client`.
	Quota string `json:"quota,omitempty"`

	// What becomes of the client's Authorization, Api-Key, X-Api-Key,
	// X-Goog-Api-Key, Proxy-Authorization and Cookie: `strip` sends them to no
	// endpoint, `pass` to those without credentials of their own. Default:
	// `strip` where any endpoint has its own, else `pass`.
	ClientCredentials string `json:"client_credentials,omitempty"`

	// How a tier's endpoints share the load: `weighted`, or `least_latency` (the
	// better of two drawn by weight). Default: `weighted`.
	Balance string `json:"balance,omitempty"`

	// How early a tier gives load to the next: 0 is strict (it gives what its
	// best endpoint cannot have), a factor F of 1 or more gives away what is
	// above F times its healthy part. Default: 0.
	Overflow float64 `json:"overflow,omitempty"`

	// What to do while every endpoint is out: `fail_fast` (503 at once, or 429
	// where all have asked to wait, with Retry-After) or `try_anyway` (the one
	// that is due first). Default: `fail_fast`.
	AllDown string `json:"all_down,omitempty"`

	// The longest wait from the start of an attempt to the first byte of its
	// answer. Time spent waiting for the client's own body does not count.
	// Default: 60s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// Timeouts of certain requests; the first that matches comes before
	// `timeout`.
	Timeouts []*Timeout `json:"timeouts,omitempty"`

	// The longest silence inside a response body, before and after anything of it
	// has gone to the client: an answer that stops coming for longer is given up.
	// Default: none, but while an answer is held back (`commit`) the timeout.
	IdleTimeout caddy.Duration `json:"idle_timeout,omitempty"`

	// What must have come from an endpoint before the client gets anything of it.
	// Default: the headers.
	Commit *Commit `json:"commit,omitempty"`

	// Statuses that count as failures of the endpoint: codes, classes (5xx) and
	// ranges (520-529). Default: 500, 502, 503, 504 and 520-529.
	FailureStatus []string `json:"failure_status,omitempty"`

	// Answers that another endpoint may do better on. Default: none.
	NextOn []*NextOn `json:"next_on,omitempty"`

	// Ends a stream of server-sent events that breaks on the way to the client with
	// an event of the name `error`, whose data is a JSON error. Default: false.
	StreamError bool `json:"stream_error,omitempty"`

	// The part of the calls that may be sent again, 0 to 1, whose first attempt
	// goes to a tier below the one that serves, so that it is known how endpoints
	// in reserve are doing. Default: 0.
	StandbyShare float64 `json:"standby_share,omitempty"`

	// The circuit breaker of each endpoint.
	Breaker *Breaker `json:"breaker,omitempty"`

	// Checks of the endpoints. Default: none, but of endpoints that have their own.
	Health *Health `json:"health,omitempty"`

	// What happens to calls that fail.
	Retry *Retry `json:"retry,omitempty"`

	// What the pool is to achieve, and whether its history is kept.
	SLA *SLA `json:"sla,omitempty"`

	// what each call looks at, close together
	pool       *pool
	generation *generation
	table      atomic.Pointer[routes]
	dynamic    *dynamicTargets // nil for static upstreams
	failure    *outcome.StatusSet
	nextOn     []nextRule
	idle       time.Duration // IdleTimeout
	commit     commitRules
	least      bool // Balance is least_latency
	errorEvent bool // StreamError
	edits      bool // some endpoint has bodies edited
	looks      bool // some of nextOn look at bodies
	below      bool // some endpoint has a base URL with a path
	plain      bool // the proxy's transport does not do TLS unless a URL says so
	strips     bool // some endpoint does not get the client's credentials
	stripsAll  bool // no endpoint does
	rematches  bool // the proxy may throw an answer away and ask again
	hasQuotas  bool // some endpoint may ask to wait or deny us
	retry      retryRules

	logger       *zap.Logger
	source       *EventSource
	targets      []*target // sorted by priority; guarded by pool.mu once attached
	ownTransport *reverseproxy.HTTPTransport
	probes       http.RoundTripper // for checks; guarded by pool.mu
}

// CaddyModule implements caddy.Module.
func (*Policy) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.reverse_proxy.selection_policies.failover",
		New: func() caddy.Module { return new(Policy) },
	}
}

// Provision implements caddy.Provisioner.
func (p *Policy) Provision(ctx caddy.Context) error {
	p.logger = ctx.Logger()
	handler, err := parentHandler(ctx)
	if err != nil {
		return err
	}
	p.setDefaults(handler)
	if err := p.Validate(); err != nil {
		return err
	}
	for _, e := range p.Endpoints {
		if err := e.provision(ctx); err != nil {
			return err
		}
	}
	if err := provisionTimeouts(ctx, p.Timeouts); err != nil {
		return err
	}
	if err := p.matchUpstreams(handler); err != nil {
		return err
	}
	if p.Name == "" {
		p.Name = p.defaultName()
	}
	p.warn()
	defaultMemory()
	if p.source, err = newEventSource(ctx); err != nil {
		return err
	}
	if err := p.source.app.On("started", startHandler{p}); err != nil {
		return fmt.Errorf("subscribing to the start: %w", err)
	}
	if err := p.source.app.On("stopping", stopHandler{p}); err != nil {
		return fmt.Errorf("subscribing to the stop: %w", err)
	}
	p.pool, err = loadPool(p.Name)
	if err != nil {
		return fmt.Errorf("loading pool %q: %w", p.Name, err)
	}
	if err := p.pool.attach(p, ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	if err := registerMetrics(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	p.pool.mu.Lock()
	p.rebuild(time.Now())
	p.pool.mu.Unlock()
	return p.join(handler, ctx)
}

// parentHandler finds the proxy that this policy belongs to.
func parentHandler(ctx caddy.Context) (*reverseproxy.Handler, error) {
	modules := ctx.Modules()
	for i := len(modules) - 1; i >= 0; i-- {
		if handler, ok := modules[i].(*reverseproxy.Handler); ok {
			return handler, nil
		}
	}
	return nil, errors.New("the failover policy works in a reverse_proxy handler only")
}

// setDefaults fills in what the configuration leaves open.
func (p *Policy) setDefaults(handler *reverseproxy.Handler) {
	p.Timeout = cmp.Or(p.Timeout, caddy.Duration(defaultTimeout))
	if len(p.FailureStatus) == 0 {
		p.FailureStatus = outcome.DefaultFailureStatus
	}
	for _, e := range p.Endpoints {
		if e.Upstream == "" && e.URL != "" {
			if u, err := parseBaseURL(e.URL); err == nil {
				e.Upstream = dialAddress(u)
			}
		}
		e.Name = cmp.Or(e.Name, e.Upstream)
	}
	if handler.DynamicUpstreamsRaw != nil {
		p.dynamic = &dynamicTargets{known: make(map[string]*target)}
	}
	p.retry, p.commit, p.idle = p.Retry.rules(), p.Commit.rules(), time.Duration(p.IdleTimeout)
	p.least, p.errorEvent = p.Balance == balanceLeastLatency, p.StreamError
}

// matchUpstreams makes a target of every upstream of the handler, in order, with
// the configuration of the endpoint of that address, if there is one.
func (p *Policy) matchUpstreams(handler *reverseproxy.Handler) error {
	free := slices.Clone(p.Endpoints)
	names := make(map[string]bool)
	hosts := make(map[string]string)
	for i, upstream := range handler.Upstreams {
		e := &Endpoint{Name: upstream.Dial, Upstream: upstream.Dial}
		if at := slices.IndexFunc(free, func(e *Endpoint) bool { return e.Upstream == upstream.Dial }); at >= 0 {
			e = free[at]
			free = slices.Delete(free, at, at+1)
		}
		if names[e.Name] {
			return fmt.Errorf("%s: the name is used twice", e.at())
		}
		names[e.Name] = true
		t := p.newTarget(e, i+1)
		t.upstream = upstream
		if t.url != nil && t.url.Scheme == "https" {
			// TLS connections are pooled by the URL's host
			if other, ok := hosts[t.url.Host]; ok && other != t.address {
				return fmt.Errorf("%s: %s is also dialed at %s; one TLS host has one address",
					e.at(), t.url.Host, other)
			}
			hosts[t.url.Host] = t.address
		}
		p.targets = append(p.targets, t)
	}
	if p.dynamic == nil && len(free) > 0 {
		return fmt.Errorf("%s: no upstream of the proxy has the address %s", free[0].at(), free[0].Upstream)
	}
	slices.SortStableFunc(p.targets, func(a, b *target) int { return cmp.Compare(a.priority, b.priority) })
	for _, t := range p.targets {
		p.strips = p.strips || t.strip
		p.hasQuotas = p.hasQuotas || t.quota
	}
	for _, e := range p.Endpoints {
		p.edits = p.edits || len(e.SetJSON) > 0
		p.below = p.below || e.below()
		p.strips = p.strips || e.ownCredentials() || p.ClientCredentials == credentialsStrip
	}
	p.stripsAll = p.strips && p.ClientCredentials != credentialsPass
	if p.dynamic != nil {
		for _, e := range append(slices.Clone(p.Endpoints), new(Endpoint)) {
			p.hasQuotas = p.hasQuotas || p.newTarget(e, 1).quota
		}
		// a fallback to static upstreams goes by address as well
		p.targets = nil
	}
	return nil
}

func (p *Policy) defaultName() string {
	switch {
	case len(p.targets) > 0:
		first := p.targets[0]
		for _, t := range p.targets {
			if t.upstream != nil && len(p.Endpoints) > 0 && t.name == p.Endpoints[0].Name {
				first = t
			}
		}
		return first.name
	case len(p.Endpoints) > 0:
		return p.Endpoints[0].Name
	}
	return "dynamic"
}

// warn says what is allowed but cannot be meant.
func (p *Policy) warn() {
	for i, t := range p.targets {
		alone := !slices.ContainsFunc(p.targets, func(other *target) bool {
			return other != t && other.priority == t.priority
		})
		if alone && t.weight != 1 && t.weight != 0 {
			p.logger.Warn("a weight has no effect: the endpoint is alone in its tier",
				zap.String("pool", p.Name), zap.String("endpoint", p.targets[i].name), zap.Int("priority", t.priority))
		}
	}
}

// join puts the policy between the proxy and its transport, and takes over the
// proxy's retries.
func (p *Policy) join(handler *reverseproxy.Handler, ctx caddy.Context) error {
	if handler.Transport == nil {
		p.ownTransport = new(reverseproxy.HTTPTransport)
		if err := p.ownTransport.Provision(ctx); err != nil {
			return fmt.Errorf("provisioning default transport: %w", err)
		}
		handler.Transport = p.ownTransport
	}
	p.pool.check(p, handler.Transport)
	wrapped := newTransport(handler.Transport, p)
	p.plain = !wrapped.TLSEnabled()
	handler.Transport = wrapped
	lb := handler.LoadBalancing
	p.rematches = len(lb.RetryMatchRaw) > 0
	if lb.Retries > 0 && p.Retry == nil {
		p.retry.attempts = lb.Retries + 1
	} else if lb.Retries > 0 {
		p.retry.attempts = min(p.retry.attempts, lb.Retries+1)
	}
	if lb.TryDuration > 0 && p.retry.deadline == 0 {
		p.retry.noneAfter = time.Duration(lb.TryDuration)
		if lb.Retries == 0 && p.Retry == nil {
			p.retry.attempts = max(p.retry.attempts, len(p.targets))
		}
	}
	p.retry.attempts = min(p.retry.attempts, maxAttempts)
	lb.Retries, lb.TryDuration, lb.TryInterval = p.retry.attempts-1, 0, 0
	return nil
}

// longestTimeout is that of the slowest attempt.
func (p *Policy) longestTimeout() time.Duration {
	longest := p.Timeout
	for _, t := range p.Timeouts {
		longest = max(longest, t.Timeout)
	}
	for _, e := range p.Endpoints {
		longest = max(longest, e.Timeout)
		for _, t := range e.Timeouts {
			longest = max(longest, t.Timeout)
		}
	}
	return time.Duration(longest)
}

// where names the handler in an error message.
func (p *Policy) where() string {
	if len(p.Endpoints) > 0 {
		return p.Endpoints[0].at()
	}
	if len(p.targets) > 0 {
		return p.targets[0].name
	}
	return "dynamic upstreams"
}

// Cleanup implements caddy.CleanerUpper.
func (p *Policy) Cleanup() error {
	if p.ownTransport != nil {
		_ = p.ownTransport.Cleanup()
	}
	if p.pool == nil {
		return nil
	}
	p.pool.detach(p)
	_, err := pools.Delete(p.Name)
	return err
}

var (
	_ caddy.Provisioner     = (*Policy)(nil)
	_ caddy.Validator       = (*Policy)(nil)
	_ caddy.CleanerUpper    = (*Policy)(nil)
	_ reverseproxy.Selector = (*Policy)(nil)
	_ caddyfile.Unmarshaler = (*Policy)(nil)
	_ http.RoundTripper     = (*transport)(nil)
)
