// Package outcome says what an attempt came to and whose doing it was, read
// from errors, statuses and headers.
package outcome

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/http2"
)

// Outcome is what an attempt came to.
type Outcome uint8

const (
	Pending       Outcome = iota // not known yet
	Success                      // a good answer
	FailedDial                   // no connection
	FailedTLS                    // no TLS session
	FailedTimeout                // no first byte in time
	FailedReset                  // the connection broke before an answer
	FailedStatus                 // a status that counts as failure
	RateLimited                  // 429, where it speaks of the endpoint
	Denied                       // 401, 402, 403, where they speak of the endpoint
	Truncated                    // the body ended early
	Stalled                      // the body stopped coming
	Cancelled                    // the client went away: says nothing about the endpoint
	Unsent                       // refused on our side before a byte left: says nothing about the endpoint
)

var outcomeNames = [...]string{
	"", "success", "dial", "tls", "timeout", "reset", "status",
	"rate_limited", "denied", "truncated", "stalled", "cancelled", "unsent",
}

// String returns the outcome's word in metrics, events and the API.
func (o Outcome) String() string { return outcomeNames[o] }

// Failed says that the endpoint is to blame.
func (o Outcome) Failed() bool { return o > Success && o < Cancelled }

// Unprocessed says that the endpoint cannot have acted on the request, so that
// it is safe to send it elsewhere whatever its method.
func (o Outcome) Unprocessed() bool {
	return o == FailedDial || o == FailedTLS || o == RateLimited || o == Denied
}

// MayBeTheRequests says that the request itself may be what failed, so that it would
// fail in the same way at any endpoint. No request is to blame for a connection that
// was never there.
func (o Outcome) MayBeTheRequests() bool {
	return o.Failed() && o != FailedDial && o != FailedTLS
}

// OfError says what an error of a round trip means.
func OfError(err error) Outcome {
	if _, ok := errors.AsType[*BodyError](err); ok {
		return Truncated
	}
	if refusedHere(err) || outOfResources(err) {
		return Unsent
	}
	if anyCause(err, isDialing) {
		return FailedDial
	}
	if isTLSError(err) {
		return FailedTLS
	}
	if anyCause(err, isTimeout) {
		return FailedTimeout
	}
	return FailedReset
}

// refusals are what net/http and its relatives say of a request that they do not
// send. They have no types for it. These packages say it: net/http (transport.go,
// request.go, transfer.go, h2_bundle.go), golang.org/x/net/http2 and
// golang.org/x/net/internal/httpcommon (request.go), and quic-go/http3
// (request_writer.go).
var refusals = [...]string{
	"net/http: invalid header",
	"net/http: invalid trailer",
	"net/http: invalid method",
	"http: invalid Host header",
	"http: no Host in request URL",
	"http: Request.Write on Request with no Host",
	"http2: invalid Upgrade request header",
	"http2: invalid Transfer-Encoding request header",
	"http2: invalid Connection request header",
	"http2: invalid Host header",
	"http2: invalid request :path",
	"http2: invalid HTTP header",
	"http2: invalid HTTP trailer",
	"http2: invalid Trailer key",
	"http2: invalid :protocol header",
	"http2: request header list larger than peer's advertised limit",
	"http3: invalid HTTP header",
	"http3: invalid HTTP trailer",
	"http3: invalid Host header",
	"http3: invalid request :path",
	"invalid Trailer key",
	"invalid HTTP header name",
	"invalid HTTP header value",
	"invalid HTTP trailer name",
	"invalid HTTP trailer value",
	"unsupported protocol scheme",
}

// lengthRefusals are what they say of a request whose body is not as long as it
// declares.
var lengthRefusals = [...]string{
	"http: ContentLength=",
	"http: Request.ContentLength=",
	"http2: request body larger than specified content length",
}

// refusedHere tells whether this process refused to send the request, or the rest
// of it, because it is malformed.
func refusedHere(err error) bool {
	if _, ok := errors.AsType[http2.StreamError](err); ok {
		return false // the endpoint's doing, whatever it says
	}
	text, _, _ := strings.Cut(err.Error(), `"`) // what is quoted may be the endpoint's words
	has := func(phrase string) bool { return strings.Contains(text, phrase) }
	return slices.ContainsFunc(refusals[:], has) || slices.ContainsFunc(lengthRefusals[:], has)
}

// OfDial says what an error of a dial means whose causes cannot be looked at: FailedDial,
// or Unsent where its text says that this machine lacks what a connection takes.
func OfDial(err error) Outcome {
	if saysLack(err.Error()) {
		return Unsent
	}
	return FailedDial
}

// lacks are the errors of a machine that has run out of what a connection takes.
var lacks = [...]syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS, syscall.ENOMEM}

// saysLack tells whether a text ends with one of them.
func saysLack(text string) bool {
	return slices.ContainsFunc(lacks[:], func(lack syscall.Errno) bool { return strings.HasSuffix(text, lack.Error()) })
}

// outOfResources tells whether this machine has run out of what a connection takes:
// descriptors, local ports, memory. A resolver's error is text only.
func outOfResources(err error) bool {
	for _, lack := range lacks {
		if errors.Is(err, lack) {
			return true
		}
	}
	dns, ok := errors.AsType[*net.DNSError](err)
	return ok && saysLack(dns.Err)
}

func isDialing(err error) bool {
	op, ok := err.(*net.OpError)
	return ok && op.Op == "dial"
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}

// anyCause tells whether something holds for an error, or for one that it wraps.
func anyCause(err error, holds func(error) bool) bool {
	if holds(err) {
		return true
	}
	switch wrapping := err.(type) {
	case interface{ Unwrap() error }:
		cause := wrapping.Unwrap()
		return cause != nil && anyCause(cause, holds)
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(wrapping.Unwrap(), func(cause error) bool { return cause != nil && anyCause(cause, holds) })
	}
	return false
}

// ClientsMistake tells whether a request that was not sent is malformed, which is
// the client's doing, rather than that we were not able to send it.
func ClientsMistake(err error) bool { return refusedHere(err) && !outOfResources(err) }

// StreamRefused tells whether the peer's HTTP/2 layer refused one stream and left
// the connection alive, as it does with a request that it takes to be malformed.
func StreamRefused(err error) bool {
	stream, ok := errors.AsType[http2.StreamError](err)
	return ok && (stream.Code == http2.ErrCodeProtocol || stream.Code == http2.ErrCodeRefusedStream) &&
		stream.Cause != nil && stream.Cause.Error() == "received from peer"
}

// SaysPeer tells whether an error of TLS is what the endpoint said in an alert. One about
// the client's certificate comes when this side's handshake is over.
func SaysPeer(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error"
}

func isTLSError(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.AlertError](err); ok {
		return true
	}
	return anyCause(err, saysTLS)
}

// saysTLS tells whether an error is one of crypto/tls or net/http about TLS that has no
// type of its own. It goes by how the text begins: further on it may quote what the
// endpoint sent.
func saysTLS(err error) bool {
	text := err.Error()
	return strings.HasPrefix(text, "tls: ") || strings.HasPrefix(text, "net/http: TLS handshake")
}

// OfStatus says what a response status means. Quota tells whether 401,
// 402, 403 and 429 speak about the endpoint rather than about the client.
func OfStatus(code int, failure *StatusSet, quota bool) Outcome {
	switch {
	case code == http.StatusTooManyRequests && quota:
		return RateLimited
	case (code == http.StatusUnauthorized || code == http.StatusPaymentRequired || code == http.StatusForbidden) && quota:
		return Denied
	case failure.Has(code):
		return FailedStatus
	}
	return Success
}

// StatusSet is a set of HTTP status codes from 100 to 599.
type StatusSet [500]bool

// Has tells whether a status is in the set.
func (s *StatusSet) Has(code int) bool { return code >= 100 && code < 600 && s[code-100] }

// DefaultFailureStatus are the statuses that count as failures unless a pool
// says otherwise.
var DefaultFailureStatus = []string{"500", "502", "503", "504", "520-529"}

// ParseStatusSet reads codes (503), classes (5xx) and ranges (520-529).
func ParseStatusSet(words []string) (*StatusSet, error) {
	var set StatusSet
	for _, word := range words {
		low, high, isRange := strings.Cut(word, "-")
		if len(word) == 3 && strings.HasSuffix(word, "xx") {
			low, high, isRange = word[:1]+"00", word[:1]+"99", true
		}
		if !isRange {
			high = low
		}
		from, err1 := strconv.Atoi(low)
		to, err2 := strconv.Atoi(high)
		if err1 != nil || err2 != nil || len(low) != 3 || len(high) != 3 || from < 100 || to > 599 || from > to {
			return nil, fmt.Errorf("invalid status %q: want a code (503), a class (5xx) or a range (520-529)", word)
		}
		for code := from; code <= to; code++ {
			set[code-100] = true
		}
	}
	return &set, nil
}

// Error implements error.
func (e *TimeoutError) Error() string {
	return fmt.Sprintf("endpoint %s: no answer within %v", e.Endpoint, e.After.Round(time.Millisecond))
}

// Timeout implements net.Error.
func (e *TimeoutError) Timeout() bool { return true }

// Temporary implements net.Error.
func (e *TimeoutError) Temporary() bool { return true }

var (
	_ net.Error = (*TimeoutError)(nil)

	// ErrAllHeld refuses a call since every endpoint has asked to wait.
	ErrAllHeld = errors.New("every endpoint has asked to wait")
	// ErrClientGone is read by the proxy as "the client left" (499).
	ErrClientGone = fmt.Errorf("client went away: %w", context.Canceled)
)
