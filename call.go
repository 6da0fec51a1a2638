package failover

import (
	"cmp"
	"math"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// callKey is where a request's vars keep its first call. One request may pass
// several proxies (forward_auth), so calls form a list.
const callKey = "failover.call"

// A call is one client request at one proxy: it lives from the first Select to
// the end of the request, and is used by the request's goroutine only, but for
// its attempts. Each request makes one; what few calls have is in extras.
type call struct {
	first attempt // room for the first attempt, which begins with the call

	handler  *callHandler
	extras   *extras    // nil: none
	body     *recording // nil without a body
	next     *attempt   // reserved; the next Select hands it out
	current  *attempt
	attempts uint16      // made or reserved
	finished bool        // no attempt will follow
	handed   bool        // an answer has gone to the proxy
	recorded atomic.Bool // what the client gets has been recorded

	excluded *exclusion     // from further attempts, the latest
	request  *http.Request  // the proxy's own copy, the same for all attempts
	vars     map[string]any // the request's own
	before   *call          // of another proxy in the same request; of the first: the latest
}

// maxAttempts is how many attempts a call counts.
const maxAttempts = math.MaxUint16

// extras are what few calls have.
type extras struct {
	looked  reverseproxy.UpstreamPool // up, for the first Select
	refusal error                     // instead of a first attempt
	kept    *keptAnswer               // for want of a better one
	unfit   *unfit                    // why the body cannot be edited
	failed  suspects                  // attempts whose failures may be the request's own
	whole   bool                      // the body is recorded whole, and is a JSON object
	skipped bool                      // an endpoint was passed over because the body is unfit
	// the client's own values of credentialFields, where some endpoints get them
	credentials [len(credentialFields)]string
}

// extra is where the call's extras are written.
func (c *call) extra() *extras {
	if c.extras == nil {
		c.extras = new(extras)
	}
	return c.extras
}

// began is when the call's first attempt was reserved.
func (c *call) began() time.Time { return c.first.began }

// late tells whether the call's deadline has passed at a time.
func (c *call) late(at time.Time) bool {
	d := c.handler.retry.deadline
	if d > 0 && c.body != nil {
		at = at.Add(c.body.before)
	}
	return d > 0 && at.Sub(c.began()) >= d
}

// latestCall returns the latest of a request's calls for which is holds; nil if there is
// none.
func latestCall(first *call, is func(*call) bool) *call {
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
func (c *call) upstreams() reverseproxy.UpstreamPool {
	if c.extras == nil {
		return nil
	}
	return c.extras.looked
}

// takeCredentials takes the client's credentials out of the request, or notes them where
// some endpoints get them: now, before header_up makes something else of them.
func (c *call) takeCredentials() {
	r := c.request
	if c.handler.stripsAll {
		for _, field := range credentialFields {
			delete(r.Header, field)
			delete(r.Trailer, field)
		}
		return
	}
	own := &c.extra().credentials
	for i, field := range credentialFields {
		own[i] = r.Header.Get(field)
	}
}

// exclude keeps further attempts from a target, whichever table it is from.
func (c *call) exclude(t *target) { c.excluded = &exclusion{t, c.excluded} }

// An exclusion is of a target that was tried, or is not to be.
type exclusion struct {
	target  *target
	earlier *exclusion
}

func (c *call) isExcluded(t *target) bool {
	for x := c.excluded; x != nil; x = x.earlier {
		e := x.target
		if e == t || e.state == t.state && e.state != nil {
			return true
		}
	}
	return false
}

// finish says that no attempt will follow.
func (c *call) finish() {
	c.finished = true
	if c.body != nil && !c.handler.rematches {
		c.body.finish()
	}
}

// placeholder answers for {http.failover.*}, from the request's latest call.
func (c *call) placeholder(key string) (any, bool) {
	const prefix = "http.failover."
	if len(key) <= len(prefix) || key[:len(prefix)] != prefix {
		return nil, false
	}
	latest := c.before
	switch key[len(prefix):] {
	case "pool":
		return latest.handler.name, true
	case "endpoint": // the one that is about to be asked, for header_up
		if a := cmp.Or(latest.next, latest.current); a != nil {
			return a.target.name, true
		}
		return "", true
	case "attempts": // with the one that is about to be made
		return int(latest.attempts), true
	case "outcome":
		if a := latest.current; a != nil {
			return a.known().String(), true
		}
		return "", true
	}
	return nil, false
}
