package jsondoc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// MaxIndex is the largest index that a path may have: an array that is shorter is
// filled up with nulls.
const MaxIndex = 1000

// A Path says where in a document a value is. The zero value is the whole document.
type Path []step

// A step goes from a container to one of its values.
type step struct {
	name   string
	index  int  // into an array; -1: behind its end
	number bool // index counts, where there is an array or nothing
}

// ParsePath reads names and indexes that dots separate, in the syntax of
// github.com/tidwall/sjson: a backslash takes the next character as it is, digits are an
// index where there is an array or nothing yet, -1 is the place behind the last element,
// and a colon before digits or -1 makes them a name. The wildcards and queries of that
// syntax (* ? # @ |) are refused unless a backslash is before them.
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
			if err := s.asIndex(); err != nil {
				return nil, err
			}
		}
		path = append(path, s)
	}
	return path, nil
}

// asIndex makes an index of a name that looks like one.
func (s *step) asIndex() error {
	if s.name == "-1" {
		s.index, s.number = -1, true
		return nil
	}
	if strings.Trim(s.name, "0123456789") != "" {
		return nil
	}
	n, err := strconv.Atoi(s.name)
	if err != nil || n > MaxIndex {
		return fmt.Errorf("path: index %s is over %d", s.name, MaxIndex)
	}
	s.index, s.number = n, true
	return nil
}

// Set returns a document, which [Check] has let through, with a JSON value at a path. What
// is missing on the way is made, and a scalar on the way is replaced. It is an error if
// the path has a name where the document has an array. The document itself stays as it is.
//
// Of all that a reader might take for a name of the path only one is left: of several members
// whose names decode to the same text, or differ in case or in what follows a NUL only,
// the last with just that name is kept, else the last, and gets just that name.
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
			return nil, fmt.Errorf("%q is no index, and there is an array", s.name)
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

// nth returns where an element of an array stands, else 0 and how many there are.
func nth(doc []byte, at, index int) (element, n int) {
	for m := range members(doc, at) {
		if n == index {
			return m.value, n
		}
		n++
	}
	return 0, n
}

// build appends a value within the containers that a path needs.
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

// An editor collects changes of a document.
type editor struct{ changes []edit }

// An edit puts text in the place of what is from one place to another.
type edit struct {
	from, to int
	text     []byte
}

func (e *editor) replace(from, to int, text []byte) {
	e.changes = append(e.changes, edit{from, to, text})
}

// apply makes the changed document.
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

// append adds what add makes to the end of the container at a place, from which nothing
// is removed.
func (e *editor) append(doc []byte, at int, add func([]byte) []byte) {
	end := at + 1
	var b []byte
	for m := range members(doc, at) {
		end, b = m.valueEnd, []byte{','}
	}
	e.replace(end, end, add(b))
}

// only leaves one of the members that may be read as having a name in the object at a
// place.
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

// removeOthers removes all members that may be read as having a name, but one.
func (e *editor) removeOthers(doc []byte, at int, name string, kept member) {
	end := 0       // of the member before
	first := -1    // the beginning of those that are removed before any that stays
	begun := false // one that stays has been seen
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

// compareName tells whether a quoted name is a name, and whether some reader may take it
// for that: one that looks at no case, as encoding/json, or stops at a NUL, as C.
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
