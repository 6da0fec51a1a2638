package target

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/apifailover/caddy-failover/internal/dialect"
	"github.com/apifailover/caddy-failover/internal/jsondoc"
)

// A JSONEdit sets a value in a JSON body.
type JSONEdit struct {
	where    string // the path as text, for errors
	path     jsondoc.Path
	raw      []byte
	template any // the decoded value if its strings have placeholders, else nil
	optional bool
}

// NewJSONEdit returns an edit that sets a JSON value at a path that jsondoc.ParsePath
// accepts. An optional edit leaves a body alone if it cannot set the value.
func NewJSONEdit(path string, value json.RawMessage, optional bool) JSONEdit {
	e := JSONEdit{where: path, raw: value, optional: optional}
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

// replaced returns a copy of a value with the placeholders in its strings replaced. The
// replacements stay strings, whatever they contain.
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

// SetJSON returns the body for the target: a copy of body after all edits. asked is the client's
// name of the model.
func (t *Target) SetJSON(body []byte, asked string, repl *caddy.Replacer) ([]byte, error) {
	original := body
	if t.Models != nil && t.Models.place == dialect.InBody {
		body = t.Models.rename(body, asked)
	}
	for _, e := range t.Edits {
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
		body = bytes.Clone(body) // other attempts need the original
	}
	return body, nil
}

// SetEdits sets the edits of bodies for the target, in this order.
func (t *Target) SetEdits(edits []JSONEdit) {
	t.Edits = edits
	for _, e := range edits {
		t.NeedsJSON = t.NeedsJSON || !e.optional
	}
}
