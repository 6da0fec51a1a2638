package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A closedLoop keeps a number of requests in flight at a proxy over connections
// that stay open, as fast as they are answered.
type closedLoop struct {
	address string
	size    int // bytes of the request's and of the response's body
	workers []func() error
	closers []func()
}

// newClosedLoop opens the connections of n workers. Roots are trusted where the
// protocol has TLS.
func newClosedLoop(address, protocol string, roots *x509.CertPool, size, n int) (*closedLoop, error) {
	l := &closedLoop{address: address, size: size}
	if protocol != h1 {
		l.overHTTP2(n, protocol, roots)
		return l, nil
	}
	for range n {
		if err := l.overHTTP1(); err != nil {
			l.close()
			return nil, err
		}
	}
	return l, nil
}

func (l *closedLoop) close() {
	for _, c := range l.closers {
		c()
	}
}

// overHTTP1 adds a worker that writes a request that was made before and reads
// the answer, with as little work as possible: the proxy is measured, not this.
func (l *closedLoop) overHTTP1() error {
	conn, err := net.Dial("tcp", l.address)
	if err != nil {
		return err
	}
	l.closers = append(l.closers, func() { conn.Close() })
	request := fmt.Appendf(nil, "GET /%d HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\n\r\n", l.size, l.address)
	if l.size > 0 {
		request = fmt.Appendf(nil, "POST /%d HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nContent-Length: %d\r\n\r\n",
			l.size, l.address, l.size)
		request = append(request, filler[:l.size]...)
	}
	in := bufio.NewReaderSize(conn, 16<<10)
	l.workers = append(l.workers, func() error {
		if _, err := conn.Write(request); err != nil {
			return err
		}
		status, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(status, []byte("HTTP/1.1 200")) {
			return fmt.Errorf("unexpected answer %q", status)
		}
		length, chunked, err := readHeader(in)
		if err != nil {
			return err
		}
		if chunked {
			return skipChunks(in)
		}
		if length != l.size {
			return fmt.Errorf("a body of %d bytes, not %d", length, l.size)
		}
		_, err = in.Discard(length)
		return err
	})
	return nil
}

var schemes = map[string]string{h1: "http://", h2c: "http://", h2tls: "https://"}

// newClient speaks just one protocol.
func newClient(protocol string, roots *x509.CertPool) *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{RootCAs: roots}, DisableCompression: true}
	transport.Protocols.SetHTTP1(protocol == h1)
	transport.Protocols.SetUnencryptedHTTP2(protocol == h2c)
	transport.Protocols.SetHTTP2(protocol == h2tls)
	return &http.Client{Transport: transport}
}

// streamsPerConnection is how many of the workers share an HTTP/2 connection.
const streamsPerConnection = 8

func (l *closedLoop) overHTTP2(n int, protocol string, roots *x509.CertPool) {
	var client *http.Client
	for i := range n {
		if i%streamsPerConnection == 0 {
			client = newClient(protocol, roots)
			l.closers = append(l.closers, client.CloseIdleConnections)
		}
		client := client
		buffer := make([]byte, 32<<10)
		l.workers = append(l.workers, func() error {
			method, body := http.MethodGet, io.Reader(nil)
			if l.size > 0 {
				method, body = http.MethodPost, bytes.NewReader(filler[:l.size])
			}
			r, err := http.NewRequest(method, fmt.Sprintf("%s%s/%d", schemes[protocol], l.address, l.size), body)
			if err != nil {
				return err
			}
			resp, err := client.Do(r)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			got, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, buffer)
			if err == nil && (resp.StatusCode != http.StatusOK || got != int64(l.size) || resp.ProtoMajor != 2) {
				err = fmt.Errorf("unexpected answer %s %s with %d bytes", resp.Proto, resp.Status, got)
			}
			return err
		})
	}
}

// send sends n requests and returns how long each took.
func (l *closedLoop) send(ctx context.Context, n int) (took []time.Duration, elapsed time.Duration, err error) {
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

// quantile of durations, which it sorts.
func quantile(of []time.Duration, q float64) time.Duration {
	if len(of) == 0 {
		return 0
	}
	slices.Sort(of)
	return of[min(len(of)-1, int(q*float64(len(of))))]
}
