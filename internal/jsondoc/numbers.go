package jsondoc

import (
	"bytes"
	"math"
)

// Numbers finds whole numbers at certain paths of JSON documents that arrive in pieces. It keeps
// the largest number of each path and nothing else, so it needs little memory for documents of any
// size. A list of documents counts as its elements. Numbers does not check the documents, and finds
// no names with escapes. It is not safe for concurrent use.
type Numbers struct {
	paths   [][]string
	largest []int64 // of each path; -1: none

	depth int                // of the open objects and lists, without lists around a document
	lists int                // that are open around the document
	leads [maxNames + 1]mask // leads[d]: the paths whose first d names lead to the container of depth d
	value mask               // the paths that lead to the value that comes next

	word    [32]byte // the latest name, text or number
	length  int      // of the word; tooLong: it does not fit
	text    bool     // a text is open
	escape  bool     // its next byte is escaped
	numeric bool     // a number is open
}

// A mask is a set of paths, by their numbers.
type mask uint32

const (
	maxNames = 4 // of a path
	tooLong  = len(Numbers{}.word) + 1
)

// NewNumbers returns Numbers for at most 32 paths of at most 4 names each.
func NewNumbers(paths [][]string) *Numbers {
	n := &Numbers{paths: paths, largest: make([]int64, len(paths))}
	for i := range n.largest {
		n.largest[i] = -1
	}
	n.leads[0] = mask(1<<len(paths) - 1)
	return n
}

// Restart begins a new document. The numbers so far stay.
func (n *Numbers) Restart() {
	n.depth, n.lists, n.value = 0, 0, 0
	n.text, n.escape, n.numeric = false, false, false
}

// Largest returns the largest number at the i-th path so far, or false if there is none.
func (n *Numbers) Largest(i int) (int64, bool) { return n.largest[i], n.largest[i] >= 0 }

// Add takes more of the documents.
func (n *Numbers) Add(more []byte) {
	for len(more) > 0 {
		if n.text {
			more = n.readText(more)
			continue
		}
		b := more[0]
		more = more[1:]
		if n.numeric && isScalar(b) {
			n.keep(b)
			continue
		}
		n.endNumber()
		switch b {
		case '"':
			n.text, n.length = true, 0
		case ':':
			n.value = n.named()
		case ',':
			n.value = 0
		case '{', '[':
			n.open(b)
		case '}', ']':
			n.close()
		case '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '-':
			n.numeric, n.length = true, 0
			n.keep(b)
		}
	}
}

// readText reads the open text, and returns what follows it.
func (n *Numbers) readText(more []byte) []byte {
	if n.escape {
		n.escape, n.length = false, tooLong
		return more[1:]
	}
	part, rest := more, []byte(nil)
	if end := bytes.IndexAny(more, `"\`); end >= 0 {
		part, rest = more[:end], more[end+1:]
		n.escape = more[end] == '\\'
		n.text = n.escape
	}
	if n.length+len(part) <= len(n.word) {
		copy(n.word[n.length:], part)
	}
	n.length = min(n.length+len(part), tooLong)
	return rest
}

// keep adds a byte to the open number.
func (n *Numbers) keep(b byte) {
	if n.length < len(n.word) {
		n.word[n.length] = b
	}
	n.length = min(n.length+1, tooLong)
}

// named returns the paths that lead to the value after the latest name.
func (n *Numbers) named() (value mask) {
	if n.depth == 0 || n.depth > maxNames || n.leads[n.depth] == 0 || n.length == tooLong {
		return 0
	}
	for i, path := range n.paths {
		if n.leads[n.depth]>>i&1 != 0 && len(path) >= n.depth && path[n.depth-1] == string(n.word[:n.length]) {
			value |= 1 << i
		}
	}
	return value
}

func (n *Numbers) open(b byte) {
	if n.depth == 0 {
		if b == '[' {
			n.lists++
			return
		}
		n.value = n.leads[0]
	}
	if n.depth++; n.depth <= maxNames {
		n.leads[n.depth] = 0
		if b == '{' {
			n.leads[n.depth] = n.value
		}
	}
	n.value = 0
}

func (n *Numbers) close() {
	switch {
	case n.depth > 0:
		n.depth--
	case n.lists > 0:
		n.lists--
	}
	n.value = 0
}

// endNumber takes the open number, if there is one.
func (n *Numbers) endNumber() {
	if !n.numeric {
		return
	}
	n.numeric = false
	if n.value == 0 || n.length == tooLong {
		return
	}
	number, ok := wholeNumber(n.word[:n.length])
	if !ok {
		return
	}
	for i, path := range n.paths {
		if n.value>>i&1 != 0 && len(path) == n.depth {
			n.largest[i] = max(n.largest[i], number)
		}
	}
}

// wholeNumber reads a whole number of 0 or more.
func wholeNumber(digits []byte) (number int64, ok bool) {
	for _, b := range digits {
		if b < '0' || b > '9' || number > (math.MaxInt64-9)/10 {
			return 0, false
		}
		number = number*10 + int64(b-'0')
	}
	return number, len(digits) > 0
}
