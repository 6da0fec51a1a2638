package failover

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

// outcome is what an attempt came to.
type outcome uint8

const (
	pending outcome = iota
	success
	failedDial
	failedTLS
	failedTimeout
	failedReset
	failedStatus
	rateLimited
	denied
	truncated
	stalled
	cancelled // the client went away: says nothing about the endpoint
	unsent    // refused on our side before a byte left: says nothing about the endpoint
)

var outcomeNames = [...]string{
	"", "success", "dial", "tls", "timeout", "reset", "status",
	"rate_limited", "denied", "truncated", "stalled", "cancelled", "unsent",
}

func (o outcome) String() string { return outcomeNames[o] }

// failed says that the endpoint is to blame.
func (o outcome) failed() bool { return o > success && o < cancelled }

// unprocessed says that the endpoint cannot have acted on the request, so that
// it is safe to send it elsewhere whatever its method.
func (o outcome) unprocessed() bool {
	return o == failedDial || o == failedTLS || o == rateLimited || o == denied
}

// mayBeTheRequests says that the request itself may be what failed, so that it would
// fail in the same way at any endpoint. No request is to blame for a connection that
// was never there.
func (o outcome) mayBeTheRequests() bool {
	return o.failed() && o != failedDial && o != failedTLS
}

// classifyError says what an error of a round trip means.
func classifyError(err error) outcome {
	if _, ok := errors.AsType[*bodyError](err); ok {
		return truncated
	}
	if refusedHere(err) || outOfResources(err) {
		return unsent
	}
	if anyCause(err, isDialing) {
		return failedDial
	}
	if isTLSError(err) {
		return failedTLS
	}
	if anyCause(err, isTimeout) {
		return failedTimeout
	}
	return failedReset
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

// outOfResources tells whether this machine has run out of what a connection takes:
// descriptors, local ports, memory. A resolver's error is text only.
func outOfResources(err error) bool {
	for _, lacking := range [...]error{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, lacking) {
			return true
		}
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return strings.Contains(dns.Err, syscall.EMFILE.Error()) || strings.Contains(dns.Err, syscall.ENFILE.Error())
	}
	return false
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

// clientsMistake tells whether a request that was not sent is malformed, which is
// the client's doing, rather than that we were not able to send it.
func clientsMistake(err error) bool { return refusedHere(err) && !outOfResources(err) }

// streamRefused tells whether the peer's HTTP/2 layer refused one stream and left
// the connection alive, as it does with a request that it takes to be malformed.
func streamRefused(err error) bool {
	stream, ok := errors.AsType[http2.StreamError](err)
	return ok && (stream.Code == http2.ErrCodeProtocol || stream.Code == http2.ErrCodeRefusedStream) &&
		stream.Cause != nil && stream.Cause.Error() == "received from peer"
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

// classifyStatus says what a response status means. Quota tells whether 401,
// 402, 403 and 429 speak about the endpoint rather than about the client.
func classifyStatus(code int, failure *statusSet, quota bool) outcome {
	switch {
	case code == http.StatusTooManyRequests && quota:
		return rateLimited
	case (code == http.StatusUnauthorized || code == http.StatusPaymentRequired || code == http.StatusForbidden) && quota:
		return denied
	case failure.has(code):
		return failedStatus
	}
	return success
}

// statusSet is a set of HTTP status codes from 100 to 599.
type statusSet [500]bool

func (s *statusSet) has(code int) bool { return code >= 100 && code < 600 && s[code-100] }

// defaultFailureStatus are the statuses that count as failures unless a pool
// says otherwise.
var defaultFailureStatus = []string{"500", "502", "503", "504", "520-529"}

// parseStatusSet reads codes (503), classes (5xx) and ranges (520-529).
func parseStatusSet(words []string) (*statusSet, error) {
	var set statusSet
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

// maxHold bounds how long an endpoint can ask us to stay away.
const maxHold = 5 * time.Minute

// parseRetryAfter reads a Retry-After field, seconds or an HTTP date (RFC 9110,
// section 10.2.3), as a wait from now, at most maxHold.
func parseRetryAfter(value string, now time.Time) (time.Duration, bool) {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0, false
	}
	if seconds, err := strconv.ParseUint(value, 10, 63); err == nil {
		return time.Duration(min(seconds, uint64(maxHold/time.Second))) * time.Second, true
	} else if errors.Is(err, strconv.ErrRange) {
		return maxHold, true
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	return min(max(0, at.Sub(now)), maxHold), true
}

// timeoutError is what the client's handler gets when an attempt took too
// long. Unlike a context's error it is a net.Error, from which the proxy makes
// a 504.
type timeoutError struct {
	endpoint string
	after    time.Duration
}

func (e *timeoutError) Error() string {
	return fmt.Sprintf("endpoint %s: no answer within %v", e.endpoint, e.after.Round(time.Millisecond))
}
func (e *timeoutError) Timeout() bool   { return true }
func (e *timeoutError) Temporary() bool { return true }

var (
	_ net.Error = (*timeoutError)(nil)

	errAllHeld = errors.New("every endpoint has asked to wait")
	// errClientGone is read by the proxy as "the client left" (499).
	errClientGone = fmt.Errorf("client went away: %w", context.Canceled)
)
