// Package call is one request, from Select to the end of its answer.
package call

import (
	"cmp"
	"math"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/replay"
	"github.com/apifailover/caddy-failover/internal/target"
)

// VarKey is where a request's vars keep its first call. One request may pass
// several proxies (forward_auth), so calls form a list.
const VarKey = "failover.call"

// A Call is one client request at one proxy: it lives from the first Select to
// the end of the request, and is used by the request's goroutine only, but for
// its attempts. Each request makes one; what few calls have is in extras.
type Call struct {
	first Attempt // room for the first attempt, which begins with the call

	Handler  *Handler
	extras   *extras           // nil: none
	body     *replay.Recording // nil without a body
	Next     *Attempt          // reserved; the next Select hands it out
	Current  *Attempt
	Attempts uint16      // made or reserved
	finished bool        // no attempt will follow
	handed   bool        // an answer has gone to the proxy
	recorded atomic.Bool // what the client gets has been recorded

	key      uint64         // calls with the same go to the same endpoint; 0: to any
	excluded *exclusion     // from further attempts, the latest
	Request  *http.Request  // the proxy's own copy, the same for all attempts
	vars     map[string]any // the request's own
	before   *Call          // of another proxy in the same request; of the first: the latest
}

// MaxAttempts is how many attempts a call counts.
const MaxAttempts = math.MaxUint16

// extras are what few calls have.
type extras struct {
	looked  reverseproxy.UpstreamPool // up, for the first Select or, where the call has waited, the latest
	refusal error                     // instead of a first attempt
	kept    *keptAnswer               // for want of a better one
	movedOn []*Attempt                // whose answers the call has moved on from, as rules say
	unfit   *unfit                    // why the body cannot be edited
	failed  suspects                  // attempts whose failures may be the request's own
	saved   bool                      // it has failed at an endpoint and moved on; if it is answered well, it is saved
	model   string                    // that the call names, where that matters
	whole   bool                      // the body is recorded whole, and is a JSON object
	skipped bool                      // an endpoint was passed over because the body is unfit
	wait    wait
	refused *refusal    // what the client gets, instead of an answer of an endpoint; nil: not that
	status  int         // of the answer that the proxy has now, where it may throw it away
	repeats tristate    // whether lb_retry_match lets the request be sent again
	own     http.Header // what the client sent that may be a credential, where some endpoints get it
}

// extra is where the call's extras are written.
func (c *Call) extra() *extras {
	if c.extras == nil {
		c.extras = new(extras)
	}
	return c.extras
}

// began is when the call's first attempt was reserved, or it began to wait for that.
func (c *Call) began() time.Time {
	if x := c.extras; x != nil && !x.wait.since.IsZero() {
		return x.wait.since
	}
	return c.first.Began
}

// late tells whether the call's deadline has passed at a time.
func (c *Call) late(at time.Time) bool { return c.Handler.Retry.Deadline > 0 && c.left(at) <= 0 }

// left is the time from at to the deadline of a call that has one.
func (c *Call) left(at time.Time) time.Duration {
	left := c.Handler.Retry.Deadline - at.Sub(c.began())
	if c.body != nil {
		left -= c.body.Before
	}
	return left
}

// latest returns the latest of a request's calls for which is holds; nil if there is
// none.
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

// upstreams are those that were looked up for the call, if they were.
func (c *Call) upstreams() reverseproxy.UpstreamPool {
	if c.extras == nil {
		return nil
	}
	return c.extras.looked
}

// takeCredentials takes the client's credentials out of the request, or notes them where
// some endpoints get them: now, before header_up makes something else of them.
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

// withoutCredentials takes the client's credentials out of a query, but not what the proxy's
// configuration has put into it.
func (c *Call) withoutCredentials(query string) string {
	screen := c.Handler.Screen
	if original, ok := c.Request.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && original.URL.RawQuery != query {
		return screen.QueryOf(original.URL.RawQuery, query)
	}
	return screen.Query(query, nil)
}

// exclude keeps further attempts from a target, whichever table it is from.
func (c *Call) exclude(t *target.Target) { c.excluded = &exclusion{t, c.excluded} }

// An exclusion is of a target that was tried, or is not to be.
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

// finish says that no attempt will follow.
func (c *Call) finish() { c.finished = true }

// placeholder answers for {http.failover.*}, from the request's latest call.
func (c *Call) placeholder(key string) (any, bool) {
	const prefix = "http.failover."
	if len(key) <= len(prefix) || key[:len(prefix)] != prefix {
		return nil, false
	}
	latest := c.before
	switch key[len(prefix):] {
	case "pool":
		return latest.Handler.Name, true
	case "endpoint": // the one that is about to be asked, for header_up
		if a := cmp.Or(latest.Next, latest.Current); a != nil {
			return a.Target.Name, true
		}
		return "", true
	case "attempts": // with the one that is about to be made
		return int(latest.Attempts), true
	case "waited":
		return latest.waited(), true
	case "retry_after":
		if x := latest.extras; x != nil && x.refused != nil {
			return x.refused.retryAfter, true
		}
		return "", true
	case "outcome":
		if x := latest.extras; x != nil && x.refused != nil {
			return x.refused.kind.String(), true
		}
		if a := latest.Current; a != nil {
			return a.known().String(), true
		}
		return "", true
	}
	return nil, false
}
