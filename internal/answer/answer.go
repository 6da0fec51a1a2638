// Package answer applies rules that give responses a meaning by status, headers and body. It reads
// a body as it arrives, and only until the meaning is known.
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

// LooksAt is how many bytes of a body rules see at most.
const LooksAt = 64 << 10

// A Meaning is the meaning that a rule gives a response.
type Meaning uint8

const (
	// OK means that the endpoint succeeded.
	OK Meaning = iota
	// Next means that the endpoint succeeded, but another may do better.
	Next
	// Failure means that the endpoint failed.
	Failure
	// Held means that the endpoint asks for no calls for a while.
	Held
	// Denied means that the endpoint rejects its credentials.
	Denied
)

var meanings = [...]string{OK: "ok", Next: "next", Failure: "failure", Held: "held", Denied: "denied"}

// String returns the word for m in options.
func (m Meaning) String() string { return meanings[m] }

// ParseMeaning returns the meaning for a word in options.
func ParseMeaning(word string) (m Meaning, ok bool) {
	for i, w := range meanings {
		if w == word {
			return Meaning(i), true
		}
	}
	return 0, false
}

// A Rule gives a meaning to the responses that it matches. It is read-only after NewRules.
type Rule struct {
	Status *outcome.StatusSet
	Path   jsondoc.Path   // the JSON field that Text must match; empty: Text must match the body
	Text   *regexp.Regexp // nil: any body, or any value of the field but null
	As     Meaning

	// Unless excepts responses that it matches, too; nil: none. Both rules have a Path.
	Unless *Rule
	// First limits a list to its first element.
	First bool
	// OfQuota makes Held and Denied count only at endpoints whose quota and credentials are their
	// own; elsewhere they are the client's. The Examiner ignores it: its callers decide.
	OfQuota bool
	// OfAPI says that the rule is the API's, not an option. The Examiner ignores it.
	OfAPI bool

	top   int  // number of the first name in Path
	place int  // number of Path
	atEnd bool // Text may match a part of the body but not the whole
}

// Looks reports whether the rule depends on the body.
func (r *Rule) Looks() bool { return len(r.Path) > 0 || r.Text != nil }

// Rules are a pool's rules for responses. The first that matches counts. A nil *Rules has no
// rules.
type Rules struct {
	list     []Rule
	names    []string // the first names of all paths, by their numbers
	statuses outcome.StatusSet
	tops     [][]byte // the first names of the rules' paths, each once
	Look     bool     // some rule depends on the body
}

// NewRules prepares a list of rules for use. It returns nil for an empty list.
func NewRules(list []Rule) *Rules {
	if len(list) == 0 {
		return nil
	}
	rules := &Rules{list: list, names: numberPaths(list)}
	for i := range list {
		r := &list[i]
		r.atEnd = r.Text != nil && dependsOnEnd(r.Text.String())
		rules.Look = rules.Look || r.Looks()
		if len(r.Path) > 0 && !rules.hasTop(r.Path.First()) {
			rules.tops = append(rules.tops, []byte(r.Path.First()))
		}
		for code := range len(rules.statuses) {
			rules.statuses[code] = rules.statuses[code] || r.Status[code]
		}
	}
	return rules
}

// Concern reports whether some rule may match a response of this status.
func (rules *Rules) Concern(status int) bool { return rules != nil && rules.statuses.Has(status) }

// dependsOnEnd reports whether an expression may match a text, but not a longer one that
// begins with it.
func dependsOnEnd(expression string) bool {
	parsed, err := syntax.Parse(expression, syntax.Perl)
	return err != nil || hasEndAssertion(parsed)
}

func hasEndAssertion(e *syntax.Regexp) bool {
	switch e.Op {
	case syntax.OpEndLine, syntax.OpEndText, syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return true
	}
	for _, sub := range e.Sub {
		if hasEndAssertion(sub) {
			return true
		}
	}
	return false
}

// A shape is how rules read a body.
type shape uint8

const (
	text   shape = iota // as one text or JSON document
	events              // as server-sent events
	lines               // as lines of one JSON value each
	frames              // as one text, up to the end of the first message of an Amazon event stream
	closed              // not at all
)

// Streams reports whether a response is a stream of server-sent events.
func Streams(h http.Header) bool { return shapeOf(h) == events }

// shapeOf returns the shape of a body, by its Content-Type.
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
	if kind == "application/vnd.amazon.eventstream" {
		return frames
	}
	switch family, _, _ := strings.Cut(kind, "/"); family {
	case "image", "audio", "video", "font":
		return closed
	}
	return text
}

// codingOf reads Content-Encoding: zipped if the body is gzip, known if we can decode it.
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
