// Package grpc reads gRPC's header fields and trailers, and makes its health check. See
// github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
package grpc

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

// A Code is a gRPC status code. See github.com/grpc/grpc/blob/master/doc/statuscodes.md.
type Code uint32

// The codes that the plugin treats in their own way.
const (
	OK                Code = 0
	unknown           Code = 2
	InvalidArgument   Code = 3
	DeadlineExceeded  Code = 4
	PermissionDenied  Code = 7
	ResourceExhausted Code = 8
	Unimplemented     Code = 12
	Internal          Code = 13
	Unavailable       Code = 14
	Unauthenticated   Code = 16
)

var names = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
	"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
	"UNAUTHENTICATED",
}

// String returns the code's name.
func (c Code) String() string {
	if int(c) < len(names) {
		return names[c]
	}
	return "code " + strconv.FormatUint(uint64(c), 10)
}

// Header fields, in the canonical form of net/http.
const (
	statusField   = "Grpc-Status"
	deadlineField = "Grpc-Timeout"
	pushbackField = "Grpc-Retry-Pushback-Ms"
	detailsField  = "Grpc-Status-Details-Bin"
)

// Is reports whether a request or response is gRPC, by its Content-Type. gRPC-Web is not: its
// trailers are in the body.
func Is(h http.Header) bool {
	field := h["Content-Type"]
	const mediaType = "application/grpc"
	if len(field) == 0 || len(field[0]) < len(mediaType) || !strings.EqualFold(field[0][:len(mediaType)], mediaType) {
		return false
	}
	rest := field[0][len(mediaType):]
	return rest == "" || rest[0] == '+' || rest[0] == ';' || rest[0] == ' '
}

// Status reads the status in a response's header or trailers. ok is false if there is none. A
// status that is not a number means UNKNOWN, as it does for gRPC's clients.
func Status(h http.Header) (code Code, ok bool) {
	field := h[statusField]
	if len(field) == 0 {
		return 0, false
	}
	n, err := strconv.ParseUint(field[0], 10, 32)
	if err != nil {
		return unknown, true
	}
	return Code(n), true
}

// Outcome returns the outcome of a response with the status. began reports whether any byte of a
// message arrived before the status, ownCredentials whether the endpoint has credentials of its own.
func (c Code) Outcome(began, ownCredentials bool) outcome.Outcome {
	switch {
	case c == Unavailable, c == DeadlineExceeded, c == Internal && !began:
		return outcome.FailedStatus
	case c == ResourceExhausted && ownCredentials:
		return outcome.RateLimited
	case (c == Unauthenticated || c == PermissionDenied) && ownCredentials:
		return outcome.Denied
	}
	return outcome.Success
}

// units are the units of a deadline.
var units = map[byte]time.Duration{
	'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
}

// Deadline reads from a request's header how long the client waits for the end of the response.
// ok is false if the header does not say, or is malformed.
func Deadline(h http.Header) (wait time.Duration, ok bool) {
	field := h[deadlineField]
	if len(field) == 0 || len(field[0]) < 2 || len(field[0]) > 9 {
		return 0, false
	}
	last := len(field[0]) - 1
	n, err := strconv.ParseUint(field[0][:last], 10, 32)
	unit, known := units[field[0][last]]
	if err != nil || !known {
		return 0, false
	}
	if n > uint64(1<<63-1)/uint64(unit) {
		return 1<<63 - 1, true
	}
	return time.Duration(n) * unit, true
}

// RetryAfter reads how long the endpoint asks for no requests, at most outcome.MaxHold. It reads
// grpc-retry-pushback-ms, else a google.rpc.RetryInfo in the details of the status. ok is false if
// the header says neither.
func RetryAfter(h http.Header) (wait time.Duration, ok bool) {
	if field := h[pushbackField]; len(field) > 0 {
		if ms, err := strconv.ParseInt(field[0], 10, 32); err == nil && ms > 0 {
			return min(time.Duration(ms)*time.Millisecond, outcome.MaxHold), true
		}
	}
	for _, field := range h[detailsField] {
		for one := range strings.SplitSeq(field, ",") {
			details, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(one), "="))
			if wait := retryInfo(details); err == nil && wait > 0 {
				return min(wait, outcome.MaxHold), true
			}
		}
	}
	return 0, false
}

// retryInfo reads the retry_delay of a google.rpc.RetryInfo in an encoded google.rpc.Status. It
// returns 0 if there is none.
func retryInfo(status []byte) (wait time.Duration) {
	eachField(status, func(field int, _ uint64, one []byte) {
		if field != 3 { // details, google.protobuf.Any
			return
		}
		kind, value := "", []byte(nil)
		eachField(one, func(field int, _ uint64, bytes []byte) {
			switch field {
			case 1:
				kind = string(bytes)
			case 2:
				value = bytes
			}
		})
		if !strings.HasSuffix(kind, "/google.rpc.RetryInfo") {
			return
		}
		eachField(value, func(field int, _ uint64, delay []byte) {
			if field != 1 { // google.protobuf.Duration
				return
			}
			wait = 0
			eachField(delay, func(field int, n uint64, _ []byte) {
				switch {
				case field == 1 && n < 1<<33:
					wait += time.Duration(n) * time.Second
				case field == 2 && n < 1e9:
					wait += time.Duration(n)
				}
			})
		})
	})
	return wait
}

// Escape encodes a message for the field Grpc-Message. See
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#responses.
func Escape(message string) string {
	var b strings.Builder
	for i := range len(message) {
		if c := message[i]; c < ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
