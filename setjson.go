package failover

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/apifailover/caddy-failover/internal/jsondoc"
)

// SetJSON sets a value in JSON request bodies that go to an endpoint. The body must
// be an object in UTF-8, no larger than the retry block's `buffer`, in which it is held
// before the endpoint is asked, and nested at most 1,000 deep. Requests without a body
// stay as they are.
//
// The value is the only one that the endpoint can find at the path: other members whose
// names decode to the same text, or differ from it in case only, are removed.
type SetJSON struct {
	// Where, as in github.com/tidwall/sjson without wildcards and queries: `model`,
	// `options.seed`, `messages.0.role`, `messages.-1`. Required.
	Path string `json:"path,omitempty"`

	// Any JSON value. Placeholders in its strings are replaced. Required.
	Value json.RawMessage `json:"value,omitempty"`

	// Lets the endpoint have bodies that are not JSON objects, or too large, as they
	// are. Default: false; then such a call passes the endpoint over, and gets 415
	// or 413 if there is no other.
	Optional bool `json:"optional,omitempty"`
}

// jsonWord is what a word of a Caddyfile means as JSON: itself if it is JSON, else
// a string.
func jsonWord(word string) json.RawMessage {
	if json.Valid([]byte(word)) {
		return json.RawMessage(word)
	}
	quoted, _ := json.Marshal(word)
	return quoted
}

func (s *SetJSON) validate() error {
	switch {
	case s.Path == "":
		return errors.New("set_json: the path is missing")
	case !json.Valid(s.Value):
		return fmt.Errorf("set_json %s: the value is not JSON", s.Path)
	}
	if _, err := jsondoc.ParsePath(s.Path); err != nil {
		return fmt.Errorf("set_json %s: %w", s.Path, err)
	}
	return nil
}

// A jsonEdit sets a value in a JSON body.
type jsonEdit struct {
	where    string
	path     jsondoc.Path
	raw      []byte
	template any // where strings have placeholders, else nil
	optional bool
}

// jsonEdits are a list of SetJSON, ready for use. They have been validated.
func jsonEdits(list []*SetJSON) []jsonEdit {
	var ready []jsonEdit
	for _, s := range list {
		ready = append(ready, newJSONEdit(s.Path, s.Value, s.Optional))
	}
	return ready
}

// newJSONEdit sets a JSON value at a path that ParsePath takes. An optional edit leaves a
// body as it is that it does not work on.
func newJSONEdit(path string, value json.RawMessage, optional bool) jsonEdit {
	e := jsonEdit{where: path, raw: value, optional: optional}
	e.path, _ = jsondoc.ParsePath(path)
	decoder := json.NewDecoder(bytes.NewReader(value))
	decoder.UseNumber()
	var decoded any
	if err := decoder.Decode(&decoded); err == nil && hasPlaceholder(decoded) {
		e.template = decoded
	}
	return e
}

func hasPlaceholder(value any) bool {
	switch v := value.(type) {
	case string:
		return strings.Contains(v, "{")
	case []any:
		return slices.ContainsFunc(v, hasPlaceholder)
	case map[string]any:
		for _, element := range v {
			if hasPlaceholder(element) {
				return true
			}
		}
	}
	return false
}

// replaced is a value with the placeholders in its strings replaced. What comes in
// through them stays text, whatever it looks like.
func replaced(value any, repl *caddy.Replacer) any {
	switch v := value.(type) {
	case string:
		return repl.ReplaceKnown(v, "")
	case []any:
		out := make([]any, len(v))
		for i, element := range v {
			out[i] = replaced(element, repl)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, element := range v {
			out[key] = replaced(element, repl)
		}
		return out
	}
	return value
}

// setJSON makes the body that goes to the target.
func (t *target) setJSON(body []byte, repl *caddy.Replacer) ([]byte, error) {
	original := body
	for _, e := range t.edits {
		raw := e.raw
		if e.template != nil {
			var err error
			if raw, err = json.Marshal(replaced(e.template, repl)); err != nil {
				return nil, fmt.Errorf("setting %s: %w", e.where, err)
			}
		}
		edited, err := jsondoc.Set(body, e.path, raw)
		if err != nil {
			if e.optional {
				continue
			}
			return nil, fmt.Errorf("setting %s: %w", e.where, err)
		}
		body = edited
	}
	if len(original) > 0 && &body[0] == &original[0] {
		body = bytes.Clone(body) // the original is used again
	}
	return body, nil
}

// setEdits makes the target edit bodies, in this order.
func (t *target) setEdits(edits []jsonEdit) {
	t.edits = edits
	for _, e := range edits {
		t.needsJSON = t.needsJSON || !e.optional
	}
}

// An unfit request is one that no endpoint gets, because of what its body or its path
// is. It is an error that the client gets as an answer.
type unfit struct {
	status int // 400, 413, 415 or 503
	reason string
}

func (u *unfit) Error() string { return u.reason }

// answer is what the client gets.
func (u *unfit) answer(r *http.Request) *http.Response {
	kind := "unsupported_media_type"
	header := http.Header{"Content-Type": {"application/json"}}
	switch u.status {
	case http.StatusBadRequest:
		kind = "bad_request"
	case http.StatusRequestEntityTooLarge:
		kind = "request_too_large"
	case http.StatusServiceUnavailable:
		kind = "out_of_memory"
		header.Set("Retry-After", "1")
	}
	body, _ := json.Marshal(map[string]any{"error": map[string]any{"type": kind, "code": kind, "message": u.reason}})
	return &http.Response{
		Status:        fmt.Sprintf("%d %s", u.status, http.StatusText(u.status)),
		StatusCode:    u.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        header,
		Body:          io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)),
		Request:       r,
	}
}

// prepareJSON reads the whole body of a call at a pool some of whose endpoints have
// it edited, and finds out whether it can be. The error is that of the body.
func (c *call) prepareJSON(patience time.Duration) error {
	rec := c.body
	limit := c.handler.retry.buffer
	if c.request.ContentLength > limit {
		c.extra().unfit = tooLarge(limit)
		return nil
	}
	body, whole, err := rec.readAhead(patience)
	x := c.extra()
	switch {
	case err != nil:
		return err
	case !whole && rec.lacks():
		x.unfit = &unfit{http.StatusServiceUnavailable, "there is no memory now for the request's body, which the endpoints of this API have edited"}
	case !whole:
		x.unfit = tooLarge(limit)
	case len(body) > 0:
		x.unfit = notAnObject(body)
	}
	x.whole = x.unfit == nil && len(body) > 0
	return nil
}

// notAnObject says why a body cannot be edited; nil: it can.
func notAnObject(body []byte) *unfit {
	err := jsondoc.Check(body, jsondoc.MaxDepth)
	switch {
	case err == jsondoc.ErrDepth:
		return &unfit{http.StatusUnsupportedMediaType,
			fmt.Sprintf("the request's body is JSON that is nested more than %d deep, which the endpoints of this API do not take", jsondoc.MaxDepth)}
	case err != nil || !jsondoc.IsObject(body):
		return &unfit{http.StatusUnsupportedMediaType, "the request's body is not a JSON object, which the endpoints of this API need"}
	}
	return nil
}

func tooLarge(limit int64) *unfit {
	return &unfit{http.StatusRequestEntityTooLarge,
		fmt.Sprintf("the request's body is larger than %d bytes, which the endpoints of this API take at most", limit)}
}

// edit puts the body that goes to the attempt's endpoint into the request.
func (a *attempt) edit(out *http.Request) *unfit {
	repl, _ := out.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if repl == nil {
		repl = caddy.NewReplacer()
	}
	body, err := a.target.setJSON(a.call.body.whole(), repl)
	if err != nil {
		return &unfit{http.StatusUnsupportedMediaType, err.Error()}
	}
	a.call.body.take(int64(len(body)))
	if _, ok := out.Header["Content-Length"]; ok {
		out.Header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	for _, digest := range [...]string{"Content-Md5", "Digest", "Content-Digest", "Repr-Digest"} {
		out.Header.Del(digest)
	}
	out.ContentLength, out.TransferEncoding = int64(len(body)), nil
	out.Body = io.NopCloser(bytes.NewReader(body))
	out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	return nil
}
