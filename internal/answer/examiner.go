package answer

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"

	"github.com/apifailover/caddy-failover/internal/jsondoc"
)

// An Examiner looks at one answer as its body comes. Of a stream of events, or of lines of
// JSON, it looks at no more than the first that has content; of others at no more than
// LooksAt bytes. It is used by one goroutine.
type Examiner struct {
	rules    []*Rule // that the status and the headers leave open
	states   []state // of the rules
	shape    shape
	awaits   bool // the first event with content, and nothing else
	zipped   bool
	packed   []byte // of a zipped body
	plain    []byte // of the body
	unzip    *gzip.Reader
	split    splitter
	heaviest Weight // of the events that have come
	work     int    // bytes that rules have been held against
	looked   int    // bytes of plain when that was done last
	over     bool
	matched  *Rule
}

// state is what is known about a rule.
type state uint8

const (
	open state = iota
	matches
	cannot
)

// cheap is how many bytes rules are held against, in all, before that is done less often than
// with each read.
const cheap = 1 << 20

// Examine says which rule an answer matches by its status and headers; or, if that depends on
// its body, returns an examiner of that. Both are nil if no rule can match.
func (rules *Rules) Examine(status int, h http.Header) (*Rule, *Examiner) {
	if !rules.Concern(status) {
		return nil, nil
	}
	zipped, known := codingOf(h)
	e := &Examiner{shape: shapeOf(h), zipped: zipped}
	for i := range rules.list {
		r := &rules.list[i]
		if !r.Status.Has(status) || r.Looks() && (e.shape == closed || !known) {
			continue
		}
		e.rules = append(e.rules, r)
		if !r.Looks() {
			break // it matches, and no later one counts
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

// Await is an examiner without rules, which tells of a stream of events when it begins; nil
// for other answers, which begin with their first byte.
func Await(h http.Header) *Examiner {
	zipped, known := codingOf(h)
	if !known || shapeOf(h) != events {
		return nil
	}
	return &Examiner{shape: events, awaits: true, zipped: zipped}
}

// Add takes more of the body, and tells whether nothing more is needed.
func (e *Examiner) Add(more []byte) (over bool) {
	if !e.over && len(more) > 0 {
		e.take(more)
		e.look(len(e.plain) >= LooksAt || len(e.packed) >= LooksAt)
	}
	return e.over
}

// End says that no more of the body will come.
func (e *Examiner) End() {
	if !e.over {
		e.look(true)
	}
}

// Matched is the rule that matches; nil: none does, or that is not known yet.
func (e *Examiner) Matched() *Rule { return e.matched }

// Begun tells how much of an answer has come, where it is a stream of events.
func (e *Examiner) Begun() Weight {
	if e.awaits && e.over {
		return Content // or so much has come that it is no use to wait
	}
	return e.heaviest
}

// take adds to what has come.
func (e *Examiner) take(more []byte) {
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
		return // the header has not come whole, or it is none
	}
	e.plain = readUpTo(e.plain[:0], e.unzip)
}

// readUpTo appends to into what comes until an error, up to LooksAt bytes.
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

// look holds the rules against what has come. Last says that nothing more is looked at.
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

// conclude finds out whether it is known which rule comes first.
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

// lookAtEvents looks at the events that have come since.
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
		e.holdAgainst(e.plain[:e.split.at], one.data, w == Content)
		if w == Content {
			return
		}
	}
	if last {
		e.holdAgainst(e.plain, nil, true)
	}
}

// holdAgainst holds the rules against the stream up to an event, and the event's data.
func (e *Examiner) holdAgainst(stream, data []byte, last bool) {
	affordable := e.work < cheap
	for i, r := range e.rules {
		if e.states[i] != open {
			continue
		}
		yes := false
		switch {
		case len(r.Path) > 0:
			yes = r.matchesField(data)
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

// lookAtText holds the rules against what has come of a body that is no stream of events.
func (e *Examiner) lookAtText(last bool) {
	if !last && e.work >= cheap && len(e.plain)-e.looked < len(e.plain)/8 {
		return
	}
	e.looked = len(e.plain)
	for i, r := range e.rules {
		if e.states[i] != open {
			continue
		}
		switch {
		case len(r.Path) > 0:
			e.work += len(e.plain)
			e.states[i] = r.field(e.plain, last)
		case last || !r.atEnd:
			e.work += len(e.plain)
			if r.Text.Match(e.plain) {
				e.states[i] = matches
			}
		}
	}
}

// matchesField tells whether a rule of a JSON field matches a document that is whole.
func (r *Rule) matchesField(doc []byte) bool { return r.field(doc, true) == matches }

// field says what is known about a rule of a JSON field, of a document that has come so far.
// Of a list it is enough if one element matches, unless only the first counts.
func (r *Rule) field(doc []byte, whole bool) state {
	doc = bytes.TrimLeft(doc, " \t\r\n")
	switch {
	case len(doc) == 0 && !whole:
		return open
	case len(doc) == 0 || doc[0] != '{' && doc[0] != '[':
		return cannot
	case doc[0] == '{':
		return r.fieldOf(doc, whole)
	}
	elements, over := jsondoc.Elements(doc, whole)
	if r.First && len(elements) > 0 {
		return r.fieldOf(elements[0], true)
	}
	for _, one := range elements {
		if r.fieldOf(one, true) == matches {
			return matches
		}
	}
	if over {
		return cannot
	}
	return open
}

func (r *Rule) fieldOf(doc []byte, whole bool) state {
	value, found := jsondoc.Find(doc, r.Path, whole)
	switch {
	case found == jsondoc.Later:
		return open
	case found == jsondoc.Absent || string(value) == "null" || r.Text != nil && !r.Text.MatchString(jsondoc.Text(value)):
		return cannot
	case r.Unless != nil:
		switch r.Unless.fieldOf(doc, whole) {
		case open:
			return open
		case matches:
			return cannot
		}
	}
	return matches
}

// Unpack is the beginning of a body as the endpoint wrote it, without its coding where that can
// be undone: up to LooksAt bytes of a body that was packed.
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
