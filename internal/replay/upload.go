package replay

import (
	"net"
	"net/http/httptrace"
	"syscall"
)

// A connection is that of an attempt to its endpoint.
type connection struct{ raw syscall.RawConn }

// closed tells whether net/http has closed the connection, as it does when the
// endpoint has. It waits for nothing.
func (c *connection) closed() bool { return c.raw.Control(func(uintptr) {}) != nil }

// Traced is the proxy's trace of a round trip, with a note of its connection.
func (r *Reader) Traced(trace *httptrace.ClientTrace) *httptrace.ClientTrace {
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

// LookForLoss ends an upload whose endpoint has closed the connection.
func (r *Reader) LookForLoss() {
	if c := r.conn.Load(); c != nil && c.closed() {
		r.Cut(errConnectionLost)
	}
}
