package jsondoc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxIndex is the largest index in a path. Shorter arrays are extended with nulls.
const maxIndex = 1000

// A Path is the position of a value in a document. The zero value is the whole document.
type Path []step

// A step leads from a container to one of its values.
type step struct {
	name   string
	index  int  // index into an array; -1 appends
	number bool // use index if the container is an array or is missing
}

// ParsePath parses names and indexes that are separated by dots, in the syntax of
// github.com/tidwall/sjson. A backslash escapes the next character. Digits are an index if
// the container is an array or is missing, -1 appends an element, and a colon before digits
// or -1 makes them a name. The wildcards and queries of that syntax (* ? # @ |) are errors
// unless escaped.
func ParsePath(text string) (Path, error) {
	var path Path
	for more := true; more; {
		var s step
		forced := strings.HasPrefix(text, ":")
		text = strings.TrimPrefix(text, ":")
		var name []byte
		i := 0
		for ; i < len(text) && text[i] != '.'; i++ {
			switch text[i] {
			case '*', '?', '#', '@', '|':
				return nil, fmt.Errorf("path: %q is a wildcard or a query, which a path cannot have; as a character of a name it is written \\%[1]c", text[i])
			case '\\':
				if i++; i == len(text) {
					return nil, fmt.Errorf("path: nothing follows the last backslash")
				}
			}
			name = append(name, text[i])
		}
		if more = i < len(text); more {
			text = text[i+1:]
		}
		if s.name = string(name); s.name == "" {
			return nil, fmt.Errorf("path: a name is empty")
		}
		if !forced {
			if err := s.parseIndex(); err != nil {
				return nil, err
			}
		}
		path = append(path, s)
	}
	return path, nil
}

// parseIndex makes the step an index if its name looks like one.
func (s *step) parseIndex() error {
	if s.name == "-1" {
		s.index, s.number = -1, true
		return nil
	}
	if strings.Trim(s.name, "0123456789") != "" {
		return nil
	}
	n, err := strconv.Atoi(s.name)
	if err != nil || n > maxIndex {
		return fmt.Errorf("path: index %s is over %d", s.name, maxIndex)
	}
	s.index, s.number = n, true
	return nil
}

// Set returns a copy of a document that [Check] accepted, with a JSON value at a path. It
// creates missing containers, and replaces a scalar on the path. A name in the path where
// the document has an array is an error.
//
// Set leaves only one member that a reader could take for a name of the path. Names are
// alike if they decode to the same text, or differ only in case or after a NUL. Of several
// alike members, Set keeps the last with exactly that name, else the last, and gives it
// exactly that name.
func Set(doc []byte, path Path, value []byte) ([]byte, error) {
	var e editor
	at := skipSpace(doc, 0)
	for i, s := range path {
		switch {
		case doc[at] == '{':
			kept, found := e.only(doc, at, s.name)
			if !found {
				e.append(doc, at, func(b []byte) []byte {
					return build(append(appendName(b, s.name), ':'), path[i+1:], value)
				})
				return e.apply(doc), nil
			}
			at = kept.value
		case doc[at] == '[' && !s.number:
			return nil, fmt.Errorf("%q is not an index, but the value is an array", s.name)
		case doc[at] == '[':
			element, n := nth(doc, at, s.index)
			if element == 0 {
				e.append(doc, at, func(b []byte) []byte {
					for ; n < s.index; n++ {
						b = append(b, "null,"...)
					}
					return build(b, path[i+1:], value)
				})
				return e.apply(doc), nil
			}
			at = element
		default: // a scalar
			e.replace(at, skipValue(doc, at), build(nil, path[i:], value))
			return e.apply(doc), nil
		}
	}
	e.replace(at, skipValue(doc, at), value)
	return e.apply(doc), nil
}

// nth returns the offset of an array's element, or 0 and the number of elements.
func nth(doc []byte, at, index int) (element, n int) {
	for m := range members(doc, at) {
		if n == index {
			return m.value, n
		}
		n++
	}
	return 0, n
}

// build appends a value inside the containers of a path.
func build(b []byte, path Path, value []byte) []byte {
	var closing []byte
	for _, s := range path {
		if !s.number {
			b = append(appendName(append(b, '{'), s.name), ':')
			closing = append(closing, '}')
			continue
		}
		b = append(b, '[')
		for range s.index {
			b = append(b, "null,"...)
		}
		closing = append(closing, ']')
	}
	slices.Reverse(closing)
	return append(append(b, value...), closing...)
}

func appendName(b []byte, name string) []byte {
	quoted, _ := json.Marshal(name)
	return append(b, quoted...)
}

// An editor collects changes to a document.
type editor struct{ changes []edit }

// An edit replaces the bytes [from, to) with text.
type edit struct {
	from, to int
	text     []byte
}

func (e *editor) replace(from, to int, text []byte) {
	e.changes = append(e.changes, edit{from, to, text})
}

// apply returns the changed document.
func (e *editor) apply(doc []byte) []byte {
	slices.SortStableFunc(e.changes, func(a, b edit) int { return a.from - b.from })
	size := len(doc)
	for _, c := range e.changes {
		size += len(c.text) - (c.to - c.from)
	}
	out := make([]byte, 0, size)
	at := 0
	for _, c := range e.changes {
		out = append(append(out, doc[at:c.from]...), c.text...)
		at = c.to
	}
	return append(out, doc[at:]...)
}

// append adds the output of add to the end of the container at the given offset. No other
// change may remove anything from that container.
func (e *editor) append(doc []byte, at int, add func([]byte) []byte) {
	end := at + 1
	var b []byte
	for m := range members(doc, at) {
		end, b = m.valueEnd, []byte{','}
	}
	e.replace(end, end, add(b))
}

// only removes all but one of the members alike name from the object at the given offset,
// and returns the one that is left.
func (e *editor) only(doc []byte, at int, name string) (kept member, found bool) {
	several, exact := false, false
	for m := range members(doc, at) {
		same, alike := compareName(doc[m.name:m.nameEnd], name)
		if !alike {
			continue
		}
		several = several || found
		if same || !exact {
			kept, found, exact = m, true, same
		}
	}
	if !found {
		return kept, false
	}
	if several {
		e.removeOthers(doc, at, name, kept)
	}
	if !exact || bytes.IndexByte(doc[kept.name:kept.nameEnd], '\\') >= 0 {
		e.replace(kept.name, kept.nameEnd, appendName(nil, name))
	}
	return kept, true
}

// removeOthers removes all members alike name except kept.
func (e *editor) removeOthers(doc []byte, at int, name string, kept member) {
	end := 0       // end of the previous member
	first := -1    // start of the removed members before the first kept one
	begun := false // a kept member has been seen
	for m := range members(doc, at) {
		_, alike := compareName(doc[m.name:m.nameEnd], name)
		switch remove := alike && m != kept; {
		case remove && begun:
			e.replace(end, m.valueEnd, nil)
		case remove && first < 0:
			first = m.name
		case !remove && !begun:
			begun = true
			if first >= 0 {
				e.replace(first, m.name, nil)
			}
		}
		end = m.valueEnd
	}
}

// compareName reports whether a quoted name is exactly name, and whether a reader could
// take it for name. Some readers ignore case, as encoding/json does, or stop at a NUL, as C
// does.
func compareName(quoted []byte, name string) (same, alike bool) {
	decoded := decodeName(quoted)
	if string(decoded) == name {
		return true, true
	}
	if end := bytes.IndexByte(decoded, 0); end >= 0 {
		decoded = decoded[:end]
	}
	return false, bytes.EqualFold(decoded, []byte(name))
}
