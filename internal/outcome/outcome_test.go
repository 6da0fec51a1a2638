package outcome

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestClassifyError(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	for _, test := range []struct {
		name string
		err  error
		want Outcome
	}{
		{"a dial error of package net", &url.Error{Op: "Get", Err: refused}, FailedDial},
		{"a dial that took too long", &net.OpError{Op: "dial", Err: context.DeadlineExceeded}, FailedDial},
		{"an unknown authority", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, FailedTLS},
		{"no TLS at all", tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, FailedTLS},
		{"an alert", &net.OpError{Op: "remote error", Err: tls.AlertError(40)}, FailedTLS},
		{"a handshake timeout", errors.New("net/http: TLS handshake timeout"), FailedTLS},
		{"a deadline", context.DeadlineExceeded, FailedTimeout},
		{"a response header timeout", &net.OpError{Op: "read", Err: timeoutErr{}}, FailedTimeout},
		{"a reset", &net.OpError{Op: "read", Err: syscall.ECONNRESET}, FailedReset},
		{"a broken pipe", &net.OpError{Op: "write", Err: syscall.EPIPE}, FailedReset},
		{"the end", io.EOF, FailedReset},
		{"an early end", io.ErrUnexpectedEOF, FailedReset},
		{"nonsense", errors.New(`malformed HTTP response "x"`), FailedReset},
	} {
		if got := OfError(test.err); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

type timeoutErr struct{}

func (timeoutErr) Error() string   { return "timeout" }
func (timeoutErr) Timeout() bool   { return true }
func (timeoutErr) Temporary() bool { return true }

// TestClassifyRealErrors sends requests to servers that fail as their names say.
func TestClassifyRealErrors(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	cutting := httptest.NewServer(http.HandlerFunc(cut))
	defer cutting.Close()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	for _, test := range []struct {
		name, url string
		want      Outcome
	}{
		{"closed", closed.URL, FailedDial},
		{"plain", strings.Replace(plain.URL, "http:", "https:", 1), FailedTLS},
		{"untrusted", secure.URL, FailedTLS},
		{"a handshake with nobody", "https://" + mute.Addr().String(), FailedTLS},
		{"an answer of nobody", "http://" + mute.Addr().String(), FailedTimeout},
		{"cut", cutting.URL, FailedReset},
	} {
		timeout := time.Minute
		if strings.HasSuffix(test.url, mute.Addr().String()) {
			timeout = 50 * time.Millisecond
		}
		transport := &http.Transport{TLSHandshakeTimeout: timeout, ResponseHeaderTimeout: timeout}
		r, err := http.NewRequest("GET", test.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = transport.RoundTrip(r)
		if err == nil {
			t.Fatalf("%s: no error", test.name)
		}
		if got := OfError(err); got != test.want {
			t.Errorf("%s: %v is %q, want %q", test.name, err, got, test.want)
		}
		transport.CloseIdleConnections()
	}
}

func TestClassifyStatus(t *testing.T) {
	failure, err := ParseStatusSet(DefaultFailureStatus)
	if err != nil {
		t.Fatal(err)
	}
	always := map[int]Outcome{500: FailedStatus, 502: FailedStatus, 503: FailedStatus, 504: FailedStatus}
	for code := 520; code <= 529; code++ {
		always[code] = FailedStatus
	}
	quota := map[int]Outcome{401: Denied, 402: Denied, 403: Denied, 429: RateLimited}
	for code := 0; code <= 1000; code++ {
		want, ok := always[code]
		if !ok {
			want = Success
		}
		if got := OfStatus(code, failure, false); got != want {
			t.Errorf("%d: got %q, want %q", code, got, want)
		}
		if special, ok := quota[code]; ok {
			want = special
		}
		if got := OfStatus(code, failure, true); got != want {
			t.Errorf("%d with a quota of the endpoint: got %q, want %q", code, got, want)
		}
	}
}

func TestParseStatusSet(t *testing.T) {
	for _, test := range []struct {
		words string
		want  []int // has these, and not those one beside them
		bad   string
	}{
		{"503", []int{503, 503}, ""},
		{"5xx", []int{500, 599}, ""},
		{"100-599", []int{100, 599}, ""},
		{"520-529", []int{520, 529}, ""},
		{"500 6xx", nil, "6xx"},
		{"99", nil, "99"},
		{"600", nil, "600"},
		{"504-502", nil, "504-502"},
		{"500-", nil, "500-"},
		{"-500", nil, "-500"},
		{"5x", nil, "5x"},
		{"xxx", nil, "xxx"},
		{"teapot", nil, "teapot"},
		{"+503", nil, "+503"},
	} {
		set, err := ParseStatusSet(strings.Fields(test.words))
		if test.bad != "" {
			if want := fmt.Sprintf("invalid status %q: want a code (503), a class (5xx) or a range (520-529)", test.bad); err == nil || err.Error() != want {
				t.Errorf("%s: %v, want %s", test.words, err, want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.words, err)
			continue
		}
		for code := range 700 {
			if got, want := set.Has(code), code >= test.want[0] && code <= test.want[1]; got != want {
				t.Errorf("%s: %d: %v", test.words, code, got)
			}
		}
	}
}

func TestOutcomes(t *testing.T) {
	for o := Pending; o <= Cancelled; o++ {
		blames := o != Pending && o != Success && o != Cancelled
		if o.Failed() != blames {
			t.Errorf("%q: failed is %v", o, o.Failed())
		}
		if unprocessed := o == FailedDial || o == FailedTLS || o == RateLimited || o == Denied; o.Unprocessed() != unprocessed {
			t.Errorf("%q: unprocessed is %v", o, o.Unprocessed())
		}
	}
}

var retryAfterNow = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func TestParseRetryAfter(t *testing.T) {
	for _, test := range []struct {
		value string
		want  time.Duration
		ok    bool
	}{
		{"", 0, false},
		{"  ", 0, false},
		{"0", 0, true},
		{"7", 7 * time.Second, true},
		{" 7 ", 7 * time.Second, true},
		{"300", MaxHold, true},
		{"301", MaxHold, true},
		{"9223372036854775807", MaxHold, true},
		{"99999999999999999999999", MaxHold, true},
		{"-1", 0, false},
		{"-0.5", 0, false},
		{"+1", time.Second, true},
		{"++1", 0, false},
		{"1.5", 1500 * time.Millisecond, true},
		{"299.997", 299997 * time.Millisecond, true},
		{"2.542", 2542 * time.Millisecond, true},
		{"0.0001", time.Millisecond, true},
		{"300.5", MaxHold, true},
		{".5", 500 * time.Millisecond, true},
		{"2.", 2 * time.Second, true},
		{".", 0, false},
		{"1.2.3", 0, false},
		{"5, 10", 10 * time.Second, true},
		{"5,soon", 5 * time.Second, true},
		{"\t8\t", 8 * time.Second, true},
		{"Inf", 0, false},
		{"NaN", 0, false},
		{"1e3", MaxHold, true},
		{"1e1", 10 * time.Second, true},
		{"e", 0, false},
		{"0x10", 0, false},
		{"7s", 0, false},
		{"soon", 0, false},
		{"Wed, 04 Mar 2026 05:06:17 GMT", 10 * time.Second, true},
		{"Wed, 04 Mar 2026 06:06:17 GMT", MaxHold, true},
		{"Wed, 04 Mar 2026 05:06:06 GMT", 0, true},
		{"Fri, 31 Dec 9999 23:59:59 GMT", MaxHold, true},
		{"Mon, 01 Jan 0001 00:00:00 GMT", 0, true},
		{"Wednesday, 04-Mar-26 05:06:09 GMT", 2 * time.Second, true},
		{"Wed Mar  4 05:06:10 2026", 3 * time.Second, true},
		{"Wed, 4 Mar 2026 05:06:17 GMT", 10 * time.Second, true},
		{"Wed, 04 Mar 2026 05:06:17 UTC", 10 * time.Second, true},
		{"Wed, 04 Mar 2026 06:06:17 +0100", 10 * time.Second, true},
		{"2026-03-04T05:06:17Z", 10 * time.Second, true},
		{"2026-03-04T05:06:17.5Z", 10500 * time.Millisecond, true},
	} {
		if got, ok := parseRetryAfter(test.value, retryAfterNow); got != test.want || ok != test.ok {
			t.Errorf("%q: got %v, %v, want %v, %v", test.value, got, ok, test.want, test.ok)
		}
	}
}

// FuzzRetryAfter checks that every wait is between 0 and MaxHold, that seconds are read
// as seconds, and that spaces around them change nothing.
func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"7", "-1", "99999999999999999999", "Wed, 04 Mar 2026 05:06:17 GMT", " 12 ", "1.5"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		wait, ok := parseRetryAfter(value, retryAfterNow)
		if wait < 0 || wait > MaxHold || !ok && wait != 0 {
			t.Fatalf("%q: %v, %v", value, wait, ok)
		}
		if again, ok2 := parseRetryAfter("\t"+value+" ", retryAfterNow); again != wait || ok2 != ok {
			t.Fatalf("%q: %v, %v; with spaces around it %v, %v", value, wait, ok, again, ok2)
		}
		digits := value != "" && strings.Trim(value, "0123456789") == ""
		if n, err := strconv.ParseInt(value, 10, 64); digits {
			want := MaxHold
			if err == nil && n < int64(math.MaxInt64/time.Second) {
				want = min(MaxHold, time.Duration(n)*time.Second)
			}
			if !ok || wait != want {
				t.Fatalf("%q: %v, %v, want %v", value, wait, ok, want)
			}
		}
		if later, ok2 := parseRetryAfter(value, retryAfterNow.Add(time.Second)); ok2 != ok || later > wait {
			t.Fatalf("%q: %v now, %v a second later", value, wait, later)
		}
	})
}

// causes are innermost errors of round trips, and their outcomes.
var causes = []struct {
	err  error
	want Outcome
}{
	{io.EOF, FailedReset},
	{io.ErrUnexpectedEOF, FailedReset},
	{syscall.ECONNRESET, FailedReset},
	{context.DeadlineExceeded, FailedTimeout},
	{context.Canceled, FailedReset},
	{errors.New("tls: bad record MAC"), FailedTLS},
	{errors.New("net/http: TLS handshake timeout"), FailedTLS},
	{errors.New(`malformed HTTP response "tls: no, I have answered"`), FailedReset},
	{errors.New(`http2: server sent GOAWAY, debug="net/http: TLS handshake timeout"`), FailedReset},
	{&tls.CertificateVerificationError{Err: errors.New("x509: certificate has expired")}, FailedTLS},
	{tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, FailedTLS},
	{tls.AlertError(42), FailedTLS},
	{&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}, FailedDial},
	{&net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}, FailedReset},
	{&net.DNSError{Err: "no such host", IsTimeout: true}, FailedTimeout},
	{&BodyError{io.ErrUnexpectedEOF}, Truncated},
}

// FuzzClassifyError checks that an error has the outcome of its cause, however it is
// wrapped.
func FuzzClassifyError(f *testing.F) {
	for i := range causes {
		f.Add(uint8(i), []byte{0, 1, 2, 3}, "text")
	}
	f.Add(uint8(0), []byte{0, 4, 3}, "tls: ")
	f.Add(uint8(1), []byte{0}, "dial tcp: TLS handshake")
	f.Add(uint8(8), []byte("tls"), "tls")
	f.Fuzz(func(t *testing.T, cause uint8, wraps []byte, text string) {
		from := causes[int(cause)%len(causes)]
		if own := text + ": "; strings.HasPrefix(own, "tls: ") || strings.HasPrefix(own, "net/http: TLS") || len(wraps) > 50 {
			text, wraps = "quoting "+text, wraps[:min(len(wraps), 50)]
		}
		err := from.err
		for _, how := range wraps {
			switch how % 5 {
			case 0:
				err = fmt.Errorf("%s: %w", text, err)
			case 1:
				err = &url.Error{Op: "Put", URL: text, Err: err}
			case 2:
				err = errors.Join(errors.New("quoting "+text), err)
			case 3:
				err = &net.OpError{Op: "write", Net: "tcp", Err: err}
			case 4:
				err = fmt.Errorf("%q: %w and %w", text, err, io.EOF)
			}
		}
		if got := OfError(err); got != from.want {
			t.Fatalf("%v: got %v, want %v", err, got, from.want)
		}
	})
}

// cut drops the connection before the response.
func cut(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		conn.Close()
	}
}
