package failover

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/target"
)

// Health configures the health checks of a pool's endpoints. A check is one request, sent through
// the proxy's transport with the endpoint's URL, Host and credentials. Checks do not follow
// redirects.
type Health struct {
	// Whether the checks are off. Default: false.
	Off bool `json:"off,omitempty"`

	// The path to request, with a query if needed; it is appended to the endpoint's base URL.
	// Default: none; checks request the base URL, and any status under 500 except 429 passes.
	URI string `json:"uri,omitempty"`

	// The method of the check. If an endpoint refuses HEAD (405, 501, or another 4xx while GET
	// passes), further checks use GET. Default: HEAD, or GET with `expect_body`.
	Method string `json:"method,omitempty"`

	// The port of the check, 1 to 65535. Default: the port of the requests.
	Port int `json:"port,omitempty"`

	// The time between checks of a healthy endpoint, ± 10 %. A check is skipped if 10 or more
	// requests have succeeded since the last check, and none has failed. Default: 30s.
	Interval caddy.Duration `json:"interval,omitempty"`

	// The time between checks while the result is undecided, and while the endpoint recovers.
	// While the endpoint is out, the time grows from this to `interval`. Default: 2s.
	FastInterval caddy.Duration `json:"fast_interval,omitempty"`

	// The longest duration of a check. Default: 5s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// The number of checks in a row that must pass before the endpoint counts as up. Default: 2.
	Passes int `json:"passes,omitempty"`

	// The number of checks in a row that must fail before the endpoint counts as down. Default: 2.
	Fails int `json:"fails,omitempty"`

	// Statuses that pass: codes (`200`), classes (`2xx`) and ranges (`200-204`). Default: 2xx and
	// 3xx, if there is a `uri`.
	ExpectStatus []string `json:"expect_status,omitempty"`

	// A regular expression that the first 64 KiB of the response's body must match.
	// Default: any body.
	ExpectBody string `json:"expect_body,omitempty"`

	// Header fields of the check, besides those that the endpoint sets. Values may contain
	// placeholders. Default: none.
	Headers http.Header `json:"headers,omitempty"`

	// The body of the check. Default: none.
	Body string `json:"body,omitempty"`

	// Makes the check a call of grpc.health.v1.Health/Check; SERVING passes. The proxy's transport
	// must speak HTTP/2: over TLS, or with h2c. It cannot be combined with `uri`, `method`,
	// `expect_status`, `expect_body` or `body`. Default: none.
	GRPC *GRPCHealth `json:"grpc,omitempty"`
}

// GRPCHealth is a health check of a gRPC server.
type GRPCHealth struct {
	// The service to check. Default: the whole server.
	Service string `json:"service,omitempty"`
}

func (g *GRPCHealth) validate() error {
	if g != nil && len(g.Service) > longestService {
		return fmt.Errorf("health: grpc: the service's name is longer than %d bytes", longestService)
	}
	return nil
}

// longestService is the largest length of a service's name, in bytes.
const longestService = 1024

// EndpointHealth sets how the health checks of one endpoint differ from its pool's.
type EndpointHealth struct {
	// Whether the endpoint is not checked. Default: false.
	Off bool `json:"off,omitempty"`

	// The method of the check. Default: the pool's.
	Method string `json:"method,omitempty"`

	// The path to request. Default: the pool's.
	URI string `json:"uri,omitempty"`

	// A gRPC check instead of the pool's check. Default: the pool's, unless the endpoint has a
	// `method` or a `uri`.
	GRPC *GRPCHealth `json:"grpc,omitempty"`
}

func (h *Health) validate() error {
	if h == nil {
		return nil
	}
	if err := offAlone("health", h.Off, h, &Health{Off: true}); err != nil {
		return err
	}
	if err := validateAsk(h.Method, h.URI); err != nil {
		return err
	}
	if err := h.GRPC.validate(); err != nil {
		return err
	}
	switch {
	case h.GRPC != nil && (h.URI != "" || h.Method != "" || len(h.ExpectStatus) > 0 || h.ExpectBody != "" || h.Body != ""):
		return errors.New("health: grpc cannot be combined with uri, method, expect_status, expect_body or body")
	case h.Interval < 0 || h.FastInterval < 0 || h.Timeout < 0:
		return errors.New("health: durations must not be negative")
	case h.Port < 0 || h.Port > math.MaxUint16:
		return errors.New("health: port must be between 1 and 65535")
	case h.ExpectBody != "" && h.Method == http.MethodHead:
		return errBodyOfHEAD
	case h.Passes < 0 || h.Fails < 0:
		return errors.New("health: passes and fails must not be negative")
	case h.FastInterval > cmp.Or(h.Interval, defaultInterval):
		return fmt.Errorf("health: fast_interval (%v) must not be longer than interval (%v)",
			time.Duration(h.FastInterval), time.Duration(cmp.Or(h.Interval, defaultInterval)))
	}
	if _, err := outcome.ParseStatusSet(h.ExpectStatus); err != nil {
		return fmt.Errorf("health: expect_status: %w", err)
	}
	if err := checkOps(&headers.HeaderOps{Set: h.Headers}); err != nil {
		return fmt.Errorf("health: %w", err)
	}
	if _, err := regexp.Compile(h.ExpectBody); err != nil {
		return fmt.Errorf("health: expect_body: %w", err)
	}
	return nil
}

// errBodyOfHEAD is the error of a HEAD check that expects a body.
var errBodyOfHEAD = errors.New("health: expect_body: a response to HEAD has no body; write method GET, or leave the method out")

func (h *EndpointHealth) validate() error {
	if h == nil {
		return nil
	}
	if h.Off && (h.Method != "" || h.URI != "" || h.GRPC != nil) {
		return errors.New("health: off cannot be combined with other options")
	}
	if h.GRPC != nil && (h.Method != "" || h.URI != "") {
		return errors.New("health: grpc cannot be combined with a method or a uri")
	}
	if err := h.GRPC.validate(); err != nil {
		return err
	}
	return validateAsk(h.Method, h.URI)
}

// validateAsk checks the method and the URI of a check.
func validateAsk(method, uri string) error {
	if method != "" {
		if method == methodsAny || method == methodsIdempotent {
			return fmt.Errorf("health: invalid method %q", method)
		}
		if err := validateMethod(method); err != nil {
			if method == strings.ToUpper(method) && !strings.Contains(method, ",") {
				return fmt.Errorf("health: %w", err)
			}
			return fmt.Errorf("health: invalid method %q: want one method, such as %s", method, strings.ToUpper(cmp.Or(method, http.MethodGet)))
		}
	}
	if uri == "" {
		return nil
	}
	u, err := url.ParseRequestURI(uri)
	if err != nil || !strings.HasPrefix(uri, "/") || u.Host != "" {
		return fmt.Errorf("health: invalid uri %q: want a path, such as /health", uri)
	}
	if target.LeavesBase(u) {
		return fmt.Errorf("health: invalid uri %q: it leads out of the base URL's path", uri)
	}
	return nil
}

const (
	defaultInterval     = caddy.Duration(30 * time.Second)
	defaultFastInterval = caddy.Duration(2 * time.Second)
	defaultCheckTimeout = caddy.Duration(5 * time.Second)
	defaultDecisive     = 2 // checks in a row
)

// override converts EndpointHealth for use; nil means that the pool's checks apply.
func (h *EndpointHealth) override() *endpoint.CheckOverride {
	if h == nil {
		return nil
	}
	o := &endpoint.CheckOverride{Off: h.Off, Method: h.Method, Uri: h.URI}
	if h.GRPC != nil {
		o.GRPC, o.Service = true, h.GRPC.Service
	}
	return o
}

// checkConfig merges the settings of a pool and an endpoint, which must be valid; nil means
// that the endpoint is not checked.
func (h *Health) checkConfig(own *endpoint.CheckOverride) *endpoint.CheckConfig {
	switch {
	case own != nil && own.Off, own == nil && (h == nil || h.Off):
		return nil
	case h == nil:
		h = &Health{}
	}
	uri, method, grpc := h.URI, h.Method, h.GRPC
	if own != nil {
		switch {
		case own.GRPC:
			grpc = &GRPCHealth{Service: own.Service}
		case own.Method != "" || own.Uri != "":
			grpc = nil
		}
		uri, method = cmp.Or(own.Uri, uri), cmp.Or(own.Method, method)
	}
	if h.ExpectBody != "" && (method == "" || method == http.MethodHead) {
		method = http.MethodGet
	}
	cfg := &endpoint.CheckConfig{
		Ask:          endpoint.Ask{Method: cmp.Or(method, http.MethodHead), Port: h.Port, Headers: h.Headers, Body: h.Body},
		Interval:     time.Duration(cmp.Or(h.Interval, defaultInterval)),
		FastInterval: time.Duration(cmp.Or(h.FastInterval, defaultFastInterval)),
		Timeout:      time.Duration(cmp.Or(h.Timeout, defaultCheckTimeout)),
		Passes:       cmp.Or(h.Passes, defaultDecisive),
		Fails:        cmp.Or(h.Fails, defaultDecisive),
	}
	if grpc != nil {
		cfg.GRPC, cfg.Service = true, grpc.Service
	}
	cfg.FastInterval = min(cfg.FastInterval, cfg.Interval)
	if u, err := url.ParseRequestURI(uri); err == nil {
		cfg.Path, cfg.RawPath, cfg.Query = u.Path, u.RawPath, u.RawQuery
	}
	switch {
	case len(h.ExpectStatus) > 0:
		cfg.Expect, _ = outcome.ParseStatusSet(h.ExpectStatus)
	case uri != "":
		cfg.Expect, _ = outcome.ParseStatusSet([]string{"2xx", "3xx"})
	default:
		cfg.Expect, _ = outcome.ParseStatusSet([]string{"100-428", "430-499"})
	}
	if h.ExpectBody != "" {
		cfg.Pattern = regexp.MustCompile(h.ExpectBody)
	}
	return cfg
}

// checkChecks refuses checks of the pool or of the proxy that cannot pass. Call it after
// matchUpstreams.
func (p *Policy) checkChecks(handler *reverseproxy.Handler) error {
	var own *reverseproxy.ActiveHealthChecks
	if handler.HealthChecks != nil && handler.HealthChecks.Active != nil && handler.HealthChecks.Active.IsEnabled() {
		own = handler.HealthChecks.Active
	}
	for _, t := range p.handler.Targets {
		e := &Endpoint{Name: t.Name}
		for _, known := range p.Endpoints {
			if known.Name == t.Name {
				e = known
			}
		}
		parsed, err := caddy.ParseNetworkAddress(t.Address)
		if cfg := p.Health.checkConfig(t.Health); cfg != nil && cfg.Port != 0 && err == nil && (parsed.IsUnixNetwork() || parsed.IsFdNetwork()) {
			return e.wrap(fmt.Errorf("health: port %d: %s is a socket, which has no port; leave the port out", cfg.Port, t.Address))
		}
		if own != nil && (t.Headers != nil || t.URL != nil && (t.URL.Scheme == "https" || strings.Trim(t.URL.Path, "/") != "")) {
			return e.wrap(fmt.Errorf("health_uri: the proxy's own checks know neither its base URL nor its headers, and would take it out: "+
				"write health { %s } instead, each option on a line of its own", asHealth(own)))
		}
	}
	return nil
}

// asHealth returns the options of a health block that correspond to the proxy's own checks.
func asHealth(a *reverseproxy.ActiveHealthChecks) string {
	var words []string
	say := func(isSet bool, format string, value any) {
		if isSet {
			words = append(words, fmt.Sprintf(format, value))
		}
	}
	//lint:ignore SA1019 configurations may still have it
	uri := cmp.Or(a.URI, a.Path)
	say(uri != "", "uri %s", uri)
	say(true, "method %s", cmp.Or(a.Method, http.MethodGet))
	say(a.Port != 0, "port %d", a.Port)
	say(a.Interval != 0, "interval %v", time.Duration(a.Interval))
	say(a.Timeout != 0, "timeout %v", time.Duration(a.Timeout))
	say(a.Passes != 0, "passes %d", a.Passes)
	say(a.Fails != 0, "fails %d", a.Fails)
	say(a.ExpectStatus > 9, "expect_status %d", a.ExpectStatus)
	say(a.ExpectStatus > 0 && a.ExpectStatus <= 9, "expect_status %dxx", a.ExpectStatus)
	say(a.ExpectBody != "", "expect_body %q", a.ExpectBody)
	say(a.Body != "", "body %q", a.Body)
	for _, field := range slices.Sorted(maps.Keys(a.Headers)) {
		words = append(words, "header "+field+" ...")
	}
	return strings.Join(words, "; ")
}

var healthOptions = map[string]option[*Health]{
	"uri":           fixed(func(h *Health) *string { return &h.URI }),
	"method":        fixed(func(h *Health) *string { return &h.Method }),
	"port":          count(func(h *Health) *int { return &h.Port }, 1),
	"interval":      duration(func(h *Health) *caddy.Duration { return &h.Interval }),
	"fast_interval": duration(func(h *Health) *caddy.Duration { return &h.FastInterval }),
	"timeout":       duration(func(h *Health) *caddy.Duration { return &h.Timeout }),
	"passes":        count(func(h *Health) *int { return &h.Passes }, 1),
	"fails":         count(func(h *Health) *int { return &h.Fails }, 1),
	"expect_status": {read: func(_ *reader, d *caddyfile.Dispenser, h *Health) error {
		if h.ExpectStatus = d.RemainingArgs(); len(h.ExpectStatus) == 0 {
			return missing(d)
		}
		_, err := outcome.ParseStatusSet(h.ExpectStatus)
		return wrap(d, err)
	}},
	"expect_body": fixed(func(h *Health) *string { return &h.ExpectBody }),
	"header": {repeatable: true, read: func(_ *reader, d *caddyfile.Dispenser, h *Health) error {
		args := d.RemainingArgs()
		if len(args) != 2 {
			return d.Err("header: want header <field> <value>")
		}
		if h.Headers == nil {
			h.Headers = make(http.Header)
		}
		h.Headers.Add(args[0], args[1])
		return nil
	}},
	"body": text(func(h *Health) *string { return &h.Body }),
}

// readHealth reads `health off`, `health { ... }` or `health grpc [<service>] { ... }`.
func readHealth(r *reader, d *caddyfile.Dispenser, p *Policy) error {
	p.Health = new(Health)
	at := here(d)
	if d.NextArg() {
		switch d.Val() {
		case "off":
			p.Health.Off = true
			return noBlock(d, "health")
		case wordGRPC:
			p.Health.GRPC = readService(d)
		default:
			word := d.Val()
			return d.Errf("health %s: want off or a block, or grpc [<service>]%s", word, suggestHealth(word, d.RemainingArgs()))
		}
		if d.NextArg() {
			return d.Errf("unexpected argument %q of health grpc", d.Val())
		}
	}
	if err := readBlock(r, d, "health", healthOptions, p.Health); err != nil {
		return err
	}
	return at.wrap(p.Health.validate())
}

// wordGRPC is the word for a gRPC check.
const wordGRPC = "grpc"

// readService reads `[<service>]` of a gRPC check.
func readService(d *caddyfile.Dispenser) *GRPCHealth {
	g := new(GRPCHealth)
	if d.NextArg() {
		g.Service = d.Val()
	}
	return g
}

// readEndpointHealth reads `health off`, `health grpc [<service>]` or `health <METHOD> <uri>`.
func readEndpointHealth(_ *reader, d *caddyfile.Dispenser, e *Endpoint) error {
	args := d.RemainingArgs()
	switch {
	case len(args) == 1 && args[0] == "off":
		e.Health = &EndpointHealth{Off: true}
	case len(args) > 0 && len(args) < 3 && args[0] == wordGRPC:
		e.Health = &EndpointHealth{GRPC: &GRPCHealth{Service: strings.Join(args[1:], "")}}
	case len(args) == 2 && strings.HasPrefix(args[0], "/"):
		return d.Errf("health of an endpoint: the method comes first; write health %s %s", args[1], args[0])
	case len(args) == 2:
		e.Health = &EndpointHealth{Method: args[0], URI: args[1]}
	default:
		advice := ""
		if len(args) == 1 && strings.HasPrefix(args[0], "/") {
			advice = "; write health GET " + args[0]
		}
		return d.Errf("health of an endpoint: want health off, health <METHOD> <uri> or health grpc [<service>]%s", advice)
	}
	return wrap(d, e.Health.validate())
}

// suggestHealth returns the end of an error about a wrong argument of health, and those after it: what
// they may mean.
func suggestHealth(word string, more []string) string {
	_, known := healthOptions[word]
	switch {
	case known:
		return fmt.Sprintf("; write health { %s }, on lines of their own", strings.Join(append([]string{word}, more...), " "))
	case strings.HasPrefix(word, "/"):
		return fmt.Sprintf("; write health { uri %s }, on lines of their own", word)
	case len(more) == 1 && strings.HasPrefix(more[0], "/"):
		return fmt.Sprintf("; write health { uri %s; method %s }, on lines of their own", more[0], word)
	}
	return suggest(word, "off", wordGRPC)
}
