package call

import (
	"io"
	"net/http"
	"reflect"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Error routes and handle_response routes may read the request's body after the call. They expect
// the whole body.

var requestType = reflect.TypeFor[*http.Request]()

// originOf returns the request that the proxy got, given the unread body of the proxy's copy; nil if
// it cannot be found. Within our reach, the proxy has it only in
// reverseproxy.requestBodyWithTrailers.
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

// leave frees the request's body after a call's last round trip, or hands it back if routes may still
// need it.
func (c *Call) leave(answered bool) {
	switch {
	case c.body == nil || !c.finished:
	case !answered || c.Handler.Handles:
		c.handBack()
	case !c.Handler.Rematches:
		c.body.Finish()
	}
}

// handBack restores the request's body for the next handler.
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
