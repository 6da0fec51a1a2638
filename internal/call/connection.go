package call

import (
	"net/http/httptrace"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/link"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// A connection is not an endpoint. Until a request has had one, whatever goes wrong, it
// cannot have been processed; and one that is dead is left, so that the next request tells of
// the endpoint again.

// traceConnection has the transport tell which connection the request gets. The proxy's own
// trace is for one round trip, and is changed in place, which saves a copy.
func (a *Attempt) traceConnection() {
	if a.dial() != nil {
		return // Value has a copy
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
	a.reused = info.Reused
	c := link.Of(info.Conn)
	if c != nil {
		a.before.brought, a.before.took = c.Brought(), c.Took()
	}
	a.conn.Store(c)
	if a.sent != nil {
		a.sent.SentOn(info.Conn)
	}
	a.set(connected)
}

// Dialed implements link.Dialer.
func (a *Attempt) Dialed() { a.set(dialed) }

var _ link.Dialer = (*Attempt)(nil)

// hadNoConnection tells whether it is known that the request, which has failed, was never
// given a connection.
func (a *Attempt) hadNoConnection() bool {
	return !a.is(connected) && a.Call.Handler.tracesConnections()
}

// tracesConnections tells whether the transport tells which connection a request gets. That
// of another module may not.
func (h *Handler) tracesConnections() bool {
	if h.traces.Load() || h.transport == nil {
		return h.traces.Load()
	}
	_, caddys := h.transport.RoundTripper.(*reverseproxy.HTTPTransport)
	return caddys
}

// withoutConnection says what an attempt came to whose request was never given a
// connection.
func (a *Attempt) withoutConnection() outcome.Outcome {
	https := !a.Call.Handler.Plain || a.Target.URL != nil && a.Target.URL.Scheme == "https"
	if !https || !a.is(dialed) {
		return outcome.FailedDial
	}
	if a.hedge == nil { // else the rival may be writing to the vars
		if _, proxied := a.Call.vars[proxyKey]; proxied {
			return outcome.FailedDial
		}
	}
	return outcome.FailedTLS
}

// proxyKey is where the proxy's transport notes that it goes through another proxy. The
// constant is not exported.
const proxyKey = "reverse_proxy.proxy"

// sentNothing tells whether the request, which has failed, was given a connection that took
// nothing of it.
func (a *Attempt) sentNothing() bool {
	c := a.conn.Load()
	return c != nil && !c.IsHTTP2() && c.Took() == a.before.took
}

// leftAfter is how long an attempt that the client or a hedge has ended must have waited
// before its connection can be found dead.
const leftAfter = time.Second

// leaveConnection puts the connection of an attempt that was ended before its answer out of
// use, if it has brought nothing for it.
func (a *Attempt) leaveConnection(why endpoint.Ending, now time.Time) {
	c := a.conn.Load()
	if c == nil || c.Brought() != a.before.brought {
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
