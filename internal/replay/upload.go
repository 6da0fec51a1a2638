package replay

import (
	"net"
	"syscall"
)

// A connection is that of an attempt to its endpoint.
type connection struct{ raw syscall.RawConn }

// SentOn says on which connection the body is sent.
func (r *Reader) SentOn(conn net.Conn) {
	if r.Recording.memory == nil {
		r.conn.Store(connectionOf(conn))
	}
}

// closed tells whether net/http has closed the connection, as it does when the
// endpoint has. It waits for nothing.
func (c *connection) closed() bool { return c.raw.Control(func(uintptr) {}) != nil }

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
