// Package payload creates the bodies of requests and responses.
package payload

import (
	"bytes"
	"crypto/sha256"
	"fmt"
)

// MaxSize is the size of the largest body, in bytes.
const MaxSize = 1 << 20

const answerSize = 1 << 10

var filler = bytes.Repeat([]byte("0123456789abcdef"), MaxSize/16)

// Of returns a body of the given size, at most MaxSize. All bodies share their bytes: do
// not change them.
func Of(size int) []byte { return filler[:size] }

// JSON returns a JSON object of the given size, at least 8 bytes.
func JSON(size int) []byte { return fmt.Appendf(nil, `{"x":"%s"}`, Of(size-len(`{"x":""}`))) }

// Answer returns the correct response to a request with the given body: 1 KiB that ends
// with the body's SHA-256. So a client can check the whole exchange.
func Answer(body []byte) []byte {
	sum := sha256.Sum256(body)
	return fmt.Appendf(nil, "%s%x", filler[:answerSize-2*len(sum)], sum)
}
