package outcome

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"unicode"

	"golang.org/x/net/http2"
)

// longestShort is the maximum length of a short text, in bytes.
const longestShort = 80

// Short describes an error of a round trip in a few words: "connection refused", "no
// such host", "certificate has expired". The text is one line of at most 80 bytes of
// printable ASCII. It contains no address, no URL, and nothing that the error quotes.
func Short(err error) string {
	if text := known(err); text != "" {
		return text
	}
	return plainText(innermost(err).Error())
}

// ShortOfDial is Short for the error of a dial that hides its causes.
func ShortOfDial(err error) string {
	text := err.Error()
	text = text[strings.LastIndex(text, ": ")+1:]
	if text = plainText(text); text == "i/o timeout" || text == "operation was canceled" {
		return "connecting timed out"
	}
	return text
}

// known returns the text for an error that it recognizes; "" for others.
func known(err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		switch {
		case dns.IsNotFound:
			return "no such host"
		case dns.IsTimeout:
			return "looking up the host timed out"
		}
		return "looking up the host: " + plainText(dns.Err)
	}
	if text := ofCertificate(err); text != "" {
		return text
	}
	if alert, ok := errors.AsType[tls.AlertError](err); ok {
		return plainText(alert.Error())
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "the endpoint does not speak TLS"
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok && !errno.Timeout() {
		return plainText(errno.Error())
	}
	if stream, ok := errors.AsType[http2.StreamError](err); ok {
		return "HTTP/2 stream error " + plainText(stream.Code.String())
	}
	switch {
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return "the endpoint does not speak TLS"
	case errors.Is(err, io.EOF):
		return "connection closed before a response"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "connection closed in mid-response"
	case anyCause(err, isTimeout) && anyCause(err, isDialing):
		return "connecting timed out"
	case strings.Contains(err.Error(), "server sent GOAWAY"):
		return "HTTP/2 connection ended by the endpoint"
	case strings.Contains(err.Error(), "TLS handshake timeout"):
		return "TLS handshake timed out"
	case errors.Is(err, context.DeadlineExceeded) || anyCause(err, isTimeout):
		return "timeout"
	}
	return ""
}

// ofCertificate describes an error about an endpoint's certificate; "" for other errors.
func ofCertificate(err error) string {
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if invalid.Reason == x509.Expired {
			return expired(&invalid)
		}
		return plainText(invalid.Error())
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "certificate is for another host"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "certificate of an unknown authority"
	}
	if verification, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return plainText(innermost(verification).Error())
	}
	return ""
}

// expired distinguishes a certificate that is not valid yet from an expired one.
func expired(invalid *x509.CertificateInvalidError) string {
	if strings.Contains(invalid.Detail, "is before") {
		return "certificate is not valid yet"
	}
	return "certificate has expired"
}

// innermost returns the error that err wraps innermost; of several, the first.
func innermost(err error) error {
	for {
		switch wrapping := err.(type) {
		case interface{ Unwrap() error }:
			cause := wrapping.Unwrap()
			if cause == nil {
				return err
			}
			err = cause
			continue
		case interface{ Unwrap() []error }:
			for _, cause := range wrapping.Unwrap() {
				if cause != nil {
					return innermost(cause)
				}
			}
		}
		return err
	}
}

// plainText makes a text safe to show to anybody: it cuts the text before the first
// quotation, which may come from the endpoint, and hides URLs, addresses and keys.
func plainText(text string) string {
	if len(text) > 4*longestShort {
		text = text[:strings.LastIndexByte(text[:4*longestShort], ' ')+1] // the beginning of a cut key would not look like a key
	}
	text, _, _ = strings.Cut(text, `"`)
	words := strings.FieldsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
	shown := words[:0]
	for _, word := range words {
		if strings.Contains(word, "://") || strings.ContainsAny(word, "@?=") || LooksLikeKey(word) {
			word = "xxxxx"
		}
		shown = append(shown, word)
	}
	joined := strings.TrimRight(strings.Join(shown, " "), ": ")
	if len(joined) > longestShort {
		joined = joined[:longestShort-3] + "..."
	}
	if joined == "" {
		return "unknown error"
	}
	return joined
}

// LooksLikeKey reports whether a word may be a secret: 16 bytes or more, with letters
// and digits.
func LooksLikeKey(word string) bool {
	return len(word) >= 16 && strings.ContainsAny(word, "0123456789") && strings.ContainsFunc(word, unicode.IsLetter)
}
