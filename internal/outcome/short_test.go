package outcome

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

func TestShort(t *testing.T) {
	dial := func(err error) error {
		return &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 443}, Err: err}
	}
	sys := func(errno syscall.Errno) error { return os.NewSyscallError("connect", errno) }
	for _, c := range []struct {
		err  error
		want string
	}{
		{dial(sys(syscall.ECONNREFUSED)), "connection refused"},
		{dial(sys(syscall.EHOSTUNREACH)), "no route to host"},
		{dial(sys(syscall.ENETUNREACH)), "network is unreachable"},
		{dial(sys(syscall.EMFILE)), "too many open files"},
		{dial(&net.DNSError{Err: "no such host", Name: "secret.example", IsNotFound: true}), "no such host"},
		{dial(&net.DNSError{Err: "i/o timeout", Name: "secret.example", IsTimeout: true}), "looking up the host timed out"},
		{dial(&net.DNSError{Err: "server misbehaving", Name: "secret.example"}), "looking up the host: server misbehaving"},
		{dial(os.ErrDeadlineExceeded), "connecting timed out"},
		{dial(sys(syscall.ETIMEDOUT)), "connecting timed out"},
		{&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, "connection reset by peer"},
		{&net.OpError{Op: "write", Err: os.NewSyscallError("write", syscall.EPIPE)}, "broken pipe"},
		{&tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired, Detail: "current time 2026-01-01 is after 2025-01-01"}}, "certificate has expired"},
		{&tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired, Detail: "current time 2026-01-01 is before 2027-01-01"}}, "certificate is not valid yet"},
		{&tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{}, Host: "secret.example"}}, "certificate is for another host"},
		{&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, "certificate of an unknown authority"},
		{tls.AlertError(40), "tls: handshake failure"},
		{tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, "the endpoint does not speak TLS"},
		{errors.New("net/http: TLS handshake timeout"), "TLS handshake timed out"},
		{errors.New("http: server gave HTTP response to HTTPS client"), "the endpoint does not speak TLS"},
		{io.EOF, "connection closed before a response"},
		{&BodyError{io.ErrUnexpectedEOF}, "connection closed in mid-response"},
		{http2.StreamError{StreamID: 3, Code: http2.ErrCodeInternal}, "HTTP/2 stream error INTERNAL_ERROR"},
		{errors.New(`http2: server sent GOAWAY and closed the connection; LastStreamID=1, ErrCode=NO_ERROR, debug="x"`), "HTTP/2 connection ended by the endpoint"},
		{context.DeadlineExceeded, "timeout"},
		{&url.Error{Op: "Get", URL: "https://u:p@h/?key=secret", Err: errors.New("net/http: HTTP/1.x transport connection broken: malformed HTTP status code \"\u202esecret\"")},
			"net/http: HTTP/1.x transport connection broken: malformed HTTP status code"},
		{errors.New("asking https://h/v1?key=secret with sk-abcdefgh12345678 failed"), "asking xxxxx with xxxxx failed"},
		{errors.New("\x1b[2J\u202e"), "[2J"},
		{errors.New(""), "unknown error"},
		{errors.New(strings.Repeat("k3y", 500)), "unknown error"},
		{errors.New(strings.Repeat("very ", 100)), strings.Repeat("very ", 16)[:77] + "..."},
		{errors.Join(nil, fmt.Errorf("a: %w", sys(syscall.ECONNREFUSED))), "connection refused"},
	} {
		if got := Short(c.err); got != c.want {
			t.Errorf("%v: got %q, want %q", c.err, got, c.want)
		}
	}
}

func TestShortOfDial(t *testing.T) {
	for text, want := range map[string]string{
		"dial tcp 127.0.0.1:1: connect: connection refused":              "connection refused",
		"dial tcp: lookup secret.example on 127.0.0.53:53: no such host": "no such host",
		"dial tcp 10.0.0.1:443: i/o timeout":                             "connecting timed out",
		"dial unix /run/api.sock: connect: no such file or directory":    "no such file or directory",
		"dial tcp [::1]:443: connect: network is unreachable":            "network is unreachable",
	} {
		if got := ShortOfDial(errors.New(text)); got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}

// TestShortOfRealErrors checks the text for an error that package net makes.
func TestShortOfRealErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	l.Close()
	if _, err = net.DialTimeout("tcp", at, time.Minute); err == nil || Short(err) != "connection refused" {
		t.Errorf("got %q of %v", Short(err), err)
	}
}

// FuzzShort checks that the short text of any error is one short line of printable ASCII
// without a key.
func FuzzShort(f *testing.F) {
	f.Add("malformed HTTP response \"\\x16\\x03\" sk-0123456789abcdef")
	f.Add("\u202e\x00")
	f.Fuzz(func(t *testing.T, text string) {
		short := Short(errors.New(text))
		if short == "" || len(short) > longestShort || strings.ContainsFunc(short, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Fatalf("%q: %q", text, short)
		}
		for word := range strings.FieldsSeq(strings.TrimSuffix(short, "...")) {
			if LooksLikeKey(word) {
				t.Fatalf("%q: shows %q", text, word)
			}
		}
	})
}
