package failover

import (
	"net"
	"net/http/httptrace"
	"syscall"
	"time"
)

// An upload can wait for its client: what the endpoint's limit and the watcher make of
// that.

const (
	// pausedAfter is how long an attempt waits for its client before it fills no slot of
	// the endpoint's max_requests: over that time the client had at least pausedPart.
	pausedAfter = time.Second
	pausedPart  = 0.9
	// lookAfter is how long it waits before it is looked whether its connection is alive.
	lookAfter = 50 * time.Millisecond
	// restOfBody is how long the client of a call that failed has to send the rest of its
	// body before it is answered.
	restOfBody = 250 * time.Millisecond
)

// pace is how an upload has been coming, as far as the watcher knows. It is guarded by
// the state's mutex.
type pace struct {
	at     time.Time     // of the last look, or when the attempt began
	had    time.Duration // how long the endpoint had had the attempt by then
	vacant bool          // the attempt fills no slot
}

// paceLocked counts an attempt that waits for its client as filling no slot, and again
// as filling one when the client sends. Until the watcher has looked again, at most 50 ms, the
// endpoint may have more attempts than its limit.
func (s *endpointState) paceLocked(f flight, now time.Time) {
	if !f.uploads() {
		return
	}
	t := f.own()
	p := t.pace
	if f.firstByte() > 0 { // the endpoint is at work, whatever the client does
		if p != nil {
			s.vacateLocked(p, false)
		}
		return
	}
	if p == nil {
		t.pace = &pace{at: f.startedAt()}
		return
	}
	had := f.waitedFor(now)
	switch took := now.Sub(p.at); {
	case took >= pausedAfter:
		s.vacateLocked(p, f.waitsForClient() && float64(had-p.had) <= (1-pausedPart)*float64(took))
		p.at, p.had = now, had
	case p.vacant && float64(had-p.had) > (1-pausedPart)*float64(pausedAfter):
		s.vacateLocked(p, false)
	}
}

func (s *endpointState) vacateLocked(p *pace, vacant bool) {
	switch {
	case vacant && !p.vacant:
		s.vacant++
	case !vacant && p.vacant:
		s.vacant--
	}
	p.vacant = vacant
}

// fullLocked tells whether the endpoint has as many attempts as it may; limit 0: no
// limit. Attempts that wait for their clients are not counted.
func (s *endpointState) fullLocked(limit int) bool {
	return limit > 0 && s.busy.Load()-int64(s.vacant) >= int64(limit)
}

// A connection is that of an attempt to its endpoint.
type connection struct{ raw syscall.RawConn }

// closed tells whether net/http has closed the connection, as it does when the
// endpoint has. It waits for nothing.
func (c *connection) closed() bool { return c.raw.Control(func(uintptr) {}) != nil }

// traced is the proxy's trace of a round trip, with a note of its connection.
func (r *replay) traced(trace *httptrace.ClientTrace) *httptrace.ClientTrace {
	own := *trace
	own.GotConn = func(info httptrace.GotConnInfo) {
		r.conn.Store(connectionOf(info.Conn))
		if trace.GotConn != nil {
			trace.GotConn(info)
		}
	}
	return &own
}

// connectionOf is how to look at a connection; nil if that cannot be done.
func connectionOf(conn net.Conn) *connection {
	for {
		if below, ok := conn.(interface{ NetConn() net.Conn }); ok {
			conn = below.NetConn()
			continue
		}
		if c, ok := conn.(syscall.Conn); ok {
			if raw, err := c.SyscallConn(); err == nil {
				return &connection{raw}
			}
		}
		return nil
	}
}

// mayBeLost tells the watcher whether to look at the attempt's connection: net/http
// tells nobody of its end while the client is waited for.
func (a *attempt) mayBeLost(now time.Time) bool {
	return a.is(started) && a.sent != nil && a.first.Load() == 0 && a.sent.waitsFor(now, lookAfter)
}

// lookForLoss ends an upload whose endpoint has closed the connection.
func (r *replay) lookForLoss() {
	if c := r.conn.Load(); c != nil && c.closed() {
		r.cut(errConnectionLost)
	}
}

// clientSlow tells whether an attempt that has ended was waiting for its client then, or had
// been for most of the time.
func (a *attempt) clientSlow(now time.Time) bool {
	r := a.sent
	if r == nil || r.whole() != nil {
		return false
	}
	return r.cutIdle() || 2*a.waitedFor(now) < now.Sub(a.began)
}

// leaveBody ends the reading of a client's body that no attempt will need.
func (c *call) leaveBody() {
	if c.finished && c.body != nil && c.body.whole() == nil {
		c.body.stopReading(time.Now().Add(restOfBody))
	}
}
