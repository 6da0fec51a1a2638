// Package probe makes one health check.
package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/link"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/target"
)

const (
	// maxBody is how much of a response body a check reads at most, in bytes.
	maxBody = 64 << 10
	// userAgent is the User-Agent of checks.
	userAgent = "caddy-failover health check"
)

// A Probe checks one endpoint again and again. It is not safe for concurrent use.
type Probe struct {
	ctx    context.Context // ends all checks
	cfg    *endpoint.CheckConfig
	trip   http.RoundTripper
	target *target.Target
	way    *way // nil: not known yet, or each check may have another one
}

// New returns a probe of the endpoint at t through trip. ctx ends its checks.
func New(ctx context.Context, cfg *endpoint.CheckConfig, trip http.RoundTripper, t *target.Target) *Probe {
	return &Probe{ctx: ctx, cfg: cfg, trip: trip, target: t}
}

// Run makes one check. It ends within the configured
// timeout. If a HEAD fails in a way that may be due to the method, Run tries a GET;
// result.Gets says that later checks should use GET at once, which gets asks for.
func (p *Probe) Run(gets bool) (result endpoint.CheckResult) {
	defer func() {
		if v := recover(); v != nil {
			result = endpoint.CheckResult{Why: "panic: " + outcome.Short(fmt.Errorf("%v", v))}
		}
	}()
	cfg := p.cfg
	w, err := p.find()
	if err != nil {
		return endpoint.CheckResult{Why: err.Error()}
	}
	ctx, cancel := context.WithTimeout(w.ctx, cfg.Timeout)
	defer cancel()
	if cfg.GRPC {
		return p.askGRPC(ctx, w)
	}
	if gets || cfg.Method != http.MethodHead {
		method := cfg.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		result, _ = p.ask(ctx, w, method)
		return result
	}
	result, status := p.ask(ctx, w, http.MethodHead)
	if result.Passed || !mayMeanHEAD(status) {
		return result
	}
	second, _ := p.ask(ctx, w, http.MethodGet)
	if second.Gets = second.Passed || refusesHEAD(status); second.Gets {
		return second
	}
	return result
}

// refusesHEAD reports whether a status says that the server does not support HEAD.
func refusesHEAD(status int) bool {
	return status == http.StatusMethodNotAllowed || status == http.StatusNotImplemented
}

// mayMeanHEAD reports whether a status may be due to HEAD: some servers know a path for GET
// only, and answer with other statuses of 4xx.
func mayMeanHEAD(status int) bool {
	return refusesHEAD(status) || status/100 == 4 && status != http.StatusTooManyRequests
}

// ask sends one request of a check. The status is 0 if there is no response.
func (p *Probe) ask(ctx context.Context, w *way, method string) (result endpoint.CheckResult, status int) {
	cfg := p.cfg
	var conn connection
	r, err := p.request(conn.traced(ctx), w, cfg, method)
	if err != nil {
		return endpoint.CheckResult{Why: err.Error()}, 0
	}
	defer func() {
		if result.Cause.What != "" {
			result.Cause.Method, result.Cause.Path = target.ShownMethod(r.Method), target.ShownPath(r.URL)
		}
	}()
	began := time.Now()
	resp, err := p.trip.RoundTrip(r)
	if err != nil {
		conn.retireIfDead(ctx)
		return failed(target.OutcomeOf(err).String()+": ", short(err, cfg.Timeout)), 0
	}
	defer resp.Body.Close()
	result.Latency = max(1, time.Since(began))
	body := io.LimitReader(resp.Body, maxBody)
	if !cfg.Expect.Has(resp.StatusCode) {
		result.Why, result.Cause.What = "status "+strconv.Itoa(resp.StatusCode), strconv.Itoa(resp.StatusCode)
	} else if cfg.Pattern == nil {
		result.Passed, result.Why = true, endpoint.CheckPassed
	} else if text, err := io.ReadAll(body); err != nil {
		result.Why, result.Cause.What = "body: "+target.OutcomeOf(err).String(), short(err, cfg.Timeout)
	} else if result.Passed = cfg.Pattern.Match(text); result.Passed {
		result.Why = endpoint.CheckPassed
	} else {
		result.Why, result.Cause.What = "body: no match", "unexpected body"
	}
	_, _ = io.Copy(io.Discard, body) // allows the connection to be reused
	return result, resp.StatusCode
}

// failed returns the result of a failed check.
func failed(kind, what string) endpoint.CheckResult {
	return endpoint.CheckResult{Why: kind + what, Cause: endpoint.Cause{What: what}}
}

// short describes an error of a check in a few words.
func short(err error, timeout time.Duration) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "timeout after " + timeout.String()
	}
	return target.Short(err)
}

// proxyProtocolKey is the variable in which the proxy's transport finds the client's
// address for the PROXY protocol.
const proxyProtocolKey = "reverse_proxy.proxy_protocol_info"

// A way is how checks reach an endpoint.
type way struct {
	ctx     context.Context // with what the proxy's transport looks for
	repl    *caddy.Replacer
	address string // to dial
	port    string // empty: the port of calls
	socket  bool
}

// find returns the way to the endpoint. It is found once, unless the address has placeholders.
func (p *Probe) find() (*way, error) {
	if p.way != nil {
		return p.way, nil
	}
	repl := caddy.NewReplacer()
	ctx := context.WithValue(p.ctx, caddy.ReplacerCtxKey, repl)
	upstream := p.target.Upstream
	if upstream == nil {
		upstream = &reverseproxy.Upstream{Dial: p.target.Address}
	}
	dial, err := target.DialInfo(upstream, (&http.Request{}).WithContext(ctx))
	if err != nil {
		return nil, err
	}
	socket := caddy.IsUnixNetwork(dial.Network) || caddy.IsFdNetwork(dial.Network)
	port := ""
	if p.cfg.Port != 0 && !socket {
		port = strconv.Itoa(p.cfg.Port)
		dial.Port, dial.Address = port, net.JoinHostPort(dial.Host, port)
	}
	repl.Set("http.reverse_proxy.upstream.address", dial.String())
	repl.Set("http.reverse_proxy.upstream.hostport", dial.Address)
	repl.Set("http.reverse_proxy.upstream.host", dial.Host)
	repl.Set("http.reverse_proxy.upstream.port", dial.Port)
	ctx = context.WithValue(ctx, target.DialInfoKey, *dial)
	ctx = context.WithValue(ctx, caddyhttp.VarsCtxKey, map[string]any{
		proxyProtocolKey: reverseproxy.ProxyProtocolInfo{AddrPort: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)},
	})
	w := &way{ctx: ctx, repl: repl, address: dial.Address, port: port, socket: socket}
	if !strings.Contains(upstream.Dial, "{") {
		p.way = w
	}
	return w, nil
}

// request makes the request of a check as the proxy and the endpoint's configuration make the request
// of a call.
func (p *Probe) request(ctx context.Context, w *way, cfg *endpoint.CheckConfig, method string) (*http.Request, error) {
	t, repl := p.target, w.repl
	var body io.Reader
	if cfg.Body != "" {
		body = strings.NewReader(repl.ReplaceKnown(cfg.Body, ""))
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://check/", body)
	if err != nil {
		return nil, fmt.Errorf("making a request: %w", err)
	}
	// The transport pools connections by the URL's host: for a socket that is its path, else
	// host and port.
	asked := &url.URL{Host: w.address, Path: cfg.Path, RawPath: cfg.RawPath, RawQuery: cfg.Query}
	r.URL, r.Host = asked, w.address
	if w.socket {
		r.Host = "localhost"
	}
	if t.URL != nil {
		r.URL, r.Host = t.Join(asked), t.URL.Host
		if w.port != "" {
			r.Host = net.JoinHostPort(t.URL.Hostname(), w.port)
			if t.URL.Scheme == "https" {
				r.URL.Host = r.Host
			}
		}
	}
	if r.URL.Path == "" {
		r.URL.Path = "/"
	}
	r.Header.Set("User-Agent", userAgent)
	for field, values := range cfg.Headers {
		field = http.CanonicalHeaderKey(field)
		r.Header.Del(field)
		for _, value := range values {
			if value = repl.ReplaceKnown(value, ""); field == "Host" {
				r.Host = value
			} else {
				r.Header.Add(field, value)
			}
		}
	}
	if t.Headers != nil {
		t.Headers.ApplyToRequest(r)
	}
	return r, nil
}

// connection is the connection of a check. The zero value is none.
type connection struct {
	*link.Conn
	brought uint64 // what Brought returned before the check
	reused  bool
}

// traced returns a context for the check's request, whose connection c will be.
func (c *connection) traced(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: c.set})
}

// set takes the connection that the transport uses.
func (c *connection) set(info httptrace.GotConnInfo) {
	c.reused = info.Reused
	if c.Conn = link.Of(info.Conn); c.Conn != nil {
		c.brought = c.Brought()
	}
}

// retireIfDead retires the connection if the check timed out and nothing arrived on it, so
// that the next check uses another one.
func (c *connection) retireIfDead(ctx context.Context) {
	if c.Conn != nil && ctx.Err() == context.DeadlineExceeded && c.Brought() == c.brought {
		c.Retire(c.reused, time.Now())
	}
}
