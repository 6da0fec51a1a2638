package call

import (
	"io"
	"net/http"
	"reflect"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// A call that fails leaves its request to the site's error routes, and one whose answer is
// handled (handle_response) to those routes. They expect a body that is whole.

var requestType = reflect.TypeFor[*http.Request]()

// originOf finds the request that the proxy was given in the body of the proxy's copy of it, which
// nothing has been read of; nil if it is not there. The proxy keeps it there for the trailers
// (reverseproxy.requestBodyWithTrailers), and nowhere else within reach.
func originOf(body io.ReadCloser) *http.Request {
	for v := reflect.ValueOf(body); v.Kind() == reflect.Pointer; {
		if v = v.Elem(); v.Kind() != reflect.Struct || v.NumField() == 0 || v.Field(0).Kind() != reflect.Interface {
			return nil
		}
		if v.NumField() > 1 && v.Field(1).Type() == requestType {
			return (*http.Request)(v.Field(1).UnsafePointer())
		}
		v = v.Field(0).Elem()
	}
	return nil
}

// leave lets go of the request's body: nobody needs it after an answer, but for what handles that.
func (c *Call) leave(answered bool) {
	switch {
	case c.body == nil || !c.finished:
	case !answered || c.Handler.Handles:
		c.handBack()
	case !c.Handler.Rematches:
		c.body.Finish()
	}
}

// handBack leaves the request's body to whoever handles the request next.
func (c *Call) handBack() {
	if c.body == nil {
		return
	}
	if a := c.Current; a != nil && a.sent != nil && !c.handed {
		a.sent.Close() // the transport may still read
	}
	var until time.Time
	if s, ok := c.Request.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok && s.ReadTimeout > 0 {
		until = c.began().Add(time.Duration(s.ReadTimeout))
	}
	c.body.HandBack(c.Request.Context(), until)
}
