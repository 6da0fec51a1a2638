package websocket

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// A Conn is the client's end of a WebSocket. It is not safe for concurrent use.
type Conn struct {
	net.Conn
	in *bufio.Reader
}

// Open opens a WebSocket through a proxy, with more header fields. It lasts at most 30 s. If the proxy sends another
// response, Open returns that response, no Conn and no error.
func Open(address, path string, more http.Header) (*Conn, *http.Response, error) {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return nil, nil, err
	}
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	key := base64.StdEncoding.EncodeToString([]byte(rand.Text()[:16]))
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n",
		path, address, key)
	more.Write(conn)
	fmt.Fprint(conn, "\r\n")
	c := &Conn{conn, bufio.NewReader(conn)}
	resp, err := http.ReadResponse(c.in, nil)
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
	return c, resp, nil
}

// Talk sends n texts, each after a pause, and expects each back. If endpointEnds, it then
// asks the endpoint to end the connection.
func (c *Conn) Talk(n int, pause time.Duration, endpointEnds bool) error {
	for i := range n {
		time.Sleep(pause)
		text := fmt.Sprintf("message %d of %d", i, n)
		back, err := c.ask(text)
		if err != nil {
			return err
		}
		if back != text {
			return fmt.Errorf("%w: sent %q, got %q", ErrWrong, text, back)
		}
	}
	if !endpointEnds {
		return nil
	}
	switch text, err := c.ask(LastMessage); {
	case err == nil:
		return fmt.Errorf("%w: %q after the last message", ErrWrong, text)
	case err != io.EOF:
		return err
	}
	return nil
}

// ask sends a text and reads the next one. If sending fails, a close frame that has already
// arrived is the error.
func (c *Conn) ask(text string) (string, error) {
	failed := c.send(text)
	back, err := readText(c.in)
	if failed != nil && !errors.Is(err, ErrClosing) {
		err = failed
	}
	return back, err
}

// send sends a text of at most maxText bytes.
func (c *Conn) send(text string) error {
	var mask [4]byte
	rand.Read(mask[:])
	frame := append([]byte{textFrame, masked | byte(len(text))}, mask[:]...)
	for i := range len(text) {
		frame = append(frame, text[i]^mask[i%4])
	}
	_, err := c.Write(frame)
	return err
}
