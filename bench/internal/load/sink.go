package load

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strconv"
	"sync"

	"github.com/apifailover/caddy-failover/bench/internal/payload"
)

// A Sink is an endpoint of negligible cost: it reads a request and writes a prepared
// response. The path of a request is the size of the response body in bytes, as in /2048.
type Sink struct {
	listener net.Listener

	mu    sync.Mutex
	conns map[net.Conn]bool
}

// NewSink starts a sink on a free port of loopback. Close ends it.
func NewSink() (*Sink, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Sink{listener: l, conns: make(map[net.Conn]bool)}
	go s.accept()
	return s, nil
}

// Address returns the address of the sink.
func (s *Sink) Address() string { return s.listener.Addr().String() }

// Close stops listening and cuts all connections.
func (s *Sink) Close() {
	s.listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		conn.Close()
	}
	s.conns = nil
}

func (s *Sink) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		open := s.conns != nil
		if open {
			s.conns[conn] = true
		}
		s.mu.Unlock()
		if !open {
			conn.Close()
			return
		}
		go s.serve(conn)
	}
}

func (s *Sink) serve(conn net.Conn) {
	defer func() {
		conn.Close()
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
	}()
	in := bufio.NewReaderSize(conn, 8<<10)
	head := make([]byte, 0, 256)
	for {
		size, err := readRequest(in)
		if err != nil {
			return
		}
		head = fmt.Appendf(head[:0], "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", size)
		out := net.Buffers{head, payload.Of(size)}
		if _, err := out.WriteTo(conn); err != nil {
			return
		}
	}
}

// readRequest reads a whole request and returns the requested size of the response.
func readRequest(in *bufio.Reader) (size int, err error) {
	first, err := in.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if fields := bytes.Fields(first); len(fields) > 1 {
		size, _ = strconv.Atoi(string(bytes.TrimPrefix(fields[1], []byte("/"))))
	}
	length, chunked, err := readHeader(in)
	if err != nil {
		return 0, err
	}
	return min(max(0, size), payload.MaxSize), skipBody(in, length, chunked)
}
