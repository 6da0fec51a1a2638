package jsondoc

import (
	"errors"
	"strings"

	"github.com/tidwall/gjson"
)

// A Field is where a value stands in the JSON documents of strangers.
type Field struct{ query string }

// ParseField reads the path of a field, in the syntax of [ParsePath] without -1 and colons
// before indexes.
func ParseField(text string) (Field, error) {
	path, err := ParsePath(text)
	if err != nil {
		return Field{}, err
	}
	parts := make([]string, len(path))
	for i, s := range path {
		if s.index < 0 {
			return Field{}, errors.New("path: -1 is behind the last element, where nothing can be read")
		}
		parts[i] = gjson.Escape(s.name)
	}
	return Field{strings.Join(parts, ".")}, nil
}

// In returns the value in a document: a string decoded, anything else as it stands there. It
// returns "" where there is none, or it is null. It neither checks the document nor reads
// more of it than it has to: in what is no JSON it may find something or nothing. Where a
// name is there twice, the first counts.
func (f Field) In(doc []byte) string {
	return gjson.GetBytes(doc, f.query).String()
}
