// Package grpc reads what gRPC over HTTP/2 says in header fields and trailers, and makes its
// health check. See github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
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

// A Code is a status of gRPC. See github.com/grpc/grpc/blob/master/doc/statuscodes.md.
type Code uint32

const (
	OK                Code = 0
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

// The fields are looked up in this form, which net/http gives them.
const (
	statusField   = "Grpc-Status"
	deadlineField = "Grpc-Timeout"
	pushbackField = "Grpc-Retry-Pushback-Ms"
	detailsField  = "Grpc-Status-Details-Bin"
)

// Is tells whether a message is of gRPC, by its Content-Type: not if it is of gRPC-Web, whose
// trailers are in the body.
func Is(h http.Header) bool {
	field := h["Content-Type"]
	const kind = "application/grpc"
	if len(field) == 0 || len(field[0]) < len(kind) || !strings.EqualFold(field[0][:len(kind)], kind) {
		return false
	}
	rest := field[0][len(kind):]
	return rest == "" || rest[0] == '+' || rest[0] == ';' || rest[0] == ' '
}

// Status reads the status of an answer from its header or its trailers; false if there is none.
// One that is no number is taken for UNKNOWN, as clients do.
func Status(h http.Header) (code Code, ok bool) {
	field := h[statusField]
	if len(field) == 0 {
		return 0, false
	}
	n, err := strconv.ParseUint(field[0], 10, 32)
	if err != nil {
		return 2, true
	}
	return Code(n), true
}

// Outcome says what an answer with a status comes to. Began tells whether some of a message came
// before it, quota whether the endpoint has credentials of its own.
func (c Code) Outcome(began, quota bool) outcome.Outcome {
	switch {
	case c == Unavailable, c == DeadlineExceeded, c == Internal && !began:
		return outcome.FailedStatus
	case c == ResourceExhausted && quota:
		return outcome.RateLimited
	case (c == Unauthenticated || c == PermissionDenied) && quota:
		return outcome.Denied
	}
	return outcome.Success
}

// units are those of a deadline.
var units = map[byte]time.Duration{
	'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
}

// Deadline is how long a client waits for the end of the answer, as its request says; false if
// it does not say.
func Deadline(h http.Header) (time.Duration, bool) {
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

// RetryAfter is how long an answer asks to be left alone, at most outcome.MaxHold: by
// grpc-retry-pushback-ms, or by a google.rpc.RetryInfo among its details. False if it does not say.
func RetryAfter(h http.Header) (time.Duration, bool) {
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

// retryInfo reads the retry_delay of a google.rpc.RetryInfo in a google.rpc.Status; 0: there is
// none.
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

// Escape encodes a text for the field Grpc-Message.
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#responses
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
