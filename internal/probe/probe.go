// Package probe makes one health check.
package probe

import (
	"context"
	"fmt"
	"io"
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
	"github.com/apifailover/caddy-failover/internal/target"
)

const (
	// checkBody is how much of an answer's body a check reads at most.
	checkBody = 64 << 10
	// CheckedBy is the User-Agent of checks.
	CheckedBy = "caddy-failover health check"
)

// Run makes one check of the endpoint at t through trip. It ends within the
// configured timeout, and reads no more than checkBody.
func Run(ctx context.Context, cfg *endpoint.CheckConfig, trip http.RoundTripper, t *target.Target) (result endpoint.CheckResult) {
	defer func() {
		if r := recover(); r != nil {
			result = endpoint.CheckResult{Why: fmt.Sprint("panic: ", r)}
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	r, err := checkRequest(ctx, cfg, t)
	if err != nil {
		return endpoint.CheckResult{Why: err.Error()}
	}
	began := time.Now()
	var on connection
	resp, err := trip.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{GotConn: on.got})))
	if err != nil {
		on.leave(ctx)
		return endpoint.CheckResult{Why: target.OutcomeOf(err).String()}
	}
	defer resp.Body.Close()
	result.Latency = max(1, time.Since(began))
	body := io.LimitReader(resp.Body, checkBody)
	if !cfg.Expect.Has(resp.StatusCode) {
		result.Why = "status " + strconv.Itoa(resp.StatusCode)
	} else if cfg.Pattern == nil {
		result.Passed, result.Why = true, endpoint.CheckPassed
	} else if text, err := io.ReadAll(body); err != nil {
		result.Why = "body: " + target.OutcomeOf(err).String()
	} else if result.Passed = cfg.Pattern.Match(text); result.Passed {
		result.Why = endpoint.CheckPassed
	} else {
		result.Why = "body: no match"
	}
	_, _ = io.Copy(io.Discard, body) // so that the connection can be used again
	return result
}

// proxyProtocolKey is where the proxy's transport looks for the client's
// address, which it may have to pass on.
const proxyProtocolKey = "reverse_proxy.proxy_protocol_info"

// checkRequest makes the request of a check, as the proxy and the endpoint's
// configuration would make a call's.
func checkRequest(ctx context.Context, cfg *endpoint.CheckConfig, t *target.Target) (*http.Request, error) {
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
	r, err := http.NewRequestWithContext(ctx, cfg.Method, "http://check/", body)
	if err != nil {
		return nil, fmt.Errorf("making a request: %w", err)
	}
	asked := &url.URL{Host: dial.Address, Path: cfg.Path, RawQuery: cfg.Query}
	r.URL, r.Host = asked, dial.Address
	if t.URL != nil {
		r.URL, r.Host = t.Join(asked), t.URL.Host
	}
	if r.URL.Path == "" {
		r.URL.Path = "/"
	}
	r.Header.Set("User-Agent", CheckedBy)
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
