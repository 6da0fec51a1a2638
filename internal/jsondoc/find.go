package jsondoc

import (
	"encoding/json"
	"slices"
)

// Found tells what is known about a value in an incomplete document.
type Found uint8

const (
	// Later means that the part so far does not tell.
	Later Found = iota
	// Absent means that the value is missing, or that the document is malformed.
	Absent
	// Here means that the value is complete.
	Here
)

// Named returns the path through members of the given names.
func Named(names ...string) (path Path) {
	for _, name := range names {
		path = append(path, step{name: name})
	}
	return path
}

// First returns the first name of the path; empty for an index.
func (p Path) First() string { return p[0].name }

// Equal reports whether two paths are the same.
func (p Path) Equal(other Path) bool { return slices.Equal(p, other) }

// Find looks up the value at a path in a document. doc is the beginning of the document, or
// all of it if whole is set. The first of several equal names counts. The document need not
// be checked.
func Find(doc []byte, path Path, whole bool) (value []byte, found Found) {
	at, found := find(doc, 0, path, whole)
	if found != Here {
		return nil, found
	}
	end, ok := valueEnd(doc, at, whole)
	if !ok {
		return nil, missing(whole)
	}
	return doc[at:end], Here
}

// Begin returns the offset at which the value at a path begins. Unlike with Find, the value need
// not be complete.
func Begin(doc []byte, path Path, whole bool) (at int, found Found) { return find(doc, 0, path, whole) }

// missing returns what is known about a value whose end has not arrived.
func missing(whole bool) Found {
	if whole {
		return Absent
	}
	return Later
}

// find returns the offset of the value at a path within the value at the given offset.
func find(doc []byte, at int, path Path, whole bool) (int, Found) {
	for _, s := range path {
		if at = skipSpace(doc, at); at == len(doc) {
			return 0, missing(whole)
		}
		var found Found
		switch {
		case doc[at] == '{':
			at, found = findMember(doc, at, s.name, whole)
		case doc[at] == '[' && s.number && s.index >= 0:
			at, found = findElement(doc, at, s.index, whole)
		default:
			found = Absent
		}
		if found != Here {
			return 0, found
		}
	}
	if at = skipSpace(doc, at); at == len(doc) {
		return 0, missing(whole)
	}
	return at, Here
}

// findMember returns the offset of a member's value in the object at the given offset.
func findMember(doc []byte, at int, name string, whole bool) (value int, found Found) {
	found = arrived(doc, at, whole, func(one []byte, at int) bool {
		if string(one) == name {
			value = at
		}
		return value == 0
	})
	return value, found
}

// Arrived yields the name of each member of the object at the start of a document, and the offset
// after the colon, as far as the document has arrived. It returns Here if a yield returned false,
// Later if more members may arrive, and Absent if not.
func Arrived(doc []byte, whole bool, yield func(name []byte, at int) bool) Found {
	at := skipSpace(doc, 0)
	switch {
	case at == len(doc):
		return missing(whole)
	case doc[at] != '{':
		return Absent
	}
	return arrived(doc, at, whole, yield)
}

// arrived is Arrived for the object at the given offset.
func arrived(doc []byte, at int, whole bool, yield func(name []byte, at int) bool) Found {
	for {
		at = skipSpace(doc, at+1)
		switch {
		case at >= len(doc):
			return missing(whole)
		case doc[at] != '"':
			return Absent
		}
		end, ok := textEnd(doc, at)
		if !ok {
			return missing(whole)
		}
		name := decodeName(doc[at:end])
		if at = skipSpace(doc, end); at == len(doc) {
			return missing(whole)
		}
		if doc[at] != ':' {
			return Absent
		}
		if at++; !yield(name, at) {
			return Here
		}
		var found Found
		if at, found = nextOf(doc, at, whole); found != Here {
			return found
		}
	}
}

// findElement returns the offset of an element in the array at the given offset.
func findElement(doc []byte, at, index int, whole bool) (int, Found) {
	for at++; index > 0; index-- {
		var found Found
		if at, found = nextOf(doc, at, whole); found != Here {
			return 0, found
		}
		at++
	}
	switch at = skipSpace(doc, at); {
	case at == len(doc):
		return 0, missing(whole)
	case doc[at] == ']':
		return 0, Absent
	}
	return at, Here
}

// nextOf returns the offset of the comma after the value at the given offset.
func nextOf(doc []byte, at int, whole bool) (int, Found) {
	end, ok := valueEnd(doc, at, whole)
	if !ok {
		return 0, missing(whole)
	}
	switch at = skipSpace(doc, end); {
	case at == len(doc):
		return 0, missing(whole)
	case doc[at] != ',':
		return 0, Absent
	}
	return at, Here
}

// valueEnd returns the end of the value at the given offset, or false if the value is
// incomplete or malformed.
func valueEnd(doc []byte, at int, whole bool) (end int, ok bool) {
	at = skipSpace(doc, at)
	for depth := 0; at < len(doc); {
		switch b := doc[at]; {
		case b == '"':
			if at, ok = textEnd(doc, at); !ok {
				return 0, false
			}
		case b == '{' || b == '[':
			depth++
			at++
		case b == '}' || b == ']':
			if depth--; depth < 0 {
				return 0, false
			}
			at++
		case isScalar(b):
			for at < len(doc) && isScalar(doc[at]) {
				at++
			}
			if at == len(doc) && !whole {
				return 0, false
			}
		case depth == 0:
			return 0, false
		default: // between the values of a container
			at++
		}
		if depth == 0 {
			return at, true
		}
	}
	return 0, false
}

// textEnd returns the end of the quoted text at the given offset.
func textEnd(doc []byte, at int) (end int, ok bool) {
	for at++; at < len(doc); at++ {
		switch doc[at] {
		case '\\':
			at++
		case '"':
			return at + 1, true
		}
	}
	return 0, false
}

// Elements returns the complete elements of the array at the start of a document. over
// reports whether no more will arrive.
func Elements(doc []byte, whole bool) (list [][]byte, over bool) {
	at := skipSpace(doc, 0)
	if at == len(doc) || doc[at] != '[' {
		return nil, whole || at < len(doc)
	}
	for {
		at = skipSpace(doc, at+1)
		end, ok := valueEnd(doc, at, whole)
		if !ok {
			return list, whole || at < len(doc) && doc[at] == ']'
		}
		list = append(list, doc[at:end])
		if at = skipSpace(doc, end); at == len(doc) || doc[at] != ',' {
			return list, whole || at < len(doc)
		}
	}
}

// Text returns the text of a value: the content of a string, any other value as it is.
func Text(value []byte) string {
	var text string
	if len(value) > 0 && value[0] == '"' && json.Unmarshal(value, &text) == nil {
		return text
	}
	return string(value)
}
