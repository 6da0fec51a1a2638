package jsondoc

import (
	"bytes"
	"encoding/json"
	"iter"
)

// IsObject tells whether a document that [Check] has let through is an object.
func IsObject(doc []byte) bool {
	at := skipSpace(doc, 0)
	return at < len(doc) && doc[at] == '{'
}

// Members yields the members of an object that [Check] has let through, in order:
// the decoded name and the value as it stands there. A name that is there twice comes
// twice.
func Members(object []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for m := range members(object, skipSpace(object, 0)) {
			if !yield(string(decodeName(object[m.name:m.nameEnd])), object[m.value:m.valueEnd]) {
				return
			}
		}
	}
}

// A member is where a member of an object, or an element of an array, stands in a
// document. An element has no name.
type member struct {
	name, nameEnd   int // with the quotes
	value, valueEnd int
}

// members yields the members of the container whose bracket is at a place in a checked
// document.
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

// skipSpace returns where the next byte stands that is no white space.
func skipSpace(doc []byte, at int) int {
	for at < len(doc) && (doc[at] == ' ' || doc[at] == '\t' || doc[at] == '\n' || doc[at] == '\r') {
		at++
	}
	return at
}

// skipValue returns where the value ends that stands at a place in a checked document.
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

// isScalar tells whether a byte may stand in a number, true, false or null.
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

// decodeName returns what a quoted name says.
func decodeName(quoted []byte) []byte {
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return inner
	}
	var name string
	if json.Unmarshal(quoted, &name) != nil {
		return inner // which a checked document has not
	}
	return []byte(name)
}
