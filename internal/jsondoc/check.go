// Package jsondoc checks untrusted JSON documents and sets values in them. Nothing in it
// recurses: time is linear in the size of a document, and nesting takes one bit of memory
// for each level.
package jsondoc

import (
	"errors"
	"unicode/utf8"
)

// MaxDepth is the deepest nesting that is accepted in JSON from a client or an endpoint.
const MaxDepth = 1000

var (
	// ErrSyntax means that a document is not one JSON value in UTF-8 (RFC 8259).
	ErrSyntax = errors.New("not JSON")
	// ErrDepth means that a document is nested too deeply.
	ErrDepth = errors.New("JSON is nested too deeply")
)

// Check returns nil if data is one JSON value in UTF-8 whose objects and arrays are nested
// at most depth deep. Otherwise it returns ErrSyntax or ErrDepth. If both apply, the error
// is the one that comes first in the document, except that invalid UTF-8 is always
// ErrSyntax.
func Check(data []byte, depth int) error {
	if !utf8.Valid(data) {
		return ErrSyntax
	}
	c := checker{data: data}
	for {
		opened, ok := c.value()
		if !ok {
			return ErrSyntax
		}
		if opened {
			if c.open.n > depth {
				return ErrDepth
			}
			if !c.closes() { // the container is not empty
				if !c.name() {
					return ErrSyntax
				}
				continue
			}
		}
		more, ok := c.after()
		switch {
		case !ok:
			return ErrSyntax
		case !more:
			return nil
		}
	}
}

// A checker reads a document from start to end.
type checker struct {
	data []byte
	at   int
	open bits // containers around at; true is an object
}

// value reads a scalar or the opening bracket of a container.
func (c *checker) value() (opened, ok bool) {
	switch c.space() {
	case '{', '[':
		c.open.push(c.data[c.at] == '{')
		c.at++
		return true, true
	case '"':
		return false, c.text()
	case 't':
		return false, c.literal("true")
	case 'f':
		return false, c.literal("false")
	case 'n':
		return false, c.literal("null")
	}
	return false, c.number()
}

// closes reads the closing bracket of the innermost container, and reports whether it was
// next.
func (c *checker) closes() bool {
	want := byte(']')
	if c.open.top() {
		want = '}'
	}
	if c.space() != want {
		return false
	}
	c.at++
	c.open.pop()
	return true
}

// name reads a name and a colon if the innermost container is an object.
func (c *checker) name() bool {
	if !c.open.top() {
		return true
	}
	if c.space() != '"' || !c.text() || c.space() != ':' {
		return false
	}
	c.at++
	return true
}

// after reads everything between a value and the next one. more is false at the end of the
// document.
func (c *checker) after() (more, ok bool) {
	for c.open.n > 0 {
		if c.space() == ',' {
			c.at++
			return true, c.name()
		}
		if !c.closes() {
			return false, false
		}
	}
	c.space()
	return false, c.at == len(c.data)
}

// space skips white space and returns the next byte, or 0 at the end.
func (c *checker) space() byte {
	c.at = skipSpace(c.data, c.at)
	if c.at == len(c.data) {
		return 0
	}
	return c.data[c.at]
}

func (c *checker) literal(word string) bool {
	if len(c.data)-c.at < len(word) || string(c.data[c.at:c.at+len(word)]) != word {
		return false
	}
	c.at += len(word)
	return true
}

// text reads a string. Its opening quote must be next.
func (c *checker) text() bool {
	for i := c.at + 1; i < len(c.data); i++ {
		switch b := c.data[i]; {
		case b == '"':
			c.at = i + 1
			return true
		case b < ' ':
			return false
		case b == '\\':
			if i++; i == len(c.data) {
				return false
			}
			switch c.data[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				if len(c.data)-i <= 4 || !isHex(c.data[i+1]) || !isHex(c.data[i+2]) || !isHex(c.data[i+3]) || !isHex(c.data[i+4]) {
					return false
				}
				i += 4
			default:
				return false
			}
		}
	}
	return false
}

func (c *checker) number() bool {
	if c.at < len(c.data) && c.data[c.at] == '-' {
		c.at++
	}
	if c.at < len(c.data) && c.data[c.at] == '0' {
		c.at++
	} else if !c.digits() {
		return false
	}
	if c.at < len(c.data) && c.data[c.at] == '.' {
		c.at++
		if !c.digits() {
			return false
		}
	}
	if c.at < len(c.data) && c.data[c.at]|0x20 == 'e' {
		c.at++
		if c.at < len(c.data) && (c.data[c.at] == '+' || c.data[c.at] == '-') {
			c.at++
		}
		return c.digits()
	}
	return true
}

// digits reads one or more digits.
func (c *checker) digits() bool {
	from := c.at
	for c.at < len(c.data) && '0' <= c.data[c.at] && c.data[c.at] <= '9' {
		c.at++
	}
	return c.at > from
}

func isHex(b byte) bool {
	return '0' <= b && b <= '9' || 'a' <= b|0x20 && b|0x20 <= 'f'
}

// bits is a stack of bits. The zero value is empty.
type bits struct {
	words []uint64
	n     int
}

func (s *bits) push(bit bool) {
	if s.n%64 == 0 {
		s.words = append(s.words[:s.n/64], 0)
	}
	if bit {
		s.words[s.n/64] |= 1 << (s.n % 64)
	} else {
		s.words[s.n/64] &^= 1 << (s.n % 64)
	}
	s.n++
}

func (s *bits) pop() { s.n-- }

func (s *bits) top() bool { return s.words[(s.n-1)/64]&(1<<((s.n-1)%64)) != 0 }
