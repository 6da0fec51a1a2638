package replay

import (
	"net"
	"syscall"
)

// A connection is the connection of an attempt to its endpoint.
type connection struct{ raw syscall.RawConn }

// SentOn sets the connection that the body is sent on. LookForLoss looks at it.
func (r *Reader) SentOn(conn net.Conn) {
	if r.Recording.memory == nil {
		r.conn.Store(connectionOf(conn))
	}
}

// closed reports whether net/http has closed the connection, which it does when the endpoint
// has. It does not block.
func (c *connection) closed() bool { return c.raw.Control(func(uintptr) {}) != nil }

// connectionOf returns the system's connection below conn; nil if there is none.
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

// LookForLoss cuts off a reader whose endpoint has closed the connection.
func (r *Reader) LookForLoss() {
	if c := r.conn.Load(); c != nil && c.closed() {
		r.Cut(errConnectionLost)
	}
}
