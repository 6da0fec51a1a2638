package answer

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"net/http"
)

// An Examiner applies rules to the body of one response as it arrives. It reads at most LooksAt
// bytes and, of a stream of events or of lines of JSON, only up to the first with content. It is not
// safe for concurrent use.
type Examiner struct {
	rules    []*Rule // that may match, by status and headers
	names    []string
	header   http.Header // of the response
	states   []state     // of the rules
	shape    shape
	awaits   bool // it has no rules, and waits for the first event with content
	zipped   bool
	packed   []byte // the bytes of a zipped body so far
	plain    []byte // the decoded bytes so far
	unzip    *gzip.Reader
	split    splitter
	heaviest Weight // the greatest weight of the events so far
	work     int    // bytes that expressions have been matched against
	looked   int    // length of plain at the last match
	begun    bool   // the body has a byte that is not blank
	page     bool   // the body is a web page
	cut      bool   // the body is JSON, and ends before its end
	full     bool   // it has read LooksAt bytes
	over     bool   // it needs no more of the body
	matched  *Rule
}

// A state is what is known about a rule.
type state uint8

const (
	open state = iota
	matches
	cannot
)

// cheap is how many bytes, in total, the Examiner matches expressions against before it stops
// matching at each read.
const cheap = 1 << 20

// Examine returns the rule that a response matches by its status and headers or, if that
// depends on its body, an Examiner of the body. Both are nil if no rule can match.
func (rules *Rules) Examine(status int, h http.Header) (*Rule, *Examiner) {
	if !rules.Concern(status) {
		return nil, nil
	}
	zipped, known := codingOf(h)
	e := &Examiner{names: rules.names, header: h, shape: shapeOf(h), zipped: zipped}
	for i := range rules.list {
		r := &rules.list[i]
		if !r.Status.Has(status) || r.Looks() && (e.shape == closed || !known) {
			continue
		}
		e.rules = append(e.rules, r)
		if !r.Looks() {
			break // it matches, so later rules do not count
		}
	}
	e.states = make([]state, len(e.rules))
	if n := len(e.rules); n > 0 && !e.rules[n-1].Looks() {
		e.states[n-1] = matches
	}
	if e.conclude(); e.over {
		return e.matched, nil
	}
	return nil, e
}

// Await returns an Examiner without rules, whose Begun says when a stream of events has content. It
// returns nil for other responses, whose content begins with the first byte.
func Await(h http.Header) *Examiner {
	zipped, known := codingOf(h)
	if !known || shapeOf(h) != events {
		return nil
	}
	return &Examiner{shape: events, awaits: true, zipped: zipped}
}

// Add takes more of the body, and reports whether the Examiner needs no more.
func (e *Examiner) Add(more []byte) (over bool) {
	if !e.over && len(more) > 0 {
		e.grow(more)
		if !e.begun {
			e.begins()
		}
		e.full = len(e.plain) >= LooksAt || len(e.packed) >= LooksAt || e.shape == frames && hasFrame(e.plain)
		e.look(e.full)
	}
	return e.over
}

// hasFrame reports whether the first message of an Amazon event stream has arrived. It begins with its
// length: https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html
func hasFrame(stream []byte) bool {
	return len(stream) >= 4 && uint64(len(stream)) >= uint64(binary.BigEndian.Uint32(stream))
}

// End ends the body: the Examiner decides by what was added.
func (e *Examiner) End() {
	if !e.over {
		e.cut = e.shape == text && isJSON(e.header) && !isDocument(e.plain)
		e.look(true)
	}
}

// Matched returns the rule that matches; nil: none does, or that is not known yet.
func (e *Examiner) Matched() *Rule { return e.matched }

// Begun returns the greatest weight of the events so far. JSON, and lines of it, have content from the
// first byte that is not blank; all other bodies from their first byte.
func (e *Examiner) Begun() Weight {
	switch {
	case e.awaits && e.over: // perhaps after LooksAt bytes without content
		return Content
	case e.shape != events && (e.begun || e.shape == text && !isJSON(e.header)):
		return Content
	}
	return e.heaviest
}

// grow adds more to the body so far, and decodes it.
func (e *Examiner) grow(more []byte) {
	if !e.zipped {
		e.plain = append(e.plain, more[:min(len(more), LooksAt-len(e.plain))]...)
		return
	}
	e.packed = append(e.packed, more[:min(len(more), LooksAt-len(e.packed))]...)
	from := bytes.NewReader(e.packed)
	if e.unzip == nil {
		e.unzip = new(gzip.Reader)
	}
	if e.unzip.Reset(from) != nil {
		return // the gzip header is incomplete or invalid
	}
	e.plain = readUpTo(e.plain[:0], e.unzip)
}

// readUpTo appends bytes read from from to into until a read fails or into has LooksAt bytes.
func readUpTo(into []byte, from io.Reader) []byte {
	for len(into) < LooksAt {
		if len(into) == cap(into) {
			into = append(into, make([]byte, max(512, len(into)))...)[:len(into)]
		}
		n, err := from.Read(into[len(into):min(cap(into), LooksAt)])
		into = into[:len(into)+n]
		if err != nil {
			break
		}
	}
	return into
}

// look applies the rules to the body so far. last: the rest of the body does not count.
func (e *Examiner) look(last bool) {
	if e.shape == events || e.shape == lines {
		e.lookAtEvents(last)
	} else {
		e.lookAtText(last)
	}
	if last {
		for i := range e.states {
			if e.states[i] == open {
				e.states[i] = cannot
			}
		}
	}
	e.conclude()
	if e.over = e.over || last; e.over {
		e.plain, e.packed, e.unzip = nil, nil, nil
	}
}

// conclude sets over and matched if it is known which rule matches first.
func (e *Examiner) conclude() {
	if e.awaits {
		e.over = e.over || e.heaviest == Content
		return
	}
	var unknown *Rule
	for i, r := range e.rules {
		switch e.states[i] {
		case matches:
			if unknown == nil || unknown.As == r.As {
				e.over, e.matched = true, r
			}
			return
		case open:
			if unknown != nil && unknown.As != r.As {
				return
			}
			unknown = r
		}
	}
	e.over = unknown == nil
}

// lookAtEvents applies the rules to new events.
func (e *Examiner) lookAtEvents(last bool) {
	for {
		next := e.split.next
		if e.shape == lines {
			next = e.split.nextLine
		}
		one, ok := next(e.plain, last)
		if !ok {
			break
		}
		w := one.weight()
		e.heaviest = max(e.heaviest, w)
		if w == Nothing {
			continue
		}
		e.match(e.plain[:e.split.at], one.data, w == Content)
		if w == Content {
			return
		}
	}
	if last {
		e.match(e.plain, nil, true)
	}
}

// match applies the open rules to an event: rules for the body to the stream up to the event, and
// rules for a JSON field to the event's data.
func (e *Examiner) match(stream, data []byte, last bool) {
	affordable := e.work < cheap
	var f *fields
	for i, r := range e.rules {
		if e.states[i] != open {
			continue
		}
		yes := false
		switch {
		case len(r.Path) > 0:
			if f == nil {
				f = fieldsOf(e.names, data, true)
			}
			yes = f.match(r) == matches
		case last || affordable && !r.atEnd:
			e.work += len(stream)
			yes = r.Text.Match(stream)
		}
		switch {
		case yes:
			e.states[i] = matches
		case last:
			e.states[i] = cannot
		}
	}
}

// lookAtText applies the open rules to the body so far, which is not a stream.
func (e *Examiner) lookAtText(last bool) {
	if !last && e.work >= cheap && len(e.plain)-e.looked < len(e.plain)/8 {
		return
	}
	e.looked = len(e.plain)
	var f *fields
	for i, r := range e.rules {
		if e.states[i] != open {
			continue
		}
		switch {
		case len(r.Path) > 0:
			if f == nil {
				f = fieldsOf(e.names, e.plain, last)
				e.work += len(e.plain)
			}
			e.states[i] = f.match(r)
		case last || !r.atEnd:
			e.work += len(e.plain)
			if r.Text.Match(e.plain) {
				e.states[i] = matches
			}
		}
	}
}

// Unpack decodes the beginning of a gzip body, to at most LooksAt bytes. It returns other bodies,
// and those that it cannot decode, unchanged.
func Unpack(h http.Header, body []byte) []byte {
	if zipped, known := codingOf(h); !zipped || !known {
		return body
	}
	unzip, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return body
	}
	return readUpTo(nil, unzip)
}
