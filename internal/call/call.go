// Package call handles one request, from Select to the end of its answer.
package call

import (
	"cmp"
	"math"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/replay"
	"github.com/apifailover/caddy-failover/internal/target"
)

// varKey is the key of the request's vars that holds its first call. One request may pass
// several proxies (forward_auth), so calls form a list.
const varKey = "failover.call"

// A Call is one client request at one proxy, from the first Select to the end of the request.
// Only the request's goroutine uses it, except for its attempts and as race and rescue say. extras has
// what few calls need.
type Call struct {
	first Attempt // storage for the first attempt

	Handler  *Handler
	extras   *extras           // nil: none
	body     *replay.Recording // nil without a body
	Next     *Attempt          // reserved for the next round trip
	Current  *Attempt          // the latest attempt that RoundTrip made; nil: none
	Attempts uint16            // number of attempts made or reserved
	finished bool              // no attempt will follow
	handed   bool              // the proxy has an answer
	queued   bool              // the queue let the call in, and extras have its lane; set before the attempt begins
	grpc     bool              // it is a gRPC call
	traced   bool              // its attempts have spans; set before the first begins
	recorded atomic.Bool       // the call's outcome has been counted

	key      uint64         // calls with the same key go to the same endpoint; 0: to any
	excluded *exclusion     // the latest target that further attempts avoid, linked to the others
	Request  *http.Request  // the proxy's copy, the same for all attempts
	vars     map[string]any // the request's vars
	before   *Call          // the request's previous call, at another proxy; the first call links to the latest
}

// MaxAttempts is the largest number of attempts that a call can count.
const MaxAttempts = math.MaxUint16

// extras are the parts that few calls need.
type extras struct {
	looked   reverseproxy.UpstreamPool // the dynamic upstreams that the proxy looked up
	refusal  error                     // the error that the next round trip returns; nil: it makes an attempt
	kept     *keptAnswer               // an answer to fall back on; nil: none
	movedOn  []*Attempt                // attempts whose answers matched a rule that moves the call on
	unfit    *unfit                    // why the body cannot be edited; nil: it can
	failed   suspects                  // attempts whose failures may be the request's own fault
	reserved *Attempt                  // the attempt after one that leaveRefused has ended; nil: none
	unlike   bool                      // the call was let through although all endpoints are out
	saved    bool                      // the call moved on from a failure; a good answer then counts as a saved call
	asked    int64                     // the tokens that the call may use, as TokenRules.asked; 0: unknown
	model    string                    // the model that the call names, if endpoints have names of models
	whole    bool                      // the body is in memory, and is a JSON object
	skipped  bool                      // an endpoint was skipped because the body is unfit
	wait     wait
	refused  *refusal      // why the call got no endpoint; nil: it was not refused
	status   int           // the status of the answer that the proxy has, if the proxy may drop it
	repeats  tristate      // whether lb_retry_match lets the request be sent again
	own      http.Header   // the client's credentials, if some endpoints get them
	spans    *spans        // set if the call is traced
	scope    string        // the call's scope; empty: it has none
	rare     endpoint.Rare // memory for Attempt.Concern of the first attempt
}

// extra returns the call's extras, for writing.
func (c *Call) extra() *extras {
	if c.extras == nil {
		c.extras = new(extras)
	}
	return c.extras
}

// began returns when the call's first attempt was reserved or, if it waited before that, when it began
// to wait.
func (c *Call) began() time.Time {
	if x := c.extras; x != nil && !x.wait.since.IsZero() {
		return x.wait.since
	}
	return c.first.Began
}

// late reports whether the call's deadline has passed.
func (c *Call) late(at time.Time) bool { return c.Handler.Retry.Deadline > 0 && c.left(at) <= 0 }

// left returns the time from at to the call's deadline. Handler.Retry.Deadline must be set.
func (c *Call) left(at time.Time) time.Duration {
	left := c.Handler.Retry.Deadline - at.Sub(c.began())
	if c.body != nil {
		left -= c.body.Before
	}
	return left
}

// latest returns the latest of a request's calls that satisfies is; nil if none does.
func latest(first *Call, is func(*Call) bool) *Call {
	if first == nil {
		return nil
	}
	for c := first.before; ; c = c.before {
		if is(c) {
			return c
		}
		if c == first {
			return nil
		}
	}
}

// upstreams returns the dynamic upstreams of the call; nil if the proxy has none.
func (c *Call) upstreams() reverseproxy.UpstreamPool {
	if c.extras == nil {
		return nil
	}
	return c.extras.looked
}

// takeCredentials removes the client's credentials from the request or, if some endpoints get
// them, notes them. Call it before header_up can change them.
func (c *Call) takeCredentials() {
	r, screen := c.Request, c.Handler.Screen
	screen.Header(r.Trailer)
	if !c.Handler.StripsAll {
		if own := screen.Own(r.Header); own != nil {
			c.extra().own = own
		}
		return
	}
	screen.Header(r.Header)
	if r.URL.RawQuery != "" {
		r.URL.RawQuery = c.withoutCredentials(r.URL.RawQuery)
	}
}

// withoutCredentials returns a query without the client's credentials. It keeps what the proxy's
// configuration has added.
func (c *Call) withoutCredentials(query string) string {
	screen := c.Handler.Screen
	if original, ok := c.Request.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && original.URL.RawQuery != query {
		return screen.QueryOf(original.URL.RawQuery, query)
	}
	return screen.Query(query, nil)
}

// exclude keeps further attempts away from a target's endpoint.
func (c *Call) exclude(t *target.Target) { c.excluded = &exclusion{t, c.excluded} }

// An exclusion is a target that further attempts avoid.
type exclusion struct {
	target  *target.Target
	earlier *exclusion
}

func (c *Call) isExcluded(t *target.Target) bool {
	for x := c.excluded; x != nil; x = x.earlier {
		e := x.target
		if e == t || e.State == t.State && e.State != nil {
			return true
		}
	}
	return false
}

// placeholder returns the value of {http.failover.*}, from the request's latest call.
func (c *Call) placeholder(key string) (any, bool) {
	const prefix = "http.failover."
	if len(key) <= len(prefix) || key[:len(prefix)] != prefix {
		return nil, false
	}
	latest := c.before
	switch key[len(prefix):] {
	case "pool":
		return latest.Handler.Name, true
	case "endpoint": // in header_up, the endpoint of the attempt that is about to be made
		if a := cmp.Or(latest.Next, latest.Current); a != nil {
			return a.Target.Name, true
		}
		return "", true
	case "attempts": // including the one that is about to be made
		return int(latest.Attempts), true
	case "scope":
		return latest.scope(), true
	case "waited":
		return latest.waited(), true
	case "retry_after":
		if x := latest.extras; x != nil && x.refused != nil {
			return x.refused.retryAfter, true
		}
		return "", true
	case "outcome":
		return latest.result(), true
	}
	return nil, false
}
