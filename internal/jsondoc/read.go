package jsondoc

import (
	"bytes"
	"encoding/json"
	"iter"
)

// IsObject reports whether a document that [Check] accepted is an object.
func IsObject(doc []byte) bool {
	at := skipSpace(doc, 0)
	return at < len(doc) && doc[at] == '{'
}

// Members yields the members of an object that [Check] accepted, in order: the decoded name
// and the raw value. It yields duplicate names each time they occur.
func Members(object []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for m := range members(object, skipSpace(object, 0)) {
			if !yield(string(decodeName(object[m.name:m.nameEnd])), object[m.value:m.valueEnd]) {
				return
			}
		}
	}
}

// A member is the position of an object's member or of an array's element in a document. An
// element has no name.
type member struct {
	name, nameEnd   int // including the quotes
	value, valueEnd int
}

// members yields the members of the container whose opening bracket is at the given offset
// of a checked document.
func members(doc []byte, at int) iter.Seq[member] {
	return func(yield func(member) bool) {
		object := doc[at] == '{'
		for {
			at = skipSpace(doc, at+1)
			if doc[at] == '}' || doc[at] == ']' {
				return
			}
			var m member
			if object {
				m.name, m.nameEnd = at, skipValue(doc, at)
				at = skipSpace(doc, skipSpace(doc, m.nameEnd)+1) // the colon
			}
			m.value, m.valueEnd = at, skipValue(doc, at)
			if !yield(m) {
				return
			}
			at = skipSpace(doc, m.valueEnd)
			if doc[at] != ',' {
				return
			}
		}
	}
}

// skipSpace returns the offset of the first byte from at on that is not white space.
func skipSpace(doc []byte, at int) int {
	for at < len(doc) && (doc[at] == ' ' || doc[at] == '\t' || doc[at] == '\n' || doc[at] == '\r') {
		at++
	}
	return at
}

// skipValue returns the end of the value at the given offset of a checked document.
func skipValue(doc []byte, at int) int {
	depth := 0
	for {
		switch doc[at] {
		case '"':
			at = skipText(doc, at)
		case '{', '[':
			depth++
			at++
		case '}', ']':
			depth--
			at++
		case ',', ':', ' ', '\t', '\n', '\r': // between the values of a container
			at++
		default:
			for at < len(doc) && isScalar(doc[at]) {
				at++
			}
		}
		if depth == 0 {
			return at
		}
	}
}

// isScalar reports whether a byte can be part of a number, true, false or null.
func isScalar(b byte) bool {
	return '0' <= b && b <= '9' || 'a' <= b && b <= 'z' || b == '-' || b == '+' || b == '.' || b == 'E'
}

func skipText(doc []byte, at int) int {
	for at++; doc[at] != '"'; at++ {
		if doc[at] == '\\' {
			at++
		}
	}
	return at + 1
}

// decodeName returns the text of a quoted name.
func decodeName(quoted []byte) []byte {
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return inner
	}
	var name string
	if json.Unmarshal(quoted, &name) != nil {
		return inner // cannot happen in a checked document
	}
	return []byte(name)
}
