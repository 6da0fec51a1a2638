package load

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"

	"github.com/apifailover/caddy-failover/bench/internal/client"
	"github.com/apifailover/caddy-failover/bench/internal/payload"
)

// addHTTP1 adds a worker with its own connection. It writes a prepared request and does as
// little as possible, so that the measurement is of the proxy.
func (l *ClosedLoop) addHTTP1() error {
	conn, err := net.Dial("tcp", l.address)
	if err != nil {
		return err
	}
	l.closers = append(l.closers, func() { conn.Close() })
	request := l.http1()
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
			return fmt.Errorf("unexpected response %q", status)
		}
		length, chunked, err := readHeader(in)
		if err != nil {
			return err
		}
		if !chunked && length != l.size {
			return fmt.Errorf("a body of %d bytes, not %d", length, l.size)
		}
		return skipBody(in, length, chunked)
	})
	return nil
}

// http1 returns the bytes of a request.
func (l *ClosedLoop) http1() []byte {
	method, body := http.MethodGet, []byte(nil)
	header := http.Header{"User-Agent": {"bench"}}
	maps.Copy(header, l.ask.Header)
	if l.size > 0 {
		method, body = http.MethodPost, payload.Of(l.size)
		header.Set("Content-Length", strconv.Itoa(l.size))
		if l.ask.JSON {
			body = payload.JSON(l.size)
			header.Set("Content-Type", "application/json")
		}
	}
	var request bytes.Buffer
	fmt.Fprintf(&request, "%s %s/%d HTTP/1.1\r\nHost: %s\r\n", method, l.ask.Prefix, l.size, l.address)
	header.Write(&request) // a buffer takes all
	request.WriteString("\r\n")
	request.Write(body)
	return request.Bytes()
}

// streamsPerConnection is the number of workers that share an HTTP/2 connection.
const streamsPerConnection = 8

// addHTTP2 adds n workers.
func (l *ClosedLoop) addHTTP2(n int, protocol client.Protocol, roots *x509.CertPool) {
	var shared *http.Client
	for i := range n {
		if i%streamsPerConnection == 0 {
			shared = client.New(protocol, roots)
			l.closers = append(l.closers, shared.CloseIdleConnections)
		}
		own := shared
		buffer := make([]byte, 32<<10)
		l.workers = append(l.workers, func() error {
			method, body := http.MethodGet, io.Reader(nil)
			if l.size > 0 {
				method, body = http.MethodPost, bytes.NewReader(payload.Of(l.size))
			}
			r, err := http.NewRequest(method, fmt.Sprintf("%s/%d", protocol.URL(l.address), l.size), body)
			if err != nil {
				return err
			}
			resp, err := own.Do(r)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			got, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, buffer)
			if err == nil && (resp.StatusCode != http.StatusOK || got != int64(l.size) || resp.ProtoMajor != 2) {
				err = fmt.Errorf("unexpected response %s %s with %d bytes", resp.Proto, resp.Status, got)
			}
			return err
		})
	}
}
