// Package answer says what an answer means where its status alone does not tell. It looks at
// a body as it comes, and no further than it has to.
package answer

import (
	"mime"
	"net/http"
	"regexp"
	"regexp/syntax"
	"strings"

	"github.com/apifailover/caddy-failover/internal/jsondoc"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// LooksAt is how many bytes of a body are looked at, at most.
const LooksAt = 64 << 10

// Meaning is what a rule says of an answer.
type Meaning uint8

const (
	// OK says that it is an answer like any other.
	OK Meaning = iota
	// Next says that another endpoint may do better, and this one is well.
	Next
	// Failure says that the endpoint has failed.
	Failure
	// Held says that the endpoint wants no calls for a while.
	Held
	// Denied says that the endpoint does not accept its credentials.
	Denied
)

var meanings = [...]string{OK: "ok", Next: "next", Failure: "failure", Held: "held", Denied: "denied"}

// String returns the word of the meaning.
func (m Meaning) String() string { return meanings[m] }

// ParseMeaning reads the word of a meaning.
func ParseMeaning(word string) (m Meaning, ok bool) {
	for i, w := range meanings {
		if w == word {
			return Meaning(i), true
		}
	}
	return 0, false
}

// A Rule says what answers mean that it matches. It is read-only once it is used.
type Rule struct {
	Status *outcome.StatusSet
	Path   jsondoc.Path   // of the JSON field that Text is held against; empty: the body itself is
	Text   *regexp.Regexp // nil: any body, or a field with any value but null
	As     Meaning

	// Unless excepts what also matches it; nil: nothing. It has a Path, as the rule itself must.
	Unless *Rule
	// First says that of a body that is a list only the first element counts.
	First bool
	// OfQuota says that the rule is for endpoints whose quota and credentials are their own: Held
	// and Denied speak of the client elsewhere. Others have to look at it; it changes nothing here.
	OfQuota bool

	atEnd bool // Text tells only once all has come that is looked at
}

// Looks tells whether the rule asks for more than a status.
func (r *Rule) Looks() bool { return len(r.Path) > 0 || r.Text != nil }

// Rules are what a pool says of its answers. The first that matches counts. Nil is none.
type Rules struct {
	list     []Rule
	statuses outcome.StatusSet
	Look     bool // some rule asks for more than a status
}

// NewRules are rules, ready for use; nil if there are none.
func NewRules(list []Rule) *Rules {
	if len(list) == 0 {
		return nil
	}
	rules := &Rules{list: list}
	for i := range list {
		r := &list[i]
		r.atEnd = r.Text != nil && minds(r.Text.String())
		rules.Look = rules.Look || r.Looks()
		for code := range len(rules.statuses) {
			rules.statuses[code] = rules.statuses[code] || r.Status[code]
		}
	}
	return rules
}

// Concern tells whether some rule is for answers of this status.
func (rules *Rules) Concern(status int) bool { return rules != nil && rules.statuses.Has(status) }

// minds tells whether an expression may match a text and not a longer one that begins with
// it.
func minds(expression string) bool {
	parsed, err := syntax.Parse(expression, syntax.Perl)
	return err != nil || mindsEnd(parsed)
}

func mindsEnd(e *syntax.Regexp) bool {
	switch e.Op {
	case syntax.OpEndLine, syntax.OpEndText, syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return true
	}
	for _, sub := range e.Sub {
		if mindsEnd(sub) {
			return true
		}
	}
	return false
}

// shape is how a body is to be read.
type shape uint8

const (
	text   shape = iota // as it comes
	events              // server-sent events
	lines               // a JSON value in each line
	closed              // not at all
)

// Streams tells whether an answer is a stream of server-sent events.
func Streams(h http.Header) bool { return shapeOf(h) == events }

// shapeOf is the shape of an answer's body.
func shapeOf(h http.Header) shape {
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		kind, _, _ = strings.Cut(h.Get("Content-Type"), ";")
		kind = strings.ToLower(strings.TrimSpace(kind))
	}
	switch kind {
	case "text/event-stream":
		return events
	case "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines", "application/jsonlines",
		"application/json-seq", "application/stream+json", "application/x-json-stream":
		return lines
	}
	switch family, _, _ := strings.Cut(kind, "/"); family {
	case "image", "audio", "video", "font":
		return closed
	}
	return text
}

// codingOf tells how a body is packed, and whether that can be undone.
func codingOf(h http.Header) (zipped, known bool) {
	known = true
	for _, field := range h["Content-Encoding"] {
		for word := range strings.SplitSeq(field, ",") {
			switch word = strings.TrimSpace(word); {
			case word == "" || strings.EqualFold(word, "identity"):
			case (strings.EqualFold(word, "gzip") || strings.EqualFold(word, "x-gzip")) && !zipped:
				zipped = true
			default:
				known = false
			}
		}
	}
	return zipped, known
}
