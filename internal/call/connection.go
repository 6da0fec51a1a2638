package call

import (
	"errors"
	"net/http/httptrace"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/link"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// A failed connection is not a failed endpoint. The endpoint cannot have acted on a request that
// never had a connection. A dead connection is retired, so that the next request tests the endpoint
// itself.

// traceConnection makes the transport report which connection the request gets. It modifies the
// proxy's trace, which is made for one round trip, instead of cloning it.
func (a *Attempt) traceConnection() {
	if a.dial() != nil {
		return // Value returns a copy of the trace
	}
	trace := httptrace.ContextClientTrace(a.client)
	if trace == nil {
		a.client = httptrace.WithClientTrace(a.client, &httptrace.ClientTrace{GotConn: a.gotConn})
		return
	}
	a.keepInformational(trace)
	others := trace.GotConn
	if others == nil {
		trace.GotConn = a.gotConn
		return
	}
	trace.GotConn = func(info httptrace.GotConnInfo) {
		a.gotConn(info)
		others(info)
	}
}

// gotConn notes the connection that the request is sent on.
func (a *Attempt) gotConn(info httptrace.GotConnInfo) {
	if h := a.Call.Handler; !h.traces.Load() {
		h.traces.Store(true)
	}
	a.reused = info.Reused || info.WasIdle
	c := link.Of(info.Conn)
	if c != nil {
		a.before.brought, a.before.took = c.Brought(), c.Took()
	}
	a.conn.Store(c)
	if a.sent != nil {
		a.sent.SentOn(info.Conn)
	}
	a.set(connected)
	if c != nil && c.IsHTTP2() {
		if a.tries++; a.tries > mostTries && a.Call.Handler.Retry.Attempts > 1 {
			a.leaveRefused(time.Now())
		}
	}
}

const (
	// mostTries is how often an attempt's request may be sent over HTTP/2, if the call can go on. The transport sends a
	// request again that the endpoint has not processed (GOAWAY, REFUSED_STREAM): at once, then after pauses of 1 s to
	// half a minute. An endpoint that is well takes the second, so the attempt is over like one whose timeout has passed,
	// but a request of any method may move on.
	mostTries = 2
	// lastTry is the same for a call that cannot go on. After REFUSED_STREAM it is the transport's own bound; after
	// GOAWAY the transport has none, and makes no pauses.
	lastTry = 8
)

// leaveRefused ends an attempt that the endpoint's HTTP/2 layer has refused, if the call goes on or the attempt
// has had its last try. Otherwise the transport goes on, as it does without retries: an endpoint that takes few requests at
// once serves all that come together after a while. The request's goroutine calls it before it sends the request.
func (a *Attempt) leaveRefused(now time.Time) {
	c, x := a.Call, a.race()
	if x != nil {
		x.mu.Lock()
		defer x.mu.Unlock()
	}
	a.mu.Lock()
	if a.endedWhy() != endpoint.NotEnded || !a.first.CompareAndSwap(0, givenUp) {
		a.mu.Unlock()
		return
	}
	if a.dial() == nil && a.tries <= lastTry { // a rival has no next attempt
		var next *Attempt
		if x == nil || !x.helpsLocked() {
			next = c.planAfterRefusals(now, a)
		}
		if next == nil {
			a.first.Store(0)
			a.mu.Unlock()
			return
		}
		c.extra().reserved = next
	}
	a.refused = true
	a.endAndUnlock(endpoint.EndedByTimeout)
}

// Dialed implements link.Dialer.
func (a *Attempt) Dialed() { a.set(dialed) }

var _ link.Dialer = (*Attempt)(nil)

// hadNoConnection reports whether a failed request certainly never got a connection.
func (a *Attempt) hadNoConnection() bool {
	return !a.is(connected) && a.Call.Handler.tracesConnections()
}

// tracesConnections reports whether the transport reports which connection a request gets. A transport
// other than Caddy's may not do that.
func (h *Handler) tracesConnections() bool {
	if h.traces.Load() || h.transport == nil {
		return h.traces.Load()
	}
	_, caddys := h.transport.RoundTripper.(*reverseproxy.HTTPTransport)
	return caddys
}

// withoutConnection returns the outcome of an attempt whose request never got a connection.
func (a *Attempt) withoutConnection() outcome.Outcome {
	https := !a.Call.Handler.Plain || a.Target.URL != nil && a.Target.URL.Scheme == "https"
	if !https || !a.is(dialed) {
		return outcome.FailedDial
	}
	if a.hedge == nil { // in a race, the rival may write to the vars at the same time
		if _, proxied := a.Call.vars[proxyKey]; proxied {
			return outcome.FailedDial
		}
	}
	return outcome.FailedTLS
}

// proxyKey is the var in which the proxy's transport notes that it uses a forward proxy. Caddy
// does not export the constant.
const proxyKey = "reverse_proxy.proxy"

// sentNothing reports whether a failed request got an HTTP/1 connection that took nothing of it.
func (a *Attempt) sentNothing() bool {
	c := a.conn.Load()
	return c != nil && !c.IsHTTP2() && c.Took() == a.before.took
}

// wasRefused reports whether an attempt with this outcome is over because the endpoint has processed nothing of its
// request on several HTTP/2 connections.
func (a *Attempt) wasRefused(o outcome.Outcome) bool {
	return o == outcome.FailedTimeout && a.refused
}

// unprocessed reports whether the endpoint certainly has not processed the request of an attempt with this outcome, and
// does not count it against its limits: the request was not sent, or the endpoint's HTTP/2 layer refused it.
func (a *Attempt) unprocessed(o outcome.Outcome) bool {
	switch {
	case !a.is(started):
		return true
	case o == outcome.FailedTimeout:
		return a.wasRefused(o)
	case o == outcome.Cancelled:
		return a.hadNoConnection() || a.sentNothing()
	}
	return o == outcome.FailedDial || o == outcome.FailedTLS || o == outcome.Unsent || a.RefusedAlone
}

// diedWith notes that an attempt failed because its connection died: it carries nothing any more and
// has been retired, or it ended. All attempts on an HTTP/2 connection die with it, so only the first of them
// speaks of the endpoint. So it is with idle HTTP/1 connections, which an endpoint that restarts, or
// something on the way to it, has forgotten. err is the error of the round trip; nil: it brought a response.
func (a *Attempt) diedWith(o outcome.Outcome, err error) {
	c := a.conn.Load()
	switch {
	case c == nil:
		return
	case !c.IsHTTP2():
		a.DiedWith = o == outcome.FailedReset && a.wasForgotten(err)
		a.DiedAgain = a.DiedWith && c.Fails()
		return
	}
	switch o {
	case outcome.FailedTimeout:
		a.DiedWith = c.Retired()
	case outcome.FailedReset, outcome.Truncated:
		a.DiedWith = c.Ended()
	}
	a.DiedAgain = a.DiedWith && c.Fails()
}

// wasForgotten reports whether a failed request got an HTTP/1 connection that had been idle, and that the other side did not
// know any more: it answered with a reset. An endpoint that fails at the request ends the connection in order, as a rule.
func (a *Attempt) wasForgotten(err error) bool {
	c := a.conn.Load()
	return c != nil && !c.IsHTTP2() && a.reused && c.Brought() == a.before.brought &&
		(errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE))
}

// leaveSilent retires the HTTP/2 connection of a response that its client has left, if nothing has arrived on
// the connection for leftAfter.
func (a *Attempt) leaveSilent(now time.Time) {
	if c := a.conn.Load(); c != nil && c.IsHTTP2() && c.QuietFor(now) >= leftAfter {
		a.DiedAgain = c.Leaves()
		c.Retire(false, now)
	}
}

// leftAfter is how long an attempt must have waited for its connection to be retired, if the
// client, a hedge or the deadline ended it.
const leftAfter = time.Second

// leaveConnection retires the connection of an attempt that was ended before its answer, if no byte
// arrived on it during the attempt. After a timeout, half of that time without a byte suffices on an
// HTTP/2 connection, where other answers arrive.
func (a *Attempt) leaveConnection(why endpoint.Ending, now time.Time) {
	c := a.conn.Load()
	if c == nil || c.Brought() != a.before.brought &&
		(why != endpoint.EndedByTimeout || !c.IsHTTP2() || c.QuietFor(now) < a.Timeout/2) {
		return
	}
	switch why {
	case endpoint.EndedByTimeout, endpoint.EndedByRescue:
	case endpoint.EndedByClient, endpoint.EndedByHedge, endpoint.EndedByDeadline:
		if a.WaitedFor(now) < leftAfter {
			return
		}
	default:
		return
	}
	c.Retire(a.reused, now)
}
