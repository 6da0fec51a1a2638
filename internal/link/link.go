// Package link watches the connections to endpoints: it counts reads and writes, and keeps new
// requests off dead connections.
package link

//lint:file-ignore SA1019 Caddy's transports use golang.org/x/net/http2, and only its ClientConn can keep new requests off one connection.

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http2"
)

// A Conn is a connection to an endpoint, below TLS. Its methods are safe for concurrent use.
type Conn struct {
	net.Conn
	links *links
	addr  string // the dialed host and port
	epoch uint64 // links.deaths when it was made

	brought atomic.Uint64 // reads that returned bytes
	took    atomic.Uint64 // writes that wrote bytes
	speaks  atomic.Uint32 // http1, http2Only or upgraded; 0: not known yet
	retired atomic.Bool   // new requests are kept off it
	failed  atomic.Bool   // a request has failed with it
	left    atomic.Bool   // a client has left a silent response on it

	seen  atomic.Uint64 // brought at the latest change that Look saw
	quiet atomic.Int64  // when Look saw that change, nanoseconds since 1970; 0: never

	over     chan struct{} // closed when no read will return more bytes
	overOnce sync.Once
}

const (
	http1 = 1 + iota
	http2Only
	upgraded
)

// Of returns the Conn below a connection of net/http, and notes the Conn's protocol. It returns nil
// if the connection is not watched.
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

// NetConn returns the watched connection.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// Brought returns the number of reads that returned bytes.
func (c *Conn) Brought() uint64 { return c.brought.Load() }

// Took returns the number of writes that wrote bytes.
func (c *Conn) Took() uint64 { return c.took.Load() }

// IsHTTP2 reports whether the connection is known to speak HTTP/2, so that requests share it.
func (c *Conn) IsHTTP2() bool { return c.speaks.Load() == http2Only }

// Look notes whether the connection has brought anything since the latest call.
func (c *Conn) Look(now time.Time) {
	if brought := c.brought.Load(); c.seen.Load() != brought || c.quiet.Load() == 0 {
		c.seen.Store(brought)
		c.quiet.Store(now.UnixNano())
	}
}

// QuietFor returns for how long the connection has brought nothing, as far as calls of Look show.
func (c *Conn) QuietFor(now time.Time) time.Duration {
	since := c.quiet.Load()
	if since == 0 || c.seen.Load() != c.brought.Load() {
		return 0
	}
	return time.Duration(now.UnixNano() - since)
}

// Retired reports whether new requests are kept off the connection because it seems dead.
func (c *Conn) Retired() bool { return c.retired.Load() }

// Ended reports whether no read will return more bytes.
func (c *Conn) Ended() bool {
	select {
	case <-c.over:
		return true
	default:
		return false
	}
}

// Fails notes that a request has failed because the connection died. It reports whether another had
// before, on the same HTTP/2 connection. If it is an HTTP/1 connection that was idle, it reports whether
// another such connection has died since this one was made.
func (c *Conn) Fails() (again bool) {
	if c.IsHTTP2() {
		return c.failed.Swap(true)
	}
	return !c.links.deaths.CompareAndSwap(c.epoch, c.epoch+1)
}

// Leaves notes that a client has left a response while the connection was silent. It reports whether
// another had before.
func (c *Conn) Leaves() (again bool) { return c.left.Swap(true) }

// Upgraded notes that an HTTP/1 connection has switched to another protocol. Then nobody may read
// it while a write is broken.
func (c *Conn) Upgraded() { c.speaks.CompareAndSwap(http1, upgraded) }

// Queued returns how many written bytes the other side has not acknowledged; 0 if the system
// does not tell.
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

// largestWrite is the largest number of bytes in one write to the system. So Took shows progress
// within a large write.
const largestWrite = 64 << 10

// Write implements io.Writer. If an HTTP/1 endpoint answers early and closes the connection, the
// write fails, but the answer can still be read. net/http drops the answer when the write fails. So
// Write returns such an error only after the answer has been read.
// On an upgraded connection it returns the error at once.
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

// A source writes its bytes without copying them to a buffer.
type source interface {
	// WriteUpTo writes n bytes to w, or fewer if it has no more.
	WriteUpTo(w io.Writer, n int64) (int64, error)
}

// ReadFrom implements io.ReaderFrom. net/http calls it with a request's body of a declared length. If
// the body is a source, its bytes are not copied.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	if l, ok := r.(*io.LimitedReader); ok {
		if body, ok := l.R.(source); ok {
			n, err := body.WriteUpTo(c, l.N)
			l.N -= n
			return n, err
		}
	}
	return io.Copy(struct{ io.Writer }{c}, r)
}

// CloseWrite closes the sending half of the connection, or returns errors.ErrUnsupported.
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

// sweepEvery is the shortest time between two sweeps of a transport's idle connections.
const sweepEvery = time.Second

// Retire keeps new requests off a connection on which a request got no answer. Its other requests
// go on. reused says that the connection was idle before the request. Then other idle connections
// may be dead too, so the transport closes them all, at most once per sweepEvery.
func (c *Conn) Retire(reused bool, now time.Time) {
	if reused && c.links.sweepDue(now) {
		c.links.h1.CloseIdleConnections()
	}
	if !c.IsHTTP2() || c.retired.Swap(true) {
		return
	}
	cc := c.links.inUse(c.addr)
	if cc == nil {
		_ = c.Conn.Close() // the HTTP/2 connection on it cannot be found
		return
	}
	cc.SetDoNotReuse()
	go func() { _ = cc.Shutdown(context.Background()) }() // closes it after its last request
}

// links are shared by the connections of one transport.
type links struct {
	h1  *http.Transport
	h2  *http2.Transport // nil: no HTTP/2 over TLS
	h2c bool             // connections without TLS speak HTTP/2

	deaths atomic.Uint64 // of idle HTTP/1 connections; those that were made before the same death count once

	mu    sync.Mutex
	swept time.Time
}

// sweepDue reports whether idle connections may be closed now. If so, it starts the next interval.
func (l *links) sweepDue(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if since := now.Sub(l.swept); since >= 0 && since < sweepEvery {
		return false
	}
	l.swept = now
	return true
}

// inUse returns the HTTP/2 connection that the next request to addr would get; nil if it
// would get a new one.
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

// A Dialer is told when a connection has been dialed for it. A dial finds its Dialer in its context,
// under DialerKey.
type Dialer interface {
	// Dialed says that the endpoint, or a proxy on the way to it, has accepted the connection.
	Dialed()
}

// DialerKey is the key of a context's Dialer.
type DialerKey struct{}

// largestHeader is the least limit of a response's header for transports that speak HTTP/2, in bytes. There a header of
// more than twice the limit ends the connection with all its requests, so a smaller limit is left to Oversized.
const largestHeader = 10 << 20

// Oversized reports whether the header of a response exceeds a limit in bytes.
func Oversized(resp *http.Response, limit int64) bool {
	for name, values := range resp.Header {
		for _, value := range values {
			limit -= int64(len(name) + len(": ") + len(value) + len("\r\n"))
		}
	}
	return limit < 0
}

// Watch returns a transport like t whose connections are Conns. t must be unused, and must not be
// used afterwards. If it speaks HTTP/2, the headers of its responses may exceed t's MaxResponseHeaderBytes. at is for t's
// DialContext.
func Watch(t *http.Transport, at Redirect) *http.Transport {
	l := new(links)
	watched := t
	if _, speaks := t.TLSNextProto[http2.NextProtoTLS]; speaks {
		watched = t.Clone()
		watched.TLSNextProto = nil
		if watched.MaxResponseHeaderBytes > 0 {
			watched.MaxResponseHeaderBytes = max(watched.MaxResponseHeaderBytes, largestHeader)
		}
		h2, err := http2.ConfigureTransports(watched)
		if err != nil {
			return t
		}
		l.h2 = h2
	}
	l.h1 = watched
	l.h2c = watched.Protocols != nil && watched.Protocols.UnencryptedHTTP2() && !watched.Protocols.HTTP1()
	var dial dialFunc = watched.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	dial = anyAddress(dial, at)
	watched.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		if d, ok := ctx.Value(DialerKey{}).(Dialer); ok {
			d.Dialed()
		}
		return &Conn{Conn: conn, links: l, addr: addr, epoch: l.deaths.Load(), over: make(chan struct{})}, nil
	}
	return watched
}
