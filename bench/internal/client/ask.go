package client

import "net/http"

// An Ask says how requests to a proxy must look. The zero value is in no special way.
type Ask struct {
	Prefix string      // before the path
	Header http.Header // more fields
	JSON   bool        // bodies are JSON
}
