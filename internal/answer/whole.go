package answer

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/apifailover/caddy-failover/internal/jsondoc"
)

// errMalformed is the error of a body that is not JSON although its header says so.
var errMalformed = errors.New("malformed JSON")

// looksAtWhole is the maximum size of a decoded body that Whole and CheckJSON read, in bytes.
const looksAtWhole = 16 << 20

// CheckJSON returns an error if a whole body is malformed for its Content-Type: JSON, lines of
// JSON, or events whose data begins as JSON. As JSON it also accepts several values, one on each
// line. It accepts bodies that it cannot decode.
func CheckJSON(h http.Header, body []byte) error {
	shape := shapeOf(h)
	if shape == closed || shape == text && !isJSON(h) {
		return nil
	}
	body, err := unpackWhole(h, body)
	if err != nil {
		return err
	}
	if shape != text {
		for data := range laterEvents(shape, body) {
			if malformed(data) {
				return errMalformed
			}
		}
		return nil
	}
	if !isDocument(body) {
		return errMalformed
	}
	return nil
}

// isDocument reports whether a body is JSON, or has a value of JSON on each line.
func isDocument(body []byte) bool {
	if isSyntax(body) {
		return true
	}
	for line := range bytes.Lines(body) {
		if line = bytes.TrimSpace(line); len(line) > 0 && !isSyntax(line) {
			return false
		}
	}
	return true
}

// Whole returns the rule of the first event of a whole stream that matches one for a JSON field with
// another meaning than OK; nil if none does. An Examiner stops at the first event with content; Whole reads the others too. It judges each
// event alone, and returns nil for bodies that are no streams.
func (rules *Rules) Whole(status int, h http.Header, body []byte) *Rule {
	shape := shapeOf(h)
	if !rules.Concern(status) || !rules.Look || shape != events && shape != lines {
		return nil
	}
	body, err := unpackWhole(h, body)
	if err != nil {
		return nil
	}
	for data := range laterEvents(shape, body) {
		if !rules.mayMatch(data) {
			continue
		}
		f := fieldsOf(rules.names, data, true)
		for i := range rules.list {
			r := &rules.list[i]
			if !r.Status.Has(status) || len(r.Path) == 0 || f.match(r) != matches {
				continue
			}
			if r.As != OK {
				return r
			}
			break // the event is good
		}
	}
	return nil
}

// hasTop reports whether tops has a name.
func (rules *Rules) hasTop(name string) bool {
	return slices.ContainsFunc(rules.tops, func(top []byte) bool { return string(top) == name })
}

// mayMatch reports whether data contains the first name of some rule's path. Most events of a good
// stream contain none, so this check saves parsing them.
func (rules *Rules) mayMatch(data []byte) bool {
	for _, name := range rules.tops {
		if bytes.Contains(data, name) {
			return true
		}
	}
	return false
}

// laterEvents yields the data of each event of a whole stream that has data.
func laterEvents(s shape, stream []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		var split splitter
		next := split.next
		if s == lines {
			next = split.nextLine
		}
		for {
			one, ok := next(stream, true)
			if !ok {
				return
			}
			if data := bytes.TrimSpace(one.data); len(data) > 0 && !yield(data) {
				return
			}
		}
	}
}

// malformed reports whether the data of an event begins as a JSON object or array but is not JSON.
// A sentinel such as [DONE] is neither.
func malformed(data []byte) bool {
	isArray := data[0] == '[' && !(len(data) > 1 && 'A' <= data[1]&^0x20 && data[1]&^0x20 <= 'Z')
	return (data[0] == '{' || isArray) && !isSyntax(data)
}

// isSyntax reports whether data is JSON, however deeply nested. Like clients, it ignores a byte
// order mark and accepts bytes that are not UTF-8.
func isSyntax(data []byte) bool {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(data) {
		data = bytes.ToValidUTF8(data, []byte("?"))
	}
	return !errors.Is(jsondoc.Check(data, jsondoc.MaxDepth), jsondoc.ErrSyntax)
}

// isJSON reports whether the Content-Type of a body is JSON.
func isJSON(h http.Header) bool {
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && (kind == "application/json" || strings.HasSuffix(kind, "+json"))
}

// unpackWhole decodes a whole body. It returns errMalformed for gzip that is cut off or corrupt, and
// nil for a body that it cannot read or that is too large.
func unpackWhole(h http.Header, body []byte) (plain []byte, err error) {
	zipped, known := codingOf(h)
	switch {
	case !known || len(body) == 0:
		return nil, nil
	case !zipped:
		return body, nil
	}
	unzip, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, errMalformed
	}
	plain, err = io.ReadAll(io.LimitReader(unzip, looksAtWhole+1))
	switch {
	case err != nil:
		return nil, errMalformed
	case len(plain) > looksAtWhole:
		return nil, nil
	}
	return plain, nil
}
