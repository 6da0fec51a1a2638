package load

import (
	"context"
	"crypto/x509"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/client"
)

// A ClosedLoop sends requests through a proxy to sinks. Each worker sends the next request
// as soon as it has the response, over connections that stay open.
type ClosedLoop struct {
	address string
	ask     client.Ask
	size    int            // size of the request's and the response's body in bytes
	workers []func() error // each sends one request and reads its response
	closers []func()
}

// NewClosedLoop returns a loop of n workers with bodies of size bytes. Size 0 sends GETs,
// any other size POSTs. With TLS it trusts roots. Requests over HTTP/1.1 look as ask says. Close
// closes its connections.
func NewClosedLoop(address string, protocol client.Protocol, roots *x509.CertPool, ask client.Ask, size, n int) (*ClosedLoop, error) {
	l := &ClosedLoop{address: address, ask: ask, size: size}
	if protocol != client.H1 {
		l.addHTTP2(n, protocol, roots)
		return l, nil
	}
	for range n {
		if err := l.addHTTP1(); err != nil {
			l.Close()
			return nil, err
		}
	}
	return l, nil
}

// Close closes the connections.
func (l *ClosedLoop) Close() {
	for _, c := range l.closers {
		c()
	}
}

// Send sends n requests. It returns the latency of each and the time of all together. It
// fails at the first wrong response.
func (l *ClosedLoop) Send(ctx context.Context, n int) (took []time.Duration, elapsed time.Duration, err error) {
	took = make([]time.Duration, n)
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	began := time.Now()
	for _, work := range l.workers {
		wg.Go(func() {
			for ctx.Err() == nil && failed.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				sent := time.Now()
				if err := work(); err != nil {
					failed.Store(&err)
					return
				}
				took[i] = time.Since(sent)
			}
		})
	}
	wg.Wait()
	elapsed = time.Since(began)
	if p := failed.Load(); p != nil {
		return nil, 0, *p
	}
	return took, elapsed, ctx.Err()
}
