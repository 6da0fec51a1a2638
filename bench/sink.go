package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
)

// A sink is an endpoint that costs next to nothing: it reads a request and
// writes an answer that was made before. The path of a request says how large
// its answer is: /2048.
type sink struct {
	listener net.Listener
	mu       sync.Mutex
	conns    map[net.Conn]bool
}

// maxBody is the largest body that speed is measured with.
const maxBody = 1 << 20

var filler = bytes.Repeat([]byte("0123456789abcdef"), maxBody/16)

func newSink() (*sink, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sink{listener: l, conns: make(map[net.Conn]bool)}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[conn] = true
			s.mu.Unlock()
			go s.serve(conn)
		}
	}()
	return s, nil
}

func (s *sink) address() string { return s.listener.Addr().String() }

func (s *sink) close() {
	s.listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		conn.Close()
	}
}

func (s *sink) serve(conn net.Conn) {
	defer func() {
		conn.Close()
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
	}()
	in := bufio.NewReaderSize(conn, 8<<10)
	head := make([]byte, 0, 256)
	for {
		first, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		size := 0
		if fields := bytes.Fields(first); len(fields) > 1 {
			size, _ = strconv.Atoi(string(bytes.TrimPrefix(fields[1], []byte("/"))))
		}
		length, chunked, err := readHeader(in)
		if err != nil {
			return
		}
		if chunked {
			err = skipChunks(in)
		} else {
			_, err = in.Discard(length)
		}
		if err != nil {
			return
		}
		size = min(max(0, size), maxBody)
		head = fmt.Appendf(head[:0], "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", size)
		out := net.Buffers{head, filler[:size]}
		if _, err := out.WriteTo(conn); err != nil {
			return
		}
	}
}

// readHeader reads the header of a message and returns the length of its body.
func readHeader(in *bufio.Reader) (length int, chunked bool, err error) {
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return 0, false, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return length, chunked, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch value = bytes.TrimSpace(value); {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, false, err
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = bytes.EqualFold(value, []byte("chunked"))
		}
	}
}

func skipChunks(in *bufio.Reader) error {
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 16, 64)
		if err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, in, n+2); err != nil || n == 0 {
			return err
		}
	}
}
