package failover

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"github.com/apifailover/caddy-failover/internal/answer"
	"github.com/apifailover/caddy-failover/internal/call"
	"github.com/apifailover/caddy-failover/internal/jsondoc"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/target"
)

// The ways of commit.
const (
	commitHeaders    = "headers"
	commitFirstByte  = "first_byte"
	commitFirstEvent = "first_event"
	commitComplete   = "complete"
)

// defaultCommitSize is how much of an answer `complete` holds.
const defaultCommitSize = 1 << 20

// Commit says what must have come from an endpoint before the client gets
// anything of it. Until then a call can still move on to another endpoint.
type Commit struct {
	// `headers`; `first_byte` (headers and the first byte of the body, which in a stream of
	// events no comment and no ping is); `first_event` (the same, but of a stream of events its
	// first event with content); or `complete` (the whole answer, up to `size`; what is larger
	// is passed on as it comes from there on). Default: `headers`.
	After string `json:"after,omitempty"`

	// Bytes of a body that `complete` holds. Default: 1048576 (1 MiB).
	Size int64 `json:"size,omitempty"`
}

func (c *Commit) validate() error {
	if c == nil {
		return nil
	}
	switch c.After {
	case "", commitHeaders, commitFirstByte, commitFirstEvent, commitComplete:
	default:
		return fmt.Errorf("commit must be %s, %s, %s or %s, not %q%s", commitHeaders, commitFirstByte, commitFirstEvent, commitComplete, c.After,
			meant(c.After, commitHeaders, commitFirstByte, commitFirstEvent, commitComplete))
	}
	if c.Size < 0 {
		return errors.New("commit: size must not be negative")
	}
	if c.Size > 0 && c.After != commitComplete {
		return fmt.Errorf("commit: only %s has a size", commitComplete)
	}
	return nil
}

func (c *Commit) rules() call.CommitRules {
	switch {
	case c == nil:
		return call.CommitRules{}
	case c.After == commitFirstByte:
		return call.CommitRules{Body: true, Until: answer.Preamble}
	case c.After == commitFirstEvent:
		return call.CommitRules{Body: true, Until: answer.Content}
	case c.After == commitComplete:
		return call.CommitRules{Body: true, Until: answer.Preamble, Hold: cmp.Or(c.Size, defaultCommitSize)}
	}
	return call.CommitRules{}
}

// NextOn names answers that another endpoint may do better on, though this one is
// well: a call moves on from them, whatever its method, and the endpoint is not
// blamed. If the call finds no better one, the first such answer is the client's.
type NextOn struct {
	// The status: a code (400), a class (4xx) or a range (400-404). Required.
	Status string `json:"status,omitempty"`

	// A regular expression that the first 64 KiB of the body must match. Default:
	// any body.
	Body string `json:"body,omitempty"`
}

func (n *NextOn) rule() (answer.Rule, error) {
	set, err := answerStatus("next_on", n.Status)
	if err != nil {
		return answer.Rule{}, err
	}
	rule := answer.Rule{Status: set, As: answer.Next}
	if n.Body != "" {
		if rule.Text, err = regexp.Compile(n.Body); err != nil {
			return answer.Rule{}, fmt.Errorf("next_on %s: %w", n.Status, err)
		}
	}
	return rule, nil
}

// Answer says what certain answers mean, whatever their status says. Of several that match
// the first counts, and all come before those of `next_on`.
type Answer struct {
	// The status: a code (200), a class (4xx) or a range (400-404). Required.
	Status string `json:"status,omitempty"`

	// A field of a JSON body, or of an event of a stream, as in `set_json`: `error.code`. Of a
	// body that is a list, one of its elements must match. A field that is null is none.
	// Default: the whole body.
	JSON string `json:"json,omitempty"`

	// A regular expression that the field, or the body's beginning, must match. Default: any
	// field, any body.
	Match string `json:"match,omitempty"`

	// `failure` (the endpoint has failed), `held` (it wants no calls for a while), `denied` (it
	// does not accept its credentials), `next` (another may do better, and nobody is blamed) or
	// `ok` (an answer like any other). Required.
	As string `json:"as,omitempty"`
}

func (a *Answer) rule() (answer.Rule, error) {
	set, err := answerStatus("answer", a.Status)
	if err != nil {
		return answer.Rule{}, err
	}
	rule := answer.Rule{Status: set}
	if a.JSON != "" {
		if rule.Path, err = jsondoc.ParsePath(a.JSON); err != nil {
			return answer.Rule{}, fmt.Errorf("answer %s: %w", a.Status, err)
		}
	}
	if a.Match != "" {
		if rule.Text, err = regexp.Compile(a.Match); err != nil {
			return answer.Rule{}, fmt.Errorf("answer %s: %w", a.Status, err)
		}
	}
	ok := false
	if rule.As, ok = answer.ParseMeaning(a.As); !ok {
		return answer.Rule{}, fmt.Errorf("answer %s: want as failure, held, denied, next or ok, not %q", a.Status, a.As)
	}
	return rule, nil
}

// answerStatus reads the statuses of answers that an option is about.
func answerStatus(option, word string) (*outcome.StatusSet, error) {
	set, err := outcome.ParseStatusSet([]string{word})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", option, err)
	}
	for code := 100; code < 200; code++ {
		if set.Has(code) {
			return nil, fmt.Errorf("%s %s: statuses under 200 are no answers", option, word)
		}
	}
	return set, nil
}

// answerRules makes the rules of a pool, those of its options before those of its API.
func (p *Policy) answerRules() (*answer.Rules, error) {
	var rules []answer.Rule
	for _, a := range p.Answers {
		rule, err := a.rule()
		if err != nil {
			return nil, err
		}
		rules = append(rules, rule)
	}
	for _, n := range p.NextOn {
		rule, err := n.rule()
		if err != nil {
			return nil, err
		}
		rules = append(rules, rule)
	}
	ofAPI, err := p.apiAnswers()
	if err != nil {
		return nil, err
	}
	return answer.NewRules(append(rules, ofAPI...)), nil
}

// SetJSON sets a value in JSON request bodies that go to an endpoint. The body must
// be an object in UTF-8, no larger than the retry block's `buffer`, in which it is held
// before the endpoint is asked, and nested at most 1,000 deep. Requests without a body
// stay as they are.
//
// The value is the only one that the endpoint can find at the path: other members whose
// names decode to the same text, or differ from it in case only, are removed.
type SetJSON struct {
	// Where, as in github.com/tidwall/sjson without wildcards and queries: `model`,
	// `options.seed`, `messages.0.role`, `messages.-1`. Required.
	Path string `json:"path,omitempty"`

	// Any JSON value. Placeholders in its strings are replaced. Required.
	Value json.RawMessage `json:"value,omitempty"`

	// Lets the endpoint have bodies that are not JSON objects, or too large, as they
	// are. Default: false; then such a call passes the endpoint over, and gets 415
	// or 413 if there is no other.
	Optional bool `json:"optional,omitempty"`
}

// jsonWord is what a word of a Caddyfile means as JSON: itself if it is JSON, else
// a string.
func jsonWord(word string) json.RawMessage {
	if json.Valid([]byte(word)) {
		return json.RawMessage(word)
	}
	quoted, _ := json.Marshal(word)
	return quoted
}

func (s *SetJSON) validate() error {
	switch {
	case s.Path == "":
		return errors.New("set_json: the path is missing")
	case !json.Valid(s.Value):
		return fmt.Errorf("set_json %s: the value is not JSON", s.Path)
	}
	if _, err := jsondoc.ParsePath(s.Path); err != nil {
		return fmt.Errorf("set_json %s: %w", s.Path, err)
	}
	return nil
}

// jsonEdits are a list of SetJSON, ready for use. They have been validated.
func jsonEdits(list []*SetJSON) []target.JSONEdit {
	var ready []target.JSONEdit
	for _, s := range list {
		ready = append(ready, target.NewJSONEdit(s.Path, s.Value, s.Optional))
	}
	return ready
}
