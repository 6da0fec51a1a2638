package failover

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// transport makes the attempts of a policy's calls through the proxy's own
// transport, which it wraps. It sees every outcome, reports it to the
// endpoint's state, and decides whether the call moves on; the proxy learns of
// that decision by a dial error, which it retries for any method.
type transport struct {
	http.RoundTripper
	handler       *callHandler
	proxyProtocol bool // as the wrapped transport says, which the proxy asks for every request
}

func newTransport(wrapped http.RoundTripper, h *callHandler) *transport {
	inner, ok := wrapped.(reverseproxy.ProxyProtocolTransport)
	return &transport{wrapped, h, ok && inner.ProxyProtocolEnabled()}
}

// refused answers a call that was refused before its first attempt.
func (c *call) refused(r *http.Request) (*http.Response, error) {
	err := c.extras.refusal
	c.extras.refusal, c.finished = nil, true
	if u, ok := err.(*unfit); ok {
		return u.answer(r), nil
	}
	return nil, err
}

// failed deals with an attempt that brought no answer, and returns the error
// that the proxy gets.
func (c *call) failed(a *attempt, err error, now time.Time) error {
	defer c.leaveBody()
	o := c.blame(a, err, now)
	a.settleIn(now, o, true, c.inDoubt(a, o))
	if a.overtaken() {
		return errOvertaken
	}
	if a.endedWhy() == endedByRescue { // if the client has left since, the next attempt will find out
		c.moveTo(a, a.moved.to, reasonRescued, now)
		return reverseproxy.NewDialError(fmt.Errorf("endpoint %s opened", a.target.name))
	}
	if a.endedWhy() == endedByDeadline {
		c.finish()
		if a.clientSlow(now) {
			c.record(a, outcome.Cancelled)
			c.body.stopReading(now)
			return clientSlow()
		}
		c.record(a, outcome.FailedTimeout)
		return &outcome.TimeoutError{Endpoint: a.target.name, After: now.Sub(a.began)}
	}
	if o == outcome.Cancelled {
		c.finish()
		c.record(a, outcome.Cancelled)
		if c.body != nil && c.body.broken() || errors.Is(err, errReplaced) {
			return err // the reason why the client's body could not be read
		}
		return outcome.ErrClientGone
	}
	if o == outcome.Unsent {
		c.finish()
		if outcome.ClientsMistake(err) {
			c.record(a, outcome.Unsent)
			return caddyhttp.Error(http.StatusBadRequest, err)
		}
		if !c.recorded.Swap(true) {
			c.handler.pool.refused(false)
		}
		return caddyhttp.Error(http.StatusBadGateway, err)
	}
	c.suspect(a, o, now)
	if c.moveOn(a, o, now) {
		return reverseproxy.NewDialError(fmt.Errorf("%s at endpoint %s: %w", o, a.target.name, plain(err)))
	}
	c.finish()
	c.blameSuspects(now)
	c.record(a, o)
	if o == outcome.FailedTimeout || o == outcome.Stalled {
		return &outcome.TimeoutError{Endpoint: a.target.name, After: now.Sub(a.began)}
	}
	if c.extras != nil {
		return c.extras.failed.answerFor(err)
	}
	return err
}

// blame says whose fault an error of a round trip is.
func (c *call) blame(a *attempt, err error, now time.Time) outcome.Outcome {
	switch a.conclude() {
	case endedByTimeout:
		return outcome.FailedTimeout
	case endedByIdle:
		return outcome.Stalled
	case endedByClient, endedByRescue, endedByHedge:
		return outcome.Cancelled
	case endedByDeadline:
		// An endpoint that got what others had left of the deadline is not slow.
		if whole := min(a.timeout, c.handler.retry.deadline); a.waitedFor(now) < whole/2 || a.clientSlow(now) {
			return outcome.Cancelled
		}
		return outcome.FailedTimeout
	}
	if a.client.Err() != nil || c.body != nil && c.body.broken() || errors.Is(err, errReplaced) {
		return outcome.Cancelled
	}
	o := outcomeOf(err)
	switch {
	case o == outcome.FailedTLS && a.sent.begun():
		return outcome.FailedReset // the handshake was over: the endpoint may have acted
	case o == outcome.FailedReset && outcome.StreamRefused(err):
		a.refusedAlone = true
	}
	return o
}

// outcomeOf says what an error of the proxy's transport means, which knows dials of its
// own.
func outcomeOf(err error) outcome.Outcome {
	if dial, ok := errors.AsType[reverseproxy.DialError](err); ok {
		return outcome.OfDial(dial)
	}
	return outcome.OfError(err)
}

// plain keeps errors of ours that move a call on from being read as "the client
// left".
func plain(err error) error { return errors.New(err.Error()) }

// answeredBadly deals with an answer that is a failure of the endpoint, or says that it
// wants no more of us for now.
func (c *call) answeredBadly(a *attempt, resp *http.Response, o outcome.Outcome, now time.Time) (*http.Response, error) {
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable {
		a.retryAfter, _ = askedToWait(a, resp, now)
	}
	a.settleIn(now, o, false, c.inDoubt(a, o))
	if a.overtaken() {
		resp.Body.Close()
		a.settle(now, o, true)
		return nil, errOvertaken
	}
	c.suspect(a, o, now)
	if c.moveOn(a, o, now) {
		resp.Body.Close()
		a.settle(now, o, true)
		return nil, reverseproxy.NewDialError(fmt.Errorf("%s at endpoint %s: status %d", o, a.target.name, resp.StatusCode))
	}
	c.finish()
	c.noneFollows(a, o, now)
	if !c.handler.rematches {
		c.record(a, o)
	}
	a.follow(resp)
	return resp, nil
}

// moveOn reserves the next attempt, if there is to be one, and records the
// failover.
func (c *call) moveOn(a *attempt, o outcome.Outcome, now time.Time) bool {
	next := c.plan(now, a, o)
	if next == nil {
		return false
	}
	c.moveTo(a, next, o.String(), now)
	return true
}

// moveTo makes next the call's next attempt.
func (c *call) moveTo(a, next *attempt, reason string, now time.Time) {
	c.attempts++
	c.next = next
	if a.sent != nil {
		a.sent.Close()
	}
	if next.target != a.target {
		a.target.state.countFailover(next.target.name, reason)
		c.handler.pool.emit(event.Event{
			At:       now,
			Kind:     event.Failover,
			Endpoint: a.target.name,
			To:       next.target.name,
			Reason:   reason,
			Details:  map[string]any{"attempt": int(c.attempts) - 1, "duration_seconds": now.Sub(a.began).Seconds()},
		})
	}
}

// The optional interfaces that the proxy asks of its transport are passed on.

// TLSEnabled implements reverseproxy.TLSTransport.
func (t *transport) TLSEnabled() bool {
	inner, ok := t.RoundTripper.(reverseproxy.TLSTransport)
	return ok && inner.TLSEnabled()
}

// EnableTLS implements reverseproxy.TLSTransport.
func (t *transport) EnableTLS(base *reverseproxy.TLSConfig) error {
	if inner, ok := t.RoundTripper.(reverseproxy.TLSTransport); ok {
		return inner.EnableTLS(base)
	}
	return fmt.Errorf("transport %T does not do TLS", t.RoundTripper)
}

// EnableH2C implements reverseproxy.H2CTransport.
func (t *transport) EnableH2C() error {
	if inner, ok := t.RoundTripper.(reverseproxy.H2CTransport); ok {
		return inner.EnableH2C()
	}
	return fmt.Errorf("transport %T does not do HTTP/2 without TLS", t.RoundTripper)
}

// ProxyProtocolEnabled implements reverseproxy.ProxyProtocolTransport.
func (t *transport) ProxyProtocolEnabled() bool { return t.proxyProtocol }

// OverrideHealthCheckScheme implements
// reverseproxy.HealthCheckSchemeOverriderTransport.
func (t *transport) OverrideHealthCheckScheme(base *url.URL, port string) {
	if inner, ok := t.RoundTripper.(reverseproxy.HealthCheckSchemeOverriderTransport); ok {
		inner.OverrideHealthCheckScheme(base, port)
	}
}

// RequiresContentLength implements reverseproxy.ContentLengthRequiredTransport.
func (t *transport) RequiresContentLength() bool {
	inner, ok := t.RoundTripper.(reverseproxy.ContentLengthRequiredTransport)
	return ok && inner.RequiresContentLength()
}

// DefaultBufferSizes implements reverseproxy.BufferedTransport.
func (t *transport) DefaultBufferSizes() (request, response int64) {
	if inner, ok := t.RoundTripper.(reverseproxy.BufferedTransport); ok {
		return inner.DefaultBufferSizes()
	}
	return 0, 0
}

// RequestHeaderOps implements reverseproxy.RequestHeaderOpsTransport.
func (t *transport) RequestHeaderOps() *headers.HeaderOps {
	if inner, ok := t.RoundTripper.(reverseproxy.RequestHeaderOpsTransport); ok {
		return inner.RequestHeaderOps()
	}
	return nil
}

var (
	_ http.RoundTripper                                = (*transport)(nil)
	_ reverseproxy.TLSTransport                        = (*transport)(nil)
	_ reverseproxy.H2CTransport                        = (*transport)(nil)
	_ reverseproxy.ProxyProtocolTransport              = (*transport)(nil)
	_ reverseproxy.HealthCheckSchemeOverriderTransport = (*transport)(nil)
	_ reverseproxy.ContentLengthRequiredTransport      = (*transport)(nil)
	_ reverseproxy.BufferedTransport                   = (*transport)(nil)
	_ reverseproxy.RequestHeaderOpsTransport           = (*transport)(nil)
)
