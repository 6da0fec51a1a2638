// Package link watches the connections to endpoints: what they bring, and which of them
// are to be used no longer.
package link

//lint:file-ignore SA1019 Caddy sets its transports up with golang.org/x/net/http2, and only its ClientConn lets one connection be put out of use.

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http2"
)

// A Conn is a connection to an endpoint, below TLS. Any goroutine may ask it.
type Conn struct {
	net.Conn
	links *links
	addr  string // what was dialed, host and port

	brought atomic.Uint64 // reads that brought something
	took    atomic.Uint64 // writes that took something
	speaks  atomic.Uint32 // a protocol; 0: not known yet
	retired atomic.Bool

	over     chan struct{} // closed when nothing more will be read
	overOnce sync.Once
}

const (
	http1 = 1 + iota
	http2Only
)

// Of is the Conn that carries what net/http calls a connection, and notes that it carries
// requests from now on; nil if nobody watches it.
func Of(conn net.Conn) *Conn {
	speaks := uint32(http1)
	for {
		switch c := conn.(type) {
		case *Conn:
			if c.speaks.Load() == 0 {
				if c.links.h2c {
					speaks = http2Only
				}
				c.speaks.Store(speaks)
			}
			return c
		case *tls.Conn:
			conn = c.NetConn()
			if below, ok := conn.(*Conn); ok && below.speaks.Load() == 0 {
				if c.ConnectionState().NegotiatedProtocol == http2.NextProtoTLS {
					speaks = http2Only
				}
				below.speaks.Store(speaks)
			}
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			return nil
		}
	}
}

// NetConn is the connection that is watched.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// Brought counts what the connection has brought: two calls return the same if nothing
// came in between.
func (c *Conn) Brought() uint64 { return c.brought.Load() }

// Took counts what the connection has taken: two calls return the same if nothing was
// written in between.
func (c *Conn) Took() uint64 { return c.took.Load() }

// IsHTTP2 tells whether requests share the connection.
func (c *Conn) IsHTTP2() bool { return c.speaks.Load() == http2Only }

// Queued is how many bytes that were written the other side has not taken yet, as far as the
// system tells.
func (c *Conn) Queued() (n int) {
	if below, ok := c.Conn.(syscall.Conn); ok {
		if raw, err := below.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { n = queued(fd) })
		}
	}
	return n
}

// Read implements io.Reader.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.brought.Add(1)
	}
	if err != nil && !isTimeout(err) {
		c.readingEnds()
	}
	return n, err
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}

// largestWrite is how much is written at once, so that it can be seen how it goes.
const largestWrite = 64 << 10

// Write implements io.Writer. An endpoint that answers before it has read the whole
// request, and closes the connection, breaks the write; its answer can still be read. net/http
// would drop it on the error of the write, which therefore waits until nothing more is to
// be read. HTTP/2 tells the two apart.
func (c *Conn) Write(p []byte) (n int, err error) {
	for more := true; more; {
		part := p[n:]
		if more = len(part) > largestWrite; more {
			part = part[:largestWrite]
		}
		var k int
		k, err = c.Conn.Write(part)
		if n += k; k > 0 {
			c.took.Add(1)
		}
		more = more && err == nil
	}
	if err != nil && c.speaks.Load() == http1 && (errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)) {
		<-c.over
	}
	return n, err
}

// CloseWrite ends what is sent, where the connection can do that by halves.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close implements io.Closer.
func (c *Conn) Close() error {
	c.readingEnds()
	return c.Conn.Close()
}

func (c *Conn) readingEnds() { c.overOnce.Do(func() { close(c.over) }) }

// sweepEvery is how often idle connections are closed at most.
const sweepEvery = time.Second

// Retire puts a connection out of use that has brought nothing for a request: no request
// gets it any longer, and what it carries goes on to its end. Reused tells whether it was
// idle before the request. Then others that were may be as dead, and the transport closes
// what is idle.
func (c *Conn) Retire(reused bool, now time.Time) {
	if reused && c.links.sweepDue(now) {
		c.links.h1.CloseIdleConnections()
	}
	if !c.IsHTTP2() || c.retired.Swap(true) {
		return
	}
	cc := c.links.inUse(c.addr)
	if cc == nil {
		_ = c.Conn.Close() // it cannot be had alone
		return
	}
	cc.SetDoNotReuse()
	go func() { _ = cc.Shutdown(context.Background()) }() // ends with what the connection carries
}

// links are the connections of a transport.
type links struct {
	h1  *http.Transport
	h2  *http2.Transport // nil: it does not speak HTTP/2
	h2c bool

	mu    sync.Mutex
	swept time.Time
}

func (l *links) sweepDue(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if since := now.Sub(l.swept); since >= 0 && since < sweepEvery {
		return false
	}
	l.swept = now
	return true
}

// inUse is the HTTP/2 connection that the next request to an address would get; nil if
// that would be a new one.
func (l *links) inUse(addr string) *http2.ClientConn {
	if l.h2 == nil || l.h2.ConnPool == nil {
		return nil
	}
	r, err := http.NewRequest(http.MethodGet, "https://"+addr, nil)
	if err != nil {
		return nil
	}
	cc, err := l.h2.ConnPool.GetClientConn(r, addr)
	if err != nil {
		return nil
	}
	return cc
}

// A Dialer is who wants a connection, as Watch finds it in a context under DialerKey.
type Dialer interface {
	// Dialed tells that the endpoint, or the proxy on the way to it, has taken the connection.
	Dialed()
}

// DialerKey is where a context has its Dialer.
type DialerKey struct{}

// Watch returns a transport like t, which has not been used, whose connections are watched.
func Watch(t *http.Transport) *http.Transport {
	l := new(links)
	watched := t
	if _, speaks := t.TLSNextProto[http2.NextProtoTLS]; speaks {
		watched = t.Clone()
		watched.TLSNextProto = nil
		h2, err := http2.ConfigureTransports(watched)
		if err != nil {
			return t
		}
		l.h2 = h2
	}
	l.h1 = watched
	l.h2c = watched.Protocols != nil && watched.Protocols.UnencryptedHTTP2() && !watched.Protocols.HTTP1()
	dial := watched.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	watched.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		if d, ok := ctx.Value(DialerKey{}).(Dialer); ok {
			d.Dialed()
		}
		return &Conn{Conn: conn, links: l, addr: addr, over: make(chan struct{})}, nil
	}
	return watched
}
