package answer

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"io"
	"iter"
	"net/http"

	"github.com/apifailover/caddy-failover/internal/jsondoc"
)

// A UsageRule says where responses state how many tokens their calls have used. It is read-only.
type UsageRule struct {
	paths [][]string // those of totals first
	total int        // the number of paths of totals
	part  []int      // for each other path, the index of its part
	parts int        // the number of parts
}

// NewUsageRule returns a rule with the paths of the total, and those of parts that add up to it if a
// response states no total. If a response states several numbers for a total or a part, the largest
// counts: the counts of a stream grow.
func NewUsageRule(total [][]string, parts [][][]string) *UsageRule {
	u := &UsageRule{paths: total, total: len(total), parts: len(parts)}
	for i, paths := range parts {
		for _, path := range paths {
			u.paths, u.part = append(u.paths, path), append(u.part, i)
		}
	}
	return u
}

// Read returns a Usage for a response with header h; nil if its body cannot be read.
func (u *UsageRule) Read(h http.Header) *Usage {
	zipped, known := codingOf(h)
	shape := shapeOf(h)
	if !known || shape == closed {
		return nil
	}
	r := &Usage{rule: u, numbers: jsondoc.NewNumbers(u.paths), events: shape == events}
	if zipped {
		r.unzip = newUnzipper(r.plain)
	}
	return r
}

// A Usage finds the tokens that a response states in its body, as the body arrives. It keeps none
// of the body. The caller of Read calls Close. It is not safe for concurrent use.
type Usage struct {
	rule    *UsageRule
	numbers *jsondoc.Numbers
	unzip   *unzipper // nil: the body is not zipped
	events  bool      // it is a stream of server-sent events
	line    line
}

// Add takes more of the body.
func (u *Usage) Add(more []byte) {
	if u.unzip != nil {
		u.unzip.add(more)
	} else {
		u.plain(more)
	}
}

// Close frees what the Usage holds.
func (u *Usage) Close() {
	if u.unzip != nil {
		u.unzip.close()
	}
}

// Tokens returns the tokens that the body states so far, or false if it states none.
func (u *Usage) Tokens() (tokens int64, ok bool) {
	for i := range u.rule.total {
		if n, some := u.numbers.Largest(i); some {
			tokens, ok = max(tokens, n), true
		}
	}
	if ok {
		return tokens, true
	}
	for part := range u.rule.parts {
		most := int64(0)
		for i, of := range u.rule.part {
			if n, some := u.numbers.Largest(u.rule.total + i); some && of == part {
				most, ok = max(most, n), true
			}
		}
		if tokens += most; tokens < 0 {
			return 0, false
		}
	}
	return tokens, ok
}

// plain takes more of the decoded body.
func (u *Usage) plain(more []byte) {
	if !u.events {
		u.numbers.Add(more)
		return
	}
	for len(more) > 0 {
		if u.line.feed && more[0] == '\n' {
			u.line, more = line{}, more[1:]
			continue
		}
		u.line.feed = false
		end := bytes.IndexAny(more, "\r\n")
		part := more
		if end >= 0 {
			part = more[:end]
		}
		if data := u.line.add(part); len(data) > 0 {
			u.numbers.Add(data)
		}
		if end < 0 {
			return
		}
		if u.line.length == 0 {
			u.numbers.Restart() // the event is over
		}
		u.line = line{feed: more[end] == '\r'}
		more = more[end+1:]
	}
}

// A line is the current line of a stream of events.
type line struct {
	begin  [len("data:")]byte // its first bytes
	length int                // how many of begin have arrived
	feed   bool               // the line before ended with a carriage return, so a line feed may follow
}

// add takes more of the line, and returns the part of it that is data.
func (l *line) add(part []byte) (data []byte) {
	n := copy(l.begin[l.length:], part)
	l.length += n
	if l.length == len(l.begin) && string(l.begin[:]) == "data:" {
		return part[n:]
	}
	return nil
}

// An unzipper decodes a gzip body that arrives in pieces. It decodes in add, with 40 KiB of memory.
type unzipper struct {
	packed []byte // not decoded yet
	next   func() (struct{}, bool)
	stop   func()
	yield  func(struct{}) bool
}

// newUnzipper returns an unzipper that passes decoded bytes to plain.
func newUnzipper(plain func([]byte)) *unzipper {
	z := new(unzipper)
	// The decoder pulls and the body is pushed, so the decoder is a coroutine.
	z.next, z.stop = iter.Pull(func(yield func(struct{}) bool) {
		z.yield = yield
		from, buffer := bufio.NewReader(z), make([]byte, 4<<10)
		decoder := new(gzip.Reader)
		for decoder.Reset(from) == nil { // for each member
			decoder.Multistream(false) // otherwise it waits for the next member at the end of each
			for err := error(nil); err == nil; {
				var n int
				n, err = decoder.Read(buffer)
				plain(buffer[:n])
			}
		}
	})
	return z
}

func (z *unzipper) add(more []byte) {
	z.packed = more
	z.next()
	z.packed = nil
}

func (z *unzipper) close() { z.stop() }

// Read implements io.Reader for the decoder.
func (z *unzipper) Read(p []byte) (n int, err error) {
	for len(z.packed) == 0 {
		if !z.yield(struct{}{}) {
			return 0, io.ErrUnexpectedEOF
		}
	}
	n = copy(p, z.packed)
	z.packed = z.packed[n:]
	return n, nil
}
