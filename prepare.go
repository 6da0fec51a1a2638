package failover

import (
	"net/http"
	"net/url"
)

// rewrite makes a request of its own for the attempt.
func (a *attempt) rewrite(r *http.Request) (*http.Request, *unfit) {
	t, c := a.target, a.call
	edits := t.edits != nil && c.extras != nil && c.extras.whole
	strip := t.strip && !c.handler.stripsAll
	out := r.WithContext(a)
	if c.body != nil && !edits {
		a.sent = c.body.send(out, a.began)
	}
	if a.dial() != nil {
		a.direct(out, t.scheme(r.URL))
	}
	if t.url != nil {
		if a.hedge != nil || !c.handler.plain || !t.keeps(out.URL) {
			out.URL = t.join(out.URL)
		}
		out.Host = t.host
	} else if a.race() != nil {
		own := *r.URL // the proxy's transport writes to it, while the rival reads r's
		out.URL = &own
	}
	if strip || t.headers != nil || c.handler.looks || edits {
		out.Header = r.Header.Clone()
		if c.handler.looks {
			readable(out.Header)
		}
		if strip {
			c.stripCredentials(out.Header)
		}
		if t.headers != nil {
			t.headers.ApplyToRequest(out)
		}
	}
	if edits {
		return out, a.edit(out)
	}
	return out, nil
}

// scheme is that of a request to the endpoint.
func (t *target) scheme(request *url.URL) string {
	if t.url != nil {
		return t.url.Scheme
	}
	return request.Scheme
}

// keeps tells whether join would change nothing of a URL that a transport without TLS
// is given.
func (t *target) keeps(request *url.URL) bool {
	return t.bare && request.User == nil && request.Opaque == "" && (request.Scheme == "" || request.Scheme == "http")
}

// join makes the URL of a request to the endpoint, without the client's user
// and password. With https the URL has the endpoint's host, for TLS; with http it
// keeps the dial address, by which connections are pooled.
func (t *target) join(request *url.URL) *url.URL {
	if t.url == nil {
		joined := *request
		joined.User = nil
		return &joined
	}
	joined := joinURL(t.url, request)
	if t.url.Scheme == "http" {
		joined.Host = request.Host
	}
	return joined
}

// stripCredentials removes what the client itself sent; a header_up of the
// proxy that sets such a field stays.
func (c *call) stripCredentials(h http.Header) {
	for i, field := range credentialFields {
		if values := h[field]; len(values) > 0 && values[0] == c.extras.credentials[i] {
			delete(h, field)
		}
	}
}
