package failover

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
		want outcome
	}{
		{"a dial error of package net", &url.Error{Op: "Get", Err: refused}, failedDial},
		{"a dial that took too long", &net.OpError{Op: "dial", Err: context.DeadlineExceeded}, failedDial},
		{"an unknown authority", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, failedTLS},
		{"no TLS at all", tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, failedTLS},
		{"an alert", &net.OpError{Op: "remote error", Err: tls.AlertError(40)}, failedTLS},
		{"a handshake timeout", errors.New("net/http: TLS handshake timeout"), failedTLS},
		{"a deadline", context.DeadlineExceeded, failedTimeout},
		{"a response header timeout", &net.OpError{Op: "read", Err: timeoutErr{}}, failedTimeout},
		{"a reset", &net.OpError{Op: "read", Err: syscall.ECONNRESET}, failedReset},
		{"a broken pipe", &net.OpError{Op: "write", Err: syscall.EPIPE}, failedReset},
		{"the end", io.EOF, failedReset},
		{"an early end", io.ErrUnexpectedEOF, failedReset},
		{"nonsense", errors.New(`malformed HTTP response "x"`), failedReset},
	} {
		if got := classifyError(test.err); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

type timeoutErr struct{}

func (timeoutErr) Error() string   { return "timeout" }
func (timeoutErr) Timeout() bool   { return true }
func (timeoutErr) Temporary() bool { return true }

// TestClassifyRealErrors asks servers that fail in the way their name says.
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
		want      outcome
	}{
		{"closed", closed.URL, failedDial},
		{"plain", strings.Replace(plain.URL, "http:", "https:", 1), failedTLS},
		{"untrusted", secure.URL, failedTLS},
		{"a handshake with nobody", "https://" + mute.Addr().String(), failedTLS},
		{"an answer of nobody", "http://" + mute.Addr().String(), failedTimeout},
		{"cut", cutting.URL, failedReset},
	} {
		transport := &http.Transport{TLSHandshakeTimeout: 50 * time.Millisecond, ResponseHeaderTimeout: 50 * time.Millisecond}
		r, err := http.NewRequest("GET", test.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = transport.RoundTrip(r)
		if err == nil {
			t.Fatalf("%s: no error", test.name)
		}
		if got := classifyError(err); got != test.want {
			t.Errorf("%s: %v is %q, want %q", test.name, err, got, test.want)
		}
		transport.CloseIdleConnections()
	}
}

func TestClassifyStatus(t *testing.T) {
	failure, err := parseStatusSet(defaultFailureStatus)
	if err != nil {
		t.Fatal(err)
	}
	always := map[int]outcome{500: failedStatus, 502: failedStatus, 503: failedStatus, 504: failedStatus}
	for code := 520; code <= 529; code++ {
		always[code] = failedStatus
	}
	quota := map[int]outcome{401: denied, 402: denied, 403: denied, 429: rateLimited}
	for code := 0; code <= 1000; code++ {
		want, ok := always[code]
		if !ok {
			want = success
		}
		if got := classifyStatus(code, failure, false); got != want {
			t.Errorf("%d: got %q, want %q", code, got, want)
		}
		if special, ok := quota[code]; ok {
			want = special
		}
		if got := classifyStatus(code, failure, true); got != want {
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
		set, err := parseStatusSet(strings.Fields(test.words))
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
			if got, want := set.has(code), code >= test.want[0] && code <= test.want[1]; got != want {
				t.Errorf("%s: %d: %v", test.words, code, got)
			}
		}
	}
}

func TestOutcomes(t *testing.T) {
	for o := pending; o <= cancelled; o++ {
		blames := o != pending && o != success && o != cancelled
		if o.failed() != blames {
			t.Errorf("%q: failed is %v", o, o.failed())
		}
		if unprocessed := o == failedDial || o == failedTLS || o == rateLimited || o == denied; o.unprocessed() != unprocessed {
			t.Errorf("%q: unprocessed is %v", o, o.unprocessed())
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
		{"300", maxHold, true},
		{"301", maxHold, true},
		{"9223372036854775807", maxHold, true},
		{"99999999999999999999999", maxHold, true},
		{"-1", 0, false},
		{"+1", 0, false},
		{"1.5", 0, false},
		{"1e3", 0, false},
		{"0x10", 0, false},
		{"7s", 0, false},
		{"soon", 0, false},
		{"Wed, 04 Mar 2026 05:06:17 GMT", 10 * time.Second, true},
		{"Wed, 04 Mar 2026 06:06:17 GMT", maxHold, true},
		{"Wed, 04 Mar 2026 05:06:06 GMT", 0, true},
		{"Fri, 31 Dec 9999 23:59:59 GMT", maxHold, true},
		{"Mon, 01 Jan 0001 00:00:00 GMT", 0, true},
		{"Wednesday, 04-Mar-26 05:06:09 GMT", 2 * time.Second, true},
		{"Wed Mar  4 05:06:10 2026", 3 * time.Second, true},
	} {
		if got, ok := parseRetryAfter(test.value, retryAfterNow); got != test.want || ok != test.ok {
			t.Errorf("%q: got %v, %v, want %v, %v", test.value, got, ok, test.want, test.ok)
		}
	}
}

// FuzzRetryAfter: whatever a server sends, the wait is between nothing and
// maxHold; seconds mean themselves, and spaces around them nothing.
func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"7", "-1", "99999999999999999999", "Wed, 04 Mar 2026 05:06:17 GMT", " 12 ", "1.5"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		wait, ok := parseRetryAfter(value, retryAfterNow)
		if wait < 0 || wait > maxHold || !ok && wait != 0 {
			t.Fatalf("%q: %v, %v", value, wait, ok)
		}
		if again, ok2 := parseRetryAfter("\t"+value+" ", retryAfterNow); again != wait || ok2 != ok {
			t.Fatalf("%q: %v, %v; with spaces around it %v, %v", value, wait, ok, again, ok2)
		}
		digits := value != "" && strings.Trim(value, "0123456789") == ""
		if n, err := strconv.ParseInt(value, 10, 64); digits {
			want := maxHold
			if err == nil && n < int64(math.MaxInt64/time.Second) {
				want = min(maxHold, time.Duration(n)*time.Second)
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
