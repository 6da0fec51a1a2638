package main

import (
	"bufio"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// WebSockets (RFC 6455), as far as the soak needs them: an endpoint sends back
// each message of at most 125 bytes, and ends the connection after lastMessage.
const (
	socketPath  = "/socket"
	lastMessage = "bye"
)

const (
	textFrame  = 0x81 // final, text
	closeFrame = 0x88
	masked     = 0x80
)

// errClosing is a proxy's word that it ends the connection.
var errClosing = errors.New("told that the connection ends")

// errWrong is an answer that no crash explains.
var errWrong = errors.New("a wrong answer")

// accepts is what an endpoint answers to a client's key.
func accepts(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// socket answers a WebSocket.
func (a *actor) socket(w http.ResponseWriter, r *http.Request) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	a.mu.Lock()
	if a.sockets == nil {
		a.sockets = make(map[net.Conn]bool)
	}
	a.sockets[conn] = true
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.sockets, conn)
		a.mu.Unlock()
	}()
	fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n%s: %s\r\n\r\n",
		accepts(r.Header.Get("Sec-WebSocket-Key")), endpointName, a.name)
	for rw.Flush() == nil {
		message, err := readMessage(rw.Reader)
		if err != nil || message == lastMessage {
			return
		}
		rw.Write([]byte{textFrame, byte(len(message))})
		rw.WriteString(message)
	}
}

// readMessage reads a text of one frame.
func readMessage(in *bufio.Reader) (string, error) {
	var head [2]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return "", err
	}
	length := head[1] &^ masked
	if head[0] == closeFrame {
		return "", errClosing
	}
	if head[0] != textFrame || length > 125 {
		return "", fmt.Errorf("%w: frame %x", errWrong, head)
	}
	var mask [4]byte
	if head[1]&masked != 0 {
		if _, err := io.ReadFull(in, mask[:]); err != nil {
			return "", err
		}
	}
	text := make([]byte, length)
	if _, err := io.ReadFull(in, text); err != nil {
		return "", err
	}
	for i := range text {
		text[i] ^= mask[i%4]
	}
	return string(text), nil
}

// A socket is a client's WebSocket.
type socket struct {
	net.Conn
	in *bufio.Reader
}

// openSocket asks for a WebSocket. Where the answer is another one, there is
// that alone.
func openSocket(address string) (*socket, *http.Response, error) {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return nil, nil, err
	}
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	key := base64.StdEncoding.EncodeToString([]byte(rand.Text()[:16]))
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n",
		socketPath, address, key)
	s := &socket{conn, bufio.NewReader(conn)}
	resp, err := http.ReadResponse(s.in, nil)
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		conn.Close()
		return nil, resp, nil
	}
	if resp.Header.Get("Sec-WebSocket-Accept") != accepts(key) {
		conn.Close()
		return nil, resp, errors.New("the key was not accepted")
	}
	return s, resp, nil
}

// send sends a text of at most 125 bytes.
func (s *socket) send(text string) error {
	var mask [4]byte
	rand.Read(mask[:])
	frame := append([]byte{textFrame, masked | byte(len(text))}, mask[:]...)
	for i := range len(text) {
		frame = append(frame, text[i]^mask[i%4])
	}
	_, err := s.Write(frame)
	return err
}

// ask sends a text and reads what comes back. What had come when sending fails
// says why.
func (s *socket) ask(text string) (string, error) {
	failed := s.send(text)
	back, err := readMessage(s.in)
	if failed != nil && !errors.Is(err, errClosing) {
		err = failed
	}
	return back, err
}

// talk exchanges n messages with pauses. If the endpoint is to end it, so it must.
func (s *socket) talk(n int, pause time.Duration, endpointEnds bool) error {
	for i := range n {
		time.Sleep(pause)
		text := fmt.Sprintf("message %d of %d", i, n)
		back, err := s.ask(text)
		if err != nil {
			return err
		}
		if back != text {
			return fmt.Errorf("%w: sent %q, got %q", errWrong, text, back)
		}
	}
	if !endpointEnds {
		return nil
	}
	switch text, err := s.ask(lastMessage); {
	case err == nil:
		return fmt.Errorf("%w: %q after the last message", errWrong, text)
	case err != io.EOF:
		return err
	}
	return nil
}
