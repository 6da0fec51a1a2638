package call

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/dialect"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/pool"
	"github.com/apifailover/caddy-failover/internal/target"
)

// A refusal says why a call found no endpoint. The site's error routes get it as an error. If none
// of them matches, the client gets it as an answer.
type refusal struct {
	kind       pool.Refusal
	retryAfter int  // seconds
	ofModel    bool // not every endpoint has the call's model
	pool       string
}

// Error implements error.
func (r *refusal) Error() string {
	which, is := "every endpoint", "is out"
	switch r.kind {
	case pool.AllHeld:
		is = "is in cooldown"
	case pool.Full:
		which, is = "every available endpoint", "is at its max_requests"
	}
	if r.ofModel {
		which += " that has the model"
	}
	return which + " " + is
}

// status returns 429 if endpoints asked callers to come back later, else 503.
func (r *refusal) status() int {
	if r.kind == pool.AllHeld {
		return http.StatusTooManyRequests
	}
	return http.StatusServiceUnavailable
}

// said returns the refusal in the words of an API.
func (r *refusal) said() *dialect.Refusal {
	said := &dialect.Refusal{
		Status:     r.status(),
		Type:       "service_unavailable",
		Code:       r.kind.String(),
		Message:    fmt.Sprintf("%s at API %q; try again in %d s", r.Error(), r.pool, r.retryAfter),
		RetryAfter: r.retryAfter,
	}
	if r.kind == pool.AllHeld {
		said.Type = "rate_limit_exceeded"
	}
	return said
}

// acceptsJSON reports whether a client gets JSON: its Accept names JSON, allows anything, or is
// absent. Browsers get text, because theirs names HTML before anything else.
func acceptsJSON(h http.Header) bool {
	accepted := strings.TrimSpace(strings.Join(h.Values("Accept"), ","))
	if accepted == "" {
		return true
	}
	any, html := false, false
	for _, one := range strings.Split(accepted, ",") {
		kind, parameters, _ := strings.Cut(one, ";")
		if refusesMedia(parameters) {
			continue
		}
		switch kind = strings.ToLower(strings.TrimSpace(kind)); {
		case kind == "application/json" || kind == "application/*" || strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json"):
			return true
		case kind == "*/*":
			any = true
		case kind == "text/html":
			html = true
		}
	}
	return any && !html
}

// refusesMedia reports whether the parameters of a media range give it the quality 0.
func refusesMedia(parameters string) bool {
	for _, p := range strings.Split(parameters, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(name, "q") {
			q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return err == nil && q <= 0
		}
	}
	return false
}

// An outlook is what a call that finds no endpoint can expect.
type outlook struct {
	first time.Time // when the first endpoint is tried again
	kind  pool.Refusal
}

// outlook returns the outlook of a call that found no endpoint.
func (h *Handler) outlook(c *Call, from *pool.Routes, now time.Time) outlook {
	if h.isFull(c, from, now) {
		return outlook{now, pool.Full}
	}
	if ready, limited := h.limited(c, from, now); limited {
		return outlook{ready, pool.AllHeld}
	}
	first, held, _ := h.soonest(c, from, now)
	if held {
		return outlook{first, pool.AllHeld}
	}
	return outlook{first, pool.AllDown}
}

// isFull reports whether some endpoint would take the call if it were not full.
func (h *Handler) isFull(c *Call, from *pool.Routes, now time.Time) bool {
	cfg := h.BreakerConfig()
	for _, t := range from.Targets {
		if t.Weight <= 0 || !c.takes(t) || t.State.For(c.scope()).Available(now, cfg) == 0 {
			continue
		}
		upstream := t.Upstream
		if upstream == nil {
			upstream = pool.UpstreamAt(c.upstreams(), t.Address)
		}
		if t.State.Full(t.Bounds) || upstream != nil && upstream.Host != nil && upstream.Healthy() && upstream.Full() {
			return true
		}
	}
	return false
}

// limited reports whether some endpoint would take the call if its limit were not used up, and when
// the first such limit has room again.
func (h *Handler) limited(c *Call, from *pool.Routes, now time.Time) (ready time.Time, limited bool) {
	cfg := h.BreakerConfig()
	for _, t := range from.Targets {
		if t.Weight <= 0 || t.Bounds == nil || !c.takes(t) || t.State.For(c.scope()).Available(now, cfg) == 0 {
			continue
		}
		if at := t.State.Ready(t.Bounds, now, c.asked()); at.After(now) {
			ready, limited = endpoint.Earliest(ready, at), true
		}
	}
	return ready, limited
}

// refuseAs ends a call that found no endpoint, with a refusal.
func (c *Call) refuseAs(o outlook, w http.ResponseWriter, now time.Time) *reverseproxy.Upstream {
	x := c.extra()
	if x.skipped {
		return c.refuseWith(x.unfit)
	}
	after := min(max(1, math.Ceil(o.first.Sub(now).Seconds())), outcome.MaxHold.Seconds())
	x.refused = &refusal{o.kind, int(after), c.hasOwnModel(c.routes(now)), c.Handler.Name}
	if !c.recorded.Swap(true) {
		c.Handler.Pool.Refused(o.kind)
	}
	err := caddyhttp.Error(x.refused.status(), x.refused)
	if !takesError(c.Request, err) {
		return c.refuseWith(x.refused)
	}
	w.Header().Set("Retry-After", strconv.Itoa(x.refused.retryAfter))
	return c.refuseWith(err)
}

// takesError reports whether an error route of the site takes err.
func takesError(r *http.Request, err error) bool {
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || server.Errors == nil || len(server.Errors.Routes) == 0 {
		return false
	}
	repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	if !ok || repl == nil {
		return false
	}
	r = r.WithContext(r.Context()) // a copy, changed as the server does for its error routes
	u := *original.URL
	r.Method, r.RemoteAddr, r.RequestURI, r.URL = original.Method, original.RemoteAddr, original.RequestURI, &u
	r.Host, _ = repl.GetString("http.request.hostport")
	r = server.Errors.WithError(r, err)
	if anyTakes(server.Errors.Routes, r) {
		return true
	}
	repl.DeleteByPrefix("http.error")
	return false
}

// anyTakes reports whether a request reaches a handler of some route, other than a subroute.
func anyTakes(routes caddyhttp.RouteList, r *http.Request) bool {
	for i := range routes {
		if matches, err := routes[i].MatcherSets.AnyMatchWithError(r); err == nil && !matches {
			continue
		}
		for _, handler := range routes[i].Handlers {
			if sub, ok := handler.(*caddyhttp.Subroute); !ok || anyTakes(sub.Routes, r) {
				return true
			}
		}
	}
	return false
}

// nowhere is the address of a refused call's upstream, if the table has none.
const nowhere = "0.0.0.0:0"

// refuseWith ends a call without another attempt. The round trip to the upstream that it returns
// fails with err.
func (c *Call) refuseWith(err error) *reverseproxy.Upstream {
	c.finished = false
	c.extra().refusal = err
	address := nowhere
	if targets := c.Handler.TableFor(c.upstreams(), time.Now()).Targets; len(targets) > 0 {
		address = targets[0].Address
	}
	// With a Host of its own, the refusal counts against no endpoint in the proxy's passive
	// health checks.
	return &reverseproxy.Upstream{Dial: address, Host: new(reverseproxy.Host)}
}

// refused makes the round trip of a refused call.
func (c *Call) refused(r *http.Request) (*http.Response, error) {
	err := c.extras.refusal
	c.extras.refusal, c.finished = nil, err != errLookAgain
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.DeleteByPrefix("http.reverse_proxy.upstream.") // the call has no upstream
	}
	switch e := err.(type) {
	case *unfit:
		return c.says(r, e.said(), true), nil
	case *refusal:
		return c.says(r, e.said(), acceptsJSON(r.Header)), nil
	}
	return nil, err
}

// last returns the proxy's error for a call that ends. It is never a dial error, after which the
// proxy would try again.
func last(err error) error {
	if _, ok := errors.AsType[reverseproxy.DialError](err); ok {
		return plain(err)
	}
	return err
}

// soonest returns when the first endpoint will be tried again, now if none will; held, whether only
// holds keep calls away; and due, the endpoint to try next, nil if none can be tried.
func (h *Handler) soonest(c *Call, from *pool.Routes, now time.Time) (first time.Time, held bool, due *target.Target) {
	cfg := h.BreakerConfig()
	held = true
	var dueKey time.Time
	anyway := h.TryAnyway
	for _, t := range from.Targets {
		if t.Weight <= 0 || !c.takes(t) || c.isExcluded(t) && c.Attempts > 0 {
			continue
		}
		if until, barred := t.State.BarredUntil(now); barred {
			held, first = false, endpoint.Earliest(first, until)
			continue
		}
		at, onHold := t.State.For(c.scope()).Returns(now, cfg)
		held = held && onHold
		if at.IsZero() {
			continue
		}
		first = endpoint.Earliest(first, at)
		key := at
		if !anyway {
			since, free := t.State.For(c.scope()).IdleSince(now, cfg, t.Bounds, c.asked())
			if !free {
				continue
			}
			key = since
		}
		if due == nil || key.Before(dueKey) {
			due, dueKey = t, key
		}
	}
	if first.IsZero() {
		return now, false, nil
	}
	return first, held, due
}
