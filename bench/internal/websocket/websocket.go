// Package websocket speaks as much of WebSockets (RFC 6455) as the soak needs:
// texts of at most 125 bytes, each in one frame.
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
	textFrame  = 0x81 // final, text
	closeFrame = 0x88
	masked     = 0x80
	maxText    = 125 // bytes
)

var (
	// ErrClosing means that the proxy said it ends the connection.
	ErrClosing = errors.New("told that the connection ends")
	// ErrWrong means an answer that no crash of an endpoint explains.
	ErrWrong = errors.New("a wrong answer")
)

// accepts returns what an endpoint answers to a client's key.
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
