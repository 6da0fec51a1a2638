package target

import "net/http"

// SetsCredential tells whether an endpoint that sets a header field has credentials of its own.
func SetsCredential(field string) bool {
	switch http.CanonicalHeaderKey(field) {
	case "Authorization", "Api-Key", "X-Api-Key", "X-Goog-Api-Key":
		return true
	}
	return false
}
