package call

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// An unfit request goes to no endpoint, because of its body, its path or its model. The
// client gets the reason as an answer.
type unfit struct {
	Status int // 400, 404, 413, 415 or 503
	reason string
}

// Error implements error.
func (u *unfit) Error() string { return u.reason }

// answer returns the response that the client gets.
func (u *unfit) answer(r *http.Request) *http.Response {
	kind := "unsupported_media_type"
	code := ""
	header := http.Header{"Content-Type": {"application/json"}}
	switch u.Status {
	case http.StatusNotFound: // in the words of OpenAI's API
		kind, code = "invalid_request_error", "model_not_found"
	case http.StatusBadRequest:
		kind = "bad_request"
	case http.StatusRequestEntityTooLarge:
		kind = "request_too_large"
	case http.StatusServiceUnavailable:
		kind = "out_of_memory"
		header.Set("Retry-After", "1")
	}
	body, _ := json.Marshal(map[string]any{"error": map[string]any{"type": kind, "code": cmp.Or(code, kind), "message": u.reason}})
	return &http.Response{
		Status:        fmt.Sprintf("%d %s", u.Status, http.StatusText(u.Status)),
		StatusCode:    u.Status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        header,
		Body:          io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)),
		Request:       r,
	}
}

// errOutside answers a path that may lead out of an endpoint's base URL: what is beside it may
// be another tenant's, and the endpoint's credentials may open it.
var errOutside = &unfit{http.StatusBadRequest, "the request's path leads out of the API: it has too many dot segments (..)"}
