// Package websocket implements the part of WebSockets (RFC 6455) that the soak needs: texts
// of at most 125 bytes in one frame.
package websocket

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
)

// LastMessage asks the endpoint to end the connection.
const LastMessage = "bye"

const (
	textFrame  = 0x81 // final frame with text
	closeFrame = 0x88
	masked     = 0x80
	maxText    = 125 // bytes
)

var (
	// ErrClosing means that the proxy announced the end of the connection.
	ErrClosing = errors.New("the proxy ended the connection")
	// ErrWrong means a response that no crash of an endpoint explains.
	ErrWrong = errors.New("wrong response")
)

// accepts returns the accept value for a client's key.
func accepts(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// readText reads a text, masked or not.
func readText(in *bufio.Reader) (string, error) {
	var head [2]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return "", err
	}
	length := head[1] &^ masked
	if head[0] == closeFrame {
		return "", ErrClosing
	}
	if head[0] != textFrame || length > maxText {
		return "", fmt.Errorf("%w: frame %x", ErrWrong, head)
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
