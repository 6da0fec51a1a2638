// Package failover lets Caddy's reverse proxy keep serving when upstreams fail. It is a
// selection policy of the stock reverse_proxy handler, and also takes the result of every
// attempt.
//
// A Policy is the configuration of one handler. The state of its endpoints belongs to a pool, which
// has a name and outlives configurations. See docs/architecture.md.
package failover

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/apifailover/caddy-failover/internal/call"
	_ "github.com/apifailover/caddy-failover/internal/command"
	"github.com/apifailover/caddy-failover/internal/memory"
	"github.com/apifailover/caddy-failover/internal/ops"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/pool"
	"github.com/apifailover/caddy-failover/internal/target"
)

func init() { caddy.RegisterModule(new(Policy)) }

// Policy is a selection policy of reverse_proxy. It selects endpoints by priority, weight and
// recent results, and sends requests that fail to the next best endpoint. Each endpoint has its
// own circuit breaker, which recovers progressively.
type Policy struct {
	// The name of the pool. The pool's state survives reloads, and all handlers with the same name
	// share it. Default: the name of the first endpoint.
	Name string `json:"name,omitempty"`

	// The endpoints that need more than the defaults. Upstreams of the handler that are not in
	// this list are endpoints too. Default: none.
	Endpoints []*Endpoint `json:"endpoints,omitempty"`

	// The API that the endpoints speak: `openai` (and compatible APIs), `anthropic`, `gemini`,
	// `jsonrpc` or `grpc`. It sets how `keys` are sent, where requests name their model, what responses
	// mean, `commit` (`first_event`, `complete` for `jsonrpc`) and the retry block's `methods`
	// (`any`; `grpc` leaves both as they are). Explicit options override it. See docs/llm.md. Default: none.
	API string `json:"api,omitempty"`

	// Whose credentials or quota a 401, 402, 403 or 429 is about: `endpoint` (it counts against
	// the endpoint, and the request moves on) or `client` (it is a response like any other).
	// Default: `endpoint` for endpoints with their own credentials, else `client`.
	Quota string `json:"quota,omitempty"`

	// Whether endpoints get the credentials that clients send in headers, trailers, the query
	// and WebSocket protocol names: `strip` sends them to no endpoint, `pass` sends them to
	// endpoints without their own credentials. docs/configuration.md lists what counts as a
	// credential. Default: `strip` if any endpoint has its own credentials, else `pass`.
	ClientCredentials string `json:"client_credentials,omitempty"`

	// How the endpoints of a tier share the load: `weighted` (by weight), `least_latency` (of two
	// endpoints drawn by weight, the one with the shorter expected wait) or `least_requests` (of
	// two endpoints drawn by weight, the one with fewer requests in flight relative to its
	// weight). Default: `weighted`.
	Balance string `json:"balance,omitempty"`

	// Which requests go to the same endpoint of a tier. The first entry that has a value for a
	// request counts. `balance` spreads requests for which no entry has a value. Default: none.
	Affinity []*Affinity `json:"affinity,omitempty"`

	// The kind of a request, such as the model that it asks for. Failures of one kind (statuses that
	// count as failures, timeouts, broken connections, 429, slowness) keep only requests of that
	// kind from the endpoint. Failed connections and refused credentials keep all requests from it.
	// Default: what `api` says (the model or the method), else none.
	Scope *Scope `json:"scope,omitempty"`

	// How early a tier passes load to the next one. 0: the tier takes
	// max(available) of the load. A factor F of 1 or more: it takes
	// min(1, F·Σ(available·weight)/Σ(weight)) of the load. The rest goes to the next tier.
	// `available` is how much of its normal traffic an endpoint may have, 0 to 1. Default: 0.
	Overflow float64 `json:"overflow,omitempty"`

	// What happens to requests while every endpoint is out: `fail_fast` (they get a 503 at once,
	// or a 429 if all endpoints are in cooldown, with Retry-After), `try_anyway` (they go to the
	// endpoint that is due first) or `wait` (they wait for an endpoint). Default: `fail_fast`.
	AllDown string `json:"all_down,omitempty"`

	// How long, and how many, requests wait with `"all_down": "wait"`. Default: requests do not wait.
	Wait *Wait `json:"wait,omitempty"`

	// The longest time from the start of an attempt to the first byte that `commit` waits for.
	// Time spent waiting for the client's own body does not count, and each part of the body
	// that the endpoint takes restarts the clock. Default: 60s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// Timeouts for certain requests. The first match overrides `timeout`. Default: none.
	Timeouts []*Timeout `json:"timeouts,omitempty"`

	// The longest silence inside a response body. A response that is silent for longer has
	// failed. Default: no limit, but `timeout` while `commit` holds the response back.
	IdleTimeout caddy.Duration `json:"idle_timeout,omitempty"`

	// How much of the response must arrive before Caddy sends any of it. Until then a request
	// can still move to another endpoint. Default: what `api` sets, else the headers.
	Commit *Commit `json:"commit,omitempty"`

	// Statuses that count as failures of the endpoint: codes (`500`), classes (`5xx`) and ranges
	// (`520-529`). Default: 500, 502, 503, 504 and 520-529.
	FailureStatus []string `json:"failure_status,omitempty"`

	// What certain responses mean, regardless of their status. These rules come before those of
	// `api`. Default: none.
	Answers []*Answer `json:"answers,omitempty"`

	// Responses after which the request moves to another endpoint, without blaming this one.
	// Default: none.
	NextOn []*NextOn `json:"next_on,omitempty"`

	// Whether a stream of server-sent events that breaks after the client got its beginning
	// ends with an event named `error`, whose data is a JSON error. Default: false.
	StreamError bool `json:"stream_error,omitempty"`

	// The part of the retryable requests, 0 to 1, whose first attempt goes to a lower tier. It
	// shows whether the endpoints in reserve work. Default: 0.
	StandbyShare float64 `json:"standby_share,omitempty"`

	// The circuit breaker of each endpoint. Default: on, with the defaults of its fields.
	Breaker *Breaker `json:"breaker,omitempty"`

	// The health checks of the endpoints. Default: none, except for endpoints with their own.
	Health *Health `json:"health,omitempty"`

	// How failed requests are retried. Default: on, with the defaults of its fields.
	Retry *Retry `json:"retry,omitempty"`

	// The objectives of the pool. A pool with this block keeps its history in Caddy's storage,
	// even if the block is empty. Default: no objectives, and no history in the storage.
	SLA *SLA `json:"sla,omitempty"`

	// The place of the policy in a Caddyfile. Only error messages use it. Default: none.
	DefinedAt string `json:"defined_at,omitempty"`

	copies       map[*reverseproxy.Upstream]bool   // upstreams for the second and further keys of endpoints
	urls         map[*reverseproxy.Upstream]string // base URLs of upstreams whose address had a placeholder
	handler      *call.Handler                     // set by Provision
	source       *EventSource
	ownTransport *reverseproxy.HTTPTransport
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
	return placed(p.DefinedAt, p.provision(ctx))
}

func (p *Policy) provision(ctx caddy.Context) error {
	p.handler = new(call.Handler)
	p.handler.Logger = ctx.Logger()
	handler, err := parentHandler(ctx)
	if err != nil {
		return err
	}
	if err := p.resolve(handler); err != nil {
		return err
	}
	p.setDefaults()
	if err := p.spreadKeys(handler); err != nil {
		return err
	}
	if err := p.Validate(); err != nil {
		return err
	}
	if err := p.checkValues(); err != nil {
		return err
	}
	plain, err := p.checkSchemes(handler)
	if err != nil {
		return err
	}
	p.readRules(handler)
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
	if err := p.checkChecks(handler); err != nil {
		return err
	}
	if p.Name == "" {
		p.Name = p.defaultName()
	}
	p.warn(plain)
	p.warnOfPorts()
	p.warnOfTimes()
	p.warnOfChecks()
	p.warnOfEmptyRoutes(handler)
	p.describePool()
	memory.SetDefault()
	if err := p.subscribe(ctx); err != nil {
		return err
	}
	if err := p.attach(ctx); err != nil {
		return err
	}
	return p.join(handler, ctx)
}

// subscribe makes the policy a source of Caddy's events, and handles the start and the stop of its
// configuration.
func (p *Policy) subscribe(ctx caddy.Context) (err error) {
	if p.source, err = newEventSource(ctx); err != nil {
		return err
	}
	p.handler.Source = p.source
	if err := p.source.app.On("started", startHandler{p}); err != nil {
		return fmt.Errorf("subscribing to the start: %w", err)
	}
	if err := p.source.app.On("stopping", stopHandler{p}); err != nil {
		return fmt.Errorf("subscribing to the stop: %w", err)
	}
	return nil
}

// attach acquires the pool, attaches the handler to it, and builds the handler's first tables. Cleanup
// releases the pool.
func (p *Policy) attach(ctx caddy.Context) (err error) {
	h := p.handler
	h.Pool, err = pool.Load(p.Name)
	if err != nil {
		return fmt.Errorf("loading pool %q: %w", p.Name, err)
	}
	if err := h.Pool.Attach(&h.Handler, ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	if err := ops.RegisterMetrics(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	h.Pool.Mu.Lock()
	defer h.Pool.Mu.Unlock()
	h.Rebuild(time.Now())
	return nil
}

// parentHandler finds the proxy that this policy belongs to.
func parentHandler(ctx caddy.Context) (*reverseproxy.Handler, error) {
	modules := ctx.Modules()
	for i := len(modules) - 1; i >= 0; i-- {
		handler, ok := modules[i].(*reverseproxy.Handler)
		if !ok {
			continue
		}
		if i+2 < len(modules) { // the last module is this policy, and another one is between it and the proxy
			return nil, fallbackError(modules[i+1].CaddyModule().ID.Name())
		}
		return handler, nil
	}
	return nil, errors.New("the failover policy works only in a reverse_proxy handler")
}

// fallbackError returns the error of a failover policy that is the fallback of another policy.
func fallbackError(policy string) error {
	advice := map[string]string{
		"cookie": "affinity cookie", "header": "affinity {header.<field>}", "query": "affinity {query.<key>}",
		"ip_hash": "affinity client_ip", "client_ip_hash": "affinity client_ip",
	}[policy]
	if advice == "" {
		advice = "affinity"
	}
	return fmt.Errorf("failover is the fallback of lb_policy %s, which chooses endpoints itself and moves no failed request: "+
		"write lb_policy failover instead, with %s in its block to keep requests together", policy, advice)
}

// setDefaults sets the defaults of the timeout, the failure statuses, and the addresses and names of
// endpoints.
func (p *Policy) setDefaults() {
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
}

// readRules converts the options, which must be valid, to the handler's rules for requests.
func (p *Policy) readRules(handler *reverseproxy.Handler) {
	h := p.handler
	h.Retry, h.Commit, h.Idle = p.retryRules(), p.commitRules(), time.Duration(p.IdleTimeout)
	h.Failure, _ = outcome.ParseStatusSet(p.FailureStatus)
	h.Answers, _ = p.answerRules()
	h.API = p.dialect()
	h.Tokens, h.Quotas = p.tokenRules(), p.quotaFields()
	h.Looks = h.Answers != nil && h.Answers.Look || h.Tokens != nil
	h.Reads = h.Tokens != nil
	h.ErrorEvent = p.StreamError
	switch p.Balance {
	case balanceLeastLatency:
		h.Balance = call.ByLatency
	case balanceLeastRequests:
		h.Balance = call.ByRequests
	}
	for _, a := range p.Affinity {
		h.Rules.Affinity = append(h.Rules.Affinity, a.source())
		h.Reads = h.Reads || a.By == affinityJSON
	}
	h.Keyed = len(p.Affinity) > 0
	if scope := p.scope(); scope != nil {
		h.Rules.Scope, h.ScopedBy = scope.source(), scope.By+" "+scope.Value
		h.Reads = h.Reads || scope.By == scopeJSON
	}
	h.Scheduled = slices.ContainsFunc(p.Endpoints, func(e *Endpoint) bool { return len(e.Schedules) > 0 })
	h.TryAnyway = p.AllDown == allDownTryAnyway
	h.Overflow, h.StandbyShare = p.Overflow, p.StandbyShare
	if handler.DynamicUpstreamsRaw != nil {
		h.Dynamic = &pool.DynamicTargets{Known: make(map[string]*target.Target)}
	}
}

// describePool sets the handler's settings for its pool. The name of the pool must be set.
func (p *Policy) describePool() {
	h := p.handler
	h.Name, h.Terms = p.Name, p
	h.NewTarget = func(address string) *target.Target { return p.newTarget(p.endpointAt(address), 1) }
	h.Longest = p.longestTimeout()
	if p.Breaker != nil {
		h.Breaker = p.Breaker.config(h.Longest)
	}
	if p.SLA != nil {
		objective := p.SLA.objective()
		h.Objective = &objective
	}
	h.Checks, h.SaysCheck, h.HasChecks = p.Health.checkConfig, p.Health != nil, p.hasChecks()
}

// hasChecks reports whether any endpoint is checked.
func (p *Policy) hasChecks() bool {
	return p.Health != nil && !p.Health.Off || slices.ContainsFunc(p.Endpoints, func(e *Endpoint) bool {
		return e.Health != nil && !e.Health.Off
	})
}

// setFields returns the header fields that endpoints set.
func (p *Policy) setFields() (fields []string) {
	for _, e := range p.Endpoints {
		if e.Headers == nil {
			continue
		}
		for _, set := range []http.Header{e.Headers.Set, e.Headers.Add} {
			fields = slices.AppendSeq(fields, maps.Keys(set))
		}
	}
	return fields
}

// checkValues calls Endpoint.checkValues for all endpoints, and checks the values of health checks.
func (p *Policy) checkValues() error {
	for _, e := range p.Endpoints {
		if err := e.checkValues(); err != nil {
			return e.wrap(err)
		}
	}
	for _, a := range p.Affinity {
		if _, err := expand(a.Secret); err != nil {
			return fmt.Errorf("affinity %s: secret: %w", affinityCookie, err)
		}
	}
	if p.Health == nil {
		return nil
	}
	if err := checkFields(p.Health.Headers); err != nil {
		return fmt.Errorf("health: %w", err)
	}
	if _, err := expand(p.Health.Body); err != nil {
		return fmt.Errorf("health: body: %w", err)
	}
	return nil
}

// isDirective reports whether the policy belongs to a failover directive.
func (p *Policy) isDirective() bool { return strings.HasSuffix(p.DefinedAt, asDirective) }

// asDirective is the end of DefinedAt if the policy belongs to a failover directive.
const asDirective = " failover directive"

// warn logs allowed options that have no effect, and assumptions. plain are the addresses that get
// plain HTTP because they have no scheme.
func (p *Policy) warn(plain []string) {
	for _, address := range plain {
		if strings.HasPrefix(address, ":") {
			address = "localhost" + address
		}
		p.handler.Logger.Warn("an endpoint has no scheme: using http; write http:// or https:// before it",
			zap.String("pool", p.Name), zap.String("endpoint", address), zap.String("taken", "http://"+withoutPort(address)))
	}
	if len(p.handler.Targets) > 0 && !slices.ContainsFunc(p.handler.Targets, func(t *target.Target) bool { return t.Weight > 0 }) {
		p.handler.Logger.Warn("no endpoint gets requests: every weight is 0", zap.String("pool", p.Name))
	}
	for i, t := range p.handler.Targets {
		alone := !slices.ContainsFunc(p.handler.Targets, func(other *target.Target) bool {
			return other != t && other.Priority == t.Priority
		})
		if alone && t.Weight != 1 && t.Weight != 0 {
			p.handler.Logger.Warn("a weight has no effect: the endpoint is alone in its tier",
				zap.String("pool", p.Name), zap.String("endpoint", p.handler.Targets[i].Name), zap.Int("priority", t.Priority))
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
	inner := handler.Transport
	wrapped := call.NewTransport(inner, p.handler) // changes the proxy's own transport, so before checks use it
	p.handler.Pool.Check(&p.handler.Handler, inner)
	p.handler.Plain = !wrapped.TLSEnabled()
	p.handler.Reach = p.reach(handler, inner)
	handler.Transport = wrapped
	p.handler.Handles = len(handler.HandleResponse) > 0
	return p.takeOver(handler.LoadBalancing, ctx)
}

// longestTimeout returns the longest timeout of any attempt.
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

// Cleanup implements caddy.CleanerUpper.
func (p *Policy) Cleanup() error {
	if p.ownTransport != nil {
		_ = p.ownTransport.Cleanup()
	}
	if p.handler == nil || p.handler.Pool == nil {
		return nil
	}
	p.handler.Pool.Detach(&p.handler.Handler)
	_, err := pool.Pools.Delete(p.Name)
	return err
}

var (
	_ caddy.Provisioner     = (*Policy)(nil)
	_ caddy.Validator       = (*Policy)(nil)
	_ caddy.CleanerUpper    = (*Policy)(nil)
	_ reverseproxy.Selector = (*Policy)(nil)
	_ caddyfile.Unmarshaler = (*Policy)(nil)
)
