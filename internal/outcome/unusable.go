package outcome

import (
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Unusable returns why no client can get a response to r; nil: one can. net/http accepts statuses with
// which its server panics, and 101 from endpoints that nobody asked to switch.
func Unusable(r *http.Request, resp *http.Response) error {
	switch code := resp.StatusCode; {
	case code == http.StatusSwitchingProtocols:
		if to, asked := upgrade(resp.Header), upgrade(r.Header); to != asked || to == "" {
			return fmt.Errorf("malformed response: switching to protocol %q instead of %q", to, asked)
		}
	case code < 200 || code > 999:
		return fmt.Errorf("malformed response: status %d", code)
	}
	return nil
}

// upgrade returns the protocol to which a message switches, in lower case; empty: none.
func upgrade(h http.Header) string {
	if !httpguts.HeaderValuesContainsToken(h["Connection"], "Upgrade") {
		return ""
	}
	return strings.ToLower(h.Get("Upgrade"))
}
