package call

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/link"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/pool"
	"github.com/apifailover/caddy-failover/internal/replay"
	"github.com/apifailover/caddy-failover/internal/target"
)

// A Transport wraps the proxy's own transport, and makes the attempts of a handler's calls through it.
// It reports each outcome to the endpoint's state, and decides whether the call moves on. If so, it
// returns a dial error, because the proxy retries these for any method.
type Transport struct {
	http.RoundTripper
	Handler       *Handler
	proxyProtocol bool  // the wrapped transport's ProxyProtocolEnabled; the proxy needs it for every request
	maxHeader     int64 // the wrapped transport's MaxResponseHeaderBytes
}

// NewTransport wraps the proxy's own transport for a handler. The wrapped transport must be
// unused.
func NewTransport(wrapped http.RoundTripper, h *Handler) *Transport {
	t := &Transport{RoundTripper: wrapped, Handler: h}
	if own, ok := wrapped.(*reverseproxy.HTTPTransport); ok && own.Transport != nil {
		t.maxHeader = own.Transport.MaxResponseHeaderBytes
		own.Transport = link.Watch(own.Transport, target.DialingAt)
	}
	inner, ok := wrapped.(reverseproxy.ProxyProtocolTransport)
	t.proxyProtocol = ok && inner.ProxyProtocolEnabled()
	h.transport = t
	return t
}

// usable returns a response that a client can get, else an error.
func (t *Transport) usable(out *http.Request, resp *http.Response) (*http.Response, error) {
	err := outcome.Unusable(out, resp)
	if err == nil && t.maxHeader > 0 && link.Oversized(resp, t.maxHeader) {
		err = fmt.Errorf("malformed response: header exceeds %d bytes", t.maxHeader)
	}
	if err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// failed settles an attempt without an answer, moves the call on if it may, and returns the error for
// the proxy.
func (c *Call) failed(a *Attempt, err error, now time.Time) error {
	defer c.leaveBody()
	o := c.blame(a, err, now)
	a.diedWith(o, err)
	what := ""
	if o.Failed() || a.endedWhy() == endpoint.EndedByRescue {
		what = a.whatFailed(err, now)
	}
	a.settleFor(what, now, o, true, c.inDoubt(a, o))
	if a.race() != nil {
		if a.overtaken() {
			return errOvertaken
		}
		now = time.Now() // overtaken may have waited for the rival
	}
	if a.endedWhy() == endpoint.EndedByRescue { // the next attempt notices if the client has left
		c.moveTo(a, a.rescued.to, reasonRescued, what, now)
		return reverseproxy.NewDialError(fmt.Errorf("endpoint %s opened", a.Target.Name))
	}
	if a.endedWhy() == endpoint.EndedByDeadline {
		c.finished = true
		if a.clientSlow(now) {
			c.record(a, outcome.Cancelled)
			c.body.StopReading(now)
			return clientSlow()
		}
		c.record(a, outcome.FailedTimeout)
		return &outcome.TimeoutError{Endpoint: a.Target.Name, After: now.Sub(a.Began)}
	}
	if o == outcome.Cancelled {
		c.finished = true
		c.record(a, outcome.Cancelled)
		if c.body != nil && c.body.Broken() || errors.Is(err, replay.ErrReplaced) {
			return err // says why the client's body could not be read
		}
		return outcome.ErrClientGone
	}
	if o == outcome.Unsent {
		c.finished = true
		if outcome.ClientsMistake(err) {
			c.record(a, outcome.Unsent)
			return caddyhttp.Error(http.StatusBadRequest, err)
		}
		if !c.recorded.Swap(true) {
			c.Handler.Pool.Refused(pool.AllDown)
		}
		return caddyhttp.Error(http.StatusBadGateway, err)
	}
	c.suspect(a, o, now)
	if c.moveOn(a, o, what, now) {
		return reverseproxy.NewDialError(fmt.Errorf("%s at endpoint %s: %w", o, a.Target.Name, plain(err)))
	}
	c.failedEverywhere(now)
	reason := c.reasonOf(a, err, o, now)
	if c.waitsFor(o, what, reason, now) {
		return reverseproxy.NewDialError(fmt.Errorf("%s at endpoint %s: %w", o, a.Target.Name, plain(err)))
	}
	c.finished = true
	c.record(a, o)
	return reason
}

// reasonOf returns the error for the proxy if the call ends with a failed attempt.
func (c *Call) reasonOf(a *Attempt, err error, o outcome.Outcome, now time.Time) error {
	if o == outcome.FailedTimeout || o == outcome.Stalled || a.endedWhy() == endpoint.EndedByTimeout {
		return &outcome.TimeoutError{Endpoint: a.Target.Name, After: now.Sub(a.Began)}
	}
	if c.extras != nil {
		err = c.extras.failed.answerFor(err)
	}
	return last(err)
}

// blame returns the outcome of a round trip that returned err. The outcome says whose fault it was.
func (c *Call) blame(a *Attempt, err error, now time.Time) outcome.Outcome {
	ended := a.conclude()
	if !a.wasRefused(outcome.FailedTimeout) { // else nothing was sent on the latest connection
		a.leaveConnection(ended, now)
	}
	switch ended {
	case endpoint.EndedByTimeout:
		if a.hadNoConnection() {
			return a.withoutConnection()
		}
		if c.body != nil && a.wasRefused(outcome.FailedTimeout) {
			c.body.TakeBack()
		}
		return outcome.FailedTimeout
	case endpoint.EndedByIdle:
		return outcome.Stalled
	case endpoint.EndedByClient:
		a.ClientLeft = c.waitedOut(now)
		return outcome.Cancelled
	case endpoint.EndedByRescue, endpoint.EndedByHedge:
		return outcome.Cancelled
	case endpoint.EndedByDeadline:
		// An endpoint is not slow if earlier attempts left it little time.
		if whole := min(a.Timeout, c.Handler.Retry.Deadline); a.WaitedFor(now) < whole/2 || a.clientSlow(now) {
			return outcome.Cancelled
		}
		return outcome.FailedTimeout
	}
	if a.client.Err() != nil {
		a.ClientLeft = c.waitedOut(now)
		return outcome.Cancelled
	}
	if c.body != nil && c.body.Broken() || errors.Is(err, replay.ErrReplaced) {
		return outcome.Cancelled
	}
	o := target.OutcomeOf(err)
	switch {
	case o != outcome.Unsent && o != outcome.FailedDial && o != outcome.FailedTLS && a.hadNoConnection():
		return a.withoutConnection()
	case o == outcome.FailedReset && a.sentNothing():
		if c.body != nil {
			c.body.TakeBack()
		}
		return outcome.FailedDial
	case o == outcome.FailedTLS && (a.sent.Begun() || a.is(connected) && !outcome.SaysPeer(err)):
		return outcome.FailedReset // the handshake was complete, so the endpoint may have acted
	case o == outcome.FailedReset && outcome.StreamRefused(err):
		a.RefusedAlone = true
	case o == outcome.FailedReset && a.wasForgotten(err):
		a.conn.Load().Retire(true, now) // the other idle connections may be forgotten, too
	}
	return o
}

// plain returns an error with only the text of err. The proxy would take a wrapped context.Canceled
// to mean that the client left.
func plain(err error) error { return errors.New(err.Error()) }

// answeredBadly settles an answer by which the endpoint failed or wants no calls for now. It moves the
// call on or gives the answer to the client.
func (c *Call) answeredBadly(a *Attempt, resp *http.Response, o outcome.Outcome, now time.Time) (*http.Response, error) {
	a.RetryAfter = a.askedToWait(resp, o, now)
	now = time.Now() // askedToWait may have waited for the body
	what := whatStatus(resp)
	a.settleFor(what, now, o, false, c.inDoubt(a, o))
	if a.race() != nil {
		if a.overtaken() {
			resp.Body.Close()
			a.Settle(now, o, true)
			return nil, errOvertaken
		}
		now = time.Now() // overtaken may have waited for the rival
	}
	c.suspect(a, o, now)
	if c.moveOn(a, o, what, now) {
		resp.Body.Close()
		a.Settle(now, o, true)
		return nil, reverseproxy.NewDialError(fmt.Errorf("%s at endpoint %s: status %d", o, a.Target.Name, resp.StatusCode))
	}
	c.noneFollows(a, o, now)
	if c.waitsFor(o, what, nil, now) {
		resp.Body.Close()
		a.Settle(now, o, true)
		return nil, reverseproxy.NewDialError(fmt.Errorf("%s at endpoint %s: status %d", o, a.Target.Name, resp.StatusCode))
	}
	c.finished = true
	if !c.Handler.Rematches {
		c.record(a, o)
	}
	a.follow(resp)
	return resp, nil
}

// moveOn moves the call on to a next attempt, and reports whether there is one.
func (c *Call) moveOn(a *Attempt, o outcome.Outcome, what string, now time.Time) bool {
	next := c.Plan(now, a, o)
	if next == nil {
		return false
	}
	c.moveTo(a, next, o.String(), what, now)
	return true
}

// moveTo makes next the call's next attempt, and records the failover. what is the cause in a few words;
// empty: a did not fail.
func (c *Call) moveTo(a, next *Attempt, reason, what string, now time.Time) {
	c.Attempts++
	c.Next = next
	if c.traced {
		a.spanMovedOn(next, reason)
	}
	if a.sent != nil {
		a.sent.Close()
	}
	if next.Target != a.Target {
		if reason != reasonNextOn && reason != reasonRetryMatch {
			c.extra().saved = true
		}
		a.Target.State.CountFailover(next.Target.Name, reason)
		c.Handler.Pool.Emit(event.Event{
			At:       now,
			Kind:     event.Failover,
			Endpoint: a.Target.Name,
			Scope:    c.scope(),
			To:       next.Target.Name,
			Reason:   reason,
			Details:  c.failoverDetails(a, what, now),
		})
	}
}

// The methods below implement the optional interfaces of the proxy's transport by the wrapped one.

// TLSEnabled implements reverseproxy.TLSTransport.
func (t *Transport) TLSEnabled() bool {
	inner, ok := t.RoundTripper.(reverseproxy.TLSTransport)
	return ok && inner.TLSEnabled()
}

// EnableTLS implements reverseproxy.TLSTransport.
func (t *Transport) EnableTLS(base *reverseproxy.TLSConfig) error {
	if inner, ok := t.RoundTripper.(reverseproxy.TLSTransport); ok {
		return inner.EnableTLS(base)
	}
	return fmt.Errorf("transport %T does not do TLS", t.RoundTripper)
}

// EnableH2C implements reverseproxy.H2CTransport.
func (t *Transport) EnableH2C() error {
	if inner, ok := t.RoundTripper.(reverseproxy.H2CTransport); ok {
		return inner.EnableH2C()
	}
	return fmt.Errorf("transport %T does not do HTTP/2 without TLS", t.RoundTripper)
}

// ProxyProtocolEnabled implements reverseproxy.ProxyProtocolTransport.
func (t *Transport) ProxyProtocolEnabled() bool { return t.proxyProtocol }

// OverrideHealthCheckScheme implements
// reverseproxy.HealthCheckSchemeOverriderTransport.
func (t *Transport) OverrideHealthCheckScheme(base *url.URL, port string) {
	if inner, ok := t.RoundTripper.(reverseproxy.HealthCheckSchemeOverriderTransport); ok {
		inner.OverrideHealthCheckScheme(base, port)
	}
}

// RequiresContentLength implements reverseproxy.ContentLengthRequiredTransport.
func (t *Transport) RequiresContentLength() bool {
	inner, ok := t.RoundTripper.(reverseproxy.ContentLengthRequiredTransport)
	return ok && inner.RequiresContentLength()
}

// DefaultBufferSizes implements reverseproxy.BufferedTransport.
func (t *Transport) DefaultBufferSizes() (request, response int64) {
	if inner, ok := t.RoundTripper.(reverseproxy.BufferedTransport); ok {
		return inner.DefaultBufferSizes()
	}
	return 0, 0
}

// RequestHeaderOps implements reverseproxy.RequestHeaderOpsTransport.
func (t *Transport) RequestHeaderOps() *headers.HeaderOps {
	if inner, ok := t.RoundTripper.(reverseproxy.RequestHeaderOpsTransport); ok {
		return inner.RequestHeaderOps()
	}
	return nil
}

var (
	_ http.RoundTripper                                = (*Transport)(nil)
	_ reverseproxy.TLSTransport                        = (*Transport)(nil)
	_ reverseproxy.H2CTransport                        = (*Transport)(nil)
	_ reverseproxy.ProxyProtocolTransport              = (*Transport)(nil)
	_ reverseproxy.HealthCheckSchemeOverriderTransport = (*Transport)(nil)
	_ reverseproxy.ContentLengthRequiredTransport      = (*Transport)(nil)
	_ reverseproxy.BufferedTransport                   = (*Transport)(nil)
	_ reverseproxy.RequestHeaderOpsTransport           = (*Transport)(nil)
)
