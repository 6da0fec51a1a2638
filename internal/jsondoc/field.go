package jsondoc

import (
	"errors"
	"strings"

	"github.com/tidwall/gjson"
)

// A Field is the path of a value in untrusted JSON documents.
type Field struct {
	query string
	name  string // of a member of the outermost object, if the path is just that and plain; else empty
}

// ParseField parses the path of a field, in the syntax of [ParsePath] without -1 and
// without colons before indexes.
func ParseField(text string) (Field, error) {
	path, err := ParsePath(text)
	if err != nil {
		return Field{}, err
	}
	parts := make([]string, len(path))
	for i, s := range path {
		if s.index < 0 {
			return Field{}, errors.New("path: -1 is after the last element, so it has no value")
		}
		parts[i] = gjson.Escape(s.name)
	}
	f := Field{query: strings.Join(parts, ".")}
	if len(path) == 1 && !strings.ContainsAny(path[0].name, `"\\`) {
		f.name = path[0].name
	}
	return f, nil
}

// In returns the value in a document: a string decoded, any other value as it is. It
// returns "" if the value is missing or null. In does not check the document and reads no
// more of it than needed, so in a document that is not JSON it may return anything. The
// first of several equal names counts.
func (f Field) In(doc []byte) string {
	if f.name != "" {
		if text, ok := topText(doc, f.name); ok {
			return string(text)
		}
	}
	return gjson.GetBytes(doc, f.query).String()
}

// InEach is In for a batch too: of a list of objects it returns the value that all of them have, or
// mixed if they differ. Elements without a value do not count.
func (f Field) InEach(doc []byte, mixed string) string {
	if at := skipSpace(doc, 0); at == len(doc) || doc[at] != '[' {
		return f.In(doc)
	}
	if value := f.In(doc); value != "" {
		return value // the path begins with an index
	}
	shared := ""
	gjson.ParseBytes(doc).ForEach(func(_, element gjson.Result) bool {
		value := element.Get(f.query).String()
		switch {
		case value == "":
		case shared == "":
			shared = value
		case shared != value:
			shared = mixed
			return false
		}
		return true
	})
	return shared
}
