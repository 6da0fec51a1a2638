// Package client creates HTTP clients for one protocol.
package client

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
)

// A Protocol is the protocol between a client and a proxy.
type Protocol string

// Protocols.
const (
	H1    Protocol = "h1"    // HTTP/1.1 without TLS
	H2C   Protocol = "h2c"   // HTTP/2 without TLS, by prior knowledge
	H2TLS Protocol = "h2tls" // HTTP/2 over TLS
)

// Protocols returns all protocols.
func Protocols() []Protocol { return []Protocol{H1, H2C, H2TLS} }

// Title returns the protocol's name for readers, or "" if it is unknown.
func (p Protocol) Title() string {
	return map[Protocol]string{H1: "HTTP/1.1", H2C: "HTTP/2 without TLS", H2TLS: "HTTP/2 over TLS"}[p]
}

// URL returns the root URL of the server at an address.
func (p Protocol) URL(address string) string {
	if p == H2TLS {
		return "https://" + address
	}
	return "http://" + address
}

// New returns a client that speaks only this protocol, with its own connections. With TLS
// it trusts roots.
func New(protocol Protocol, roots *x509.CertPool) *http.Client {
	return &http.Client{Transport: NewTransport(protocol, roots)}
}

// NewTransport returns the transport of such a client.
func NewTransport(protocol Protocol, roots *x509.CertPool) *http.Transport {
	transport := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{RootCAs: roots}, DisableCompression: true}
	transport.Protocols.SetHTTP1(protocol == H1)
	transport.Protocols.SetUnencryptedHTTP2(protocol == H2C)
	transport.Protocols.SetHTTP2(protocol == H2TLS)
	return transport
}
