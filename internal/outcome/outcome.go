// Package outcome classifies attempts by their errors, statuses and headers: how an
// attempt ended, and who caused a failure.
package outcome

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/net/http2"
)

// Outcome is how an attempt ended.
type Outcome uint8

const (
	Pending       Outcome = iota // not known yet
	Success                      // a good answer
	FailedDial                   // no connection
	FailedTLS                    // no TLS session
	FailedTimeout                // no first byte in time
	FailedReset                  // the connection broke before a response
	FailedStatus                 // a status that counts as failure
	RateLimited                  // 429 that is about the endpoint's own credentials
	Denied                       // 401, 402 or 403 that is about the endpoint's own credentials
	Truncated                    // the body ended early
	Stalled                      // the body stopped arriving
	Cancelled                    // the client left; says nothing about the endpoint
	Unsent                       // not sent, or not sent whole, for a reason on our side; says nothing about the endpoint
)

var outcomeNames = [...]string{
	"", "success", "dial", "tls", "timeout", "reset", "status",
	"rate_limited", "denied", "truncated", "stalled", "cancelled", "unsent",
}

// String returns the outcome's name in metrics, events and the API.
func (o Outcome) String() string { return outcomeNames[o] }

// Failed reports whether the attempt failed. Cancelled and Unsent are no failures.
func (o Outcome) Failed() bool { return o > Success && o < Cancelled }

// Unprocessed reports whether the endpoint cannot have acted on the request; then it is
// safe to send the request to another endpoint whatever its method.
func (o Outcome) Unprocessed() bool {
	return o == FailedDial || o == FailedTLS || o == RateLimited || o == Denied
}

// AnsweredBadly reports whether the endpoint answered, and the answer was a failure.
func (o Outcome) AnsweredBadly() bool { return o == FailedStatus || o == Truncated || o == Stalled }

// MayBeTheRequests reports whether the request itself may have caused the failure, so
// that it would fail at any endpoint. No request causes a failed dial or TLS handshake.
func (o Outcome) MayBeTheRequests() bool {
	return o.Failed() && o != FailedDial && o != FailedTLS
}

// OfError classifies the error of a round trip.
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

// refusals are the texts of errors for requests that an HTTP client does not send; the
// errors have no types. Sources: net/http (transport.go, request.go, transfer.go,
// h2_bundle.go), golang.org/x/net/http2, golang.org/x/net/internal/httpcommon
// (request.go), and quic-go/http3 (request_writer.go).
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

// lengthRefusals are the same for requests whose body has not the declared length.
var lengthRefusals = [...]string{
	"http: ContentLength=",
	"http: Request.ContentLength=",
	"http2: request body larger than specified content length",
}

// refusedHere reports whether this process refused to send the request, or the rest
// of it, because it is malformed.
func refusedHere(err error) bool {
	if _, ok := errors.AsType[http2.StreamError](err); ok {
		return false // the endpoint sent it
	}
	text, _, _ := strings.Cut(err.Error(), `"`) // a quotation may come from the endpoint
	has := func(phrase string) bool { return strings.Contains(text, phrase) }
	return slices.ContainsFunc(refusals[:], has) || slices.ContainsFunc(lengthRefusals[:], has)
}

// OfDial classifies the error of a dial that hides its causes: Unsent if its text says
// that this machine is out of resources, else FailedDial.
func OfDial(err error) Outcome {
	if namesLack(err.Error()) {
		return Unsent
	}
	return FailedDial
}

// lacks are the errors of a machine that is out of descriptors, ports or memory.
var lacks = [...]syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS, syscall.ENOMEM}

// namesLack reports whether a text ends with one of the lacks.
func namesLack(text string) bool {
	return slices.ContainsFunc(lacks[:], func(lack syscall.Errno) bool { return strings.HasSuffix(text, lack.Error()) })
}

// outOfResources reports whether this machine is out of descriptors, ports or memory. A
// resolver's error holds the cause as text only.
func outOfResources(err error) bool {
	for _, lack := range lacks {
		if errors.Is(err, lack) {
			return true
		}
	}
	dns, ok := errors.AsType[*net.DNSError](err)
	return ok && namesLack(dns.Err)
}

func isDialing(err error) bool {
	op, ok := err.(*net.OpError)
	return ok && op.Op == "dial"
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}

// anyCause reports whether holds is true for an error or for one that it wraps.
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

// ClientsMistake reports whether a request was not sent because the client made it
// malformed, rather than because we could not send it.
func ClientsMistake(err error) bool { return refusedHere(err) && !outOfResources(err) }

// StreamRefused reports whether the endpoint's HTTP/2 layer refused one stream and kept
// the connection, as it does for a request that it considers malformed.
func StreamRefused(err error) bool {
	stream, ok := errors.AsType[http2.StreamError](err)
	return ok && (stream.Code == http2.ErrCodeProtocol || stream.Code == http2.ErrCodeRefusedStream) && StreamReset(err)
}

// StreamReset reports whether the endpoint has reset one HTTP/2 stream.
func StreamReset(err error) bool {
	stream, ok := errors.AsType[http2.StreamError](err)
	return ok && stream.Cause != nil && stream.Cause.Error() == "received from peer"
}

// SaysPeer reports whether a TLS error is an alert from the endpoint. An alert about our
// certificate may arrive after our side has finished the handshake.
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

// saysTLS reports whether an error comes from crypto/tls without a type, or from net/http about
// TLS. Only the beginning of its text counts: the rest may quote the endpoint.
func saysTLS(err error) bool {
	text := err.Error()
	return strings.HasPrefix(text, "tls: ") || strings.HasPrefix(text, "net/http: TLS handshake")
}

// OfStatus classifies a response status. quota says that 401, 402, 403 and 429 are about
// the endpoint's own credentials rather than about the client.
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

// Has reports whether the set contains a status.
func (s *StatusSet) Has(code int) bool { return code >= 100 && code < 600 && s[code-100] }

// DefaultFailureStatus are the statuses that count as failures by default.
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
			advice := ""
			if strings.Contains(word, ",") {
				advice = "; separate statuses by spaces"
			}
			return nil, fmt.Errorf("invalid status %q: want a code (503), a class (5xx) or a range (520-529)%s", word, advice)
		}
		for code := from; code <= to; code++ {
			set[code-100] = true
		}
	}
	return &set, nil
}
