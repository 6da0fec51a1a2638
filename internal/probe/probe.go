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
	// checkBody is how much of an answer's body a check reads at most.
	checkBody = 64 << 10
	// checkedBy is the User-Agent of checks.
	checkedBy = "caddy-failover health check"
)

// Run makes one check of the endpoint at t through trip. It ends within the
// configured timeout, and reads no more than checkBody. Where HEAD is refused GET is asked
// once, and the result says whether that is to be remembered; gets tells that it was.
func Run(ctx context.Context, cfg *endpoint.CheckConfig, trip http.RoundTripper, t *target.Target, gets bool) (result endpoint.CheckResult) {
	defer func() {
		if p := recover(); p != nil {
			result = endpoint.CheckResult{Why: "panic: " + outcome.Short(fmt.Errorf("%v", p))}
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	if gets || cfg.Method != http.MethodHead {
		method := cfg.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		result, _ = ask(ctx, cfg, method, trip, t)
		return result
	}
	result, status := ask(ctx, cfg, http.MethodHead, trip, t)
	if result.Passed || !mayMeanHEAD(status) {
		return result
	}
	second, _ := ask(ctx, cfg, http.MethodGet, trip, t)
	if second.Gets = second.Passed || refusesHEAD(status); second.Gets {
		return second
	}
	return result
}

// refusesHEAD tells whether a status says that HEAD itself is refused.
func refusesHEAD(status int) bool {
	return status == http.StatusMethodNotAllowed || status == http.StatusNotImplemented
}

// mayMeanHEAD tells whether a status may be about HEAD, as those are that servers give which
// know a path for GET only.
func mayMeanHEAD(status int) bool {
	return refusesHEAD(status) || status/100 == 4 && status != http.StatusTooManyRequests
}

// ask makes one request of a check; the status is 0 without an answer.
func ask(ctx context.Context, cfg *endpoint.CheckConfig, method string, trip http.RoundTripper, t *target.Target) (result endpoint.CheckResult, status int) {
	r, err := checkRequest(ctx, cfg, method, t)
	if err != nil {
		return endpoint.CheckResult{Why: err.Error()}, 0
	}
	defer func() {
		if result.Cause.What != "" {
			result.Cause.Method, result.Cause.Path = target.ShownMethod(r.Method), target.ShownPath(r.URL)
		}
	}()
	began := time.Now()
	var on connection
	resp, err := trip.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{GotConn: on.got})))
	if err != nil {
		on.leave(ctx)
		return failed(target.OutcomeOf(err).String()+": ", short(err, cfg.Timeout)), 0
	}
	defer resp.Body.Close()
	result.Latency = max(1, time.Since(began))
	body := io.LimitReader(resp.Body, checkBody)
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
	_, _ = io.Copy(io.Discard, body) // so that the connection can be used again
	return result, resp.StatusCode
}

// failed is the result of a check that failed.
func failed(kind, what string) endpoint.CheckResult {
	return endpoint.CheckResult{Why: kind + what, Cause: endpoint.Cause{What: what}}
}

// short says what an error of a check is.
func short(err error, timeout time.Duration) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "timeout after " + timeout.String()
	}
	return target.Short(err)
}

// proxyProtocolKey is where the proxy's transport looks for the client's
// address, which it may have to pass on.
const proxyProtocolKey = "reverse_proxy.proxy_protocol_info"

// checkRequest makes the request of a check, as the proxy and the endpoint's
// configuration would make a call's.
func checkRequest(ctx context.Context, cfg *endpoint.CheckConfig, method string, t *target.Target) (*http.Request, error) {
	repl := caddy.NewReplacer()
	ctx = context.WithValue(ctx, caddy.ReplacerCtxKey, repl)
	upstream := t.Upstream
	if upstream == nil {
		upstream = &reverseproxy.Upstream{Dial: t.Address}
	}
	dial, err := target.DialInfo(upstream, (&http.Request{}).WithContext(ctx))
	if err != nil {
		return nil, err
	}
	socket := caddy.IsUnixNetwork(dial.Network) || caddy.IsFdNetwork(dial.Network)
	port := ""
	if cfg.Port != 0 && !socket {
		port = strconv.Itoa(cfg.Port)
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
	var body io.Reader
	if cfg.Body != "" {
		body = strings.NewReader(repl.ReplaceKnown(cfg.Body, ""))
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://check/", body)
	if err != nil {
		return nil, fmt.Errorf("making a request: %w", err)
	}
	// connections are pooled by the URL's host: a socket's is its path, and another port counts
	asked := &url.URL{Host: dial.Address, Path: cfg.Path, RawPath: cfg.RawPath, RawQuery: cfg.Query}
	r.URL, r.Host = asked, dial.Address
	if socket {
		r.Host = "localhost"
	}
	if t.URL != nil {
		r.URL, r.Host = t.Join(asked), t.URL.Host
		if port != "" {
			r.Host = net.JoinHostPort(t.URL.Hostname(), port)
			if t.URL.Scheme == "https" {
				r.URL.Host = r.Host
			}
		}
	}
	if r.URL.Path == "" {
		r.URL.Path = "/"
	}
	r.Header.Set("User-Agent", checkedBy)
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

// A connection is that of a check. The zero value is none.
type connection struct {
	*link.Conn
	brought uint64 // before the check
	reused  bool
}

func (c *connection) got(info httptrace.GotConnInfo) {
	c.reused = info.Reused
	if c.Conn = link.Of(info.Conn); c.Conn != nil {
		c.brought = c.Brought()
	}
}

// leave puts the connection out of use if it has brought nothing for a check whose time is
// over: the next check gets another.
func (c *connection) leave(ctx context.Context) {
	if c.Conn != nil && ctx.Err() == context.DeadlineExceeded && c.Brought() == c.brought {
		c.Retire(c.reused, time.Now())
	}
}
