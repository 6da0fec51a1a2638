package failover

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/apifailover/caddy-failover/internal/answer"
	"github.com/apifailover/caddy-failover/internal/call"
	"github.com/apifailover/caddy-failover/internal/jsondoc"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/target"
)

// Modes of commit.
const (
	commitHeaders    = "headers"
	commitFirstByte  = "first_byte"
	commitFirstEvent = "first_event"
	commitComplete   = "complete"
)

// defaultCommitSize is how much of a response `complete` holds, in bytes.
const defaultCommitSize = 1 << 20

// Commit sets how much of a response must arrive before Caddy sends any of it. Until then a
// request can still move to another endpoint.
type Commit struct {
	// `headers`; `first_byte` (the headers and the first byte of the body, not counting comments
	// and pings of an event stream); `first_event` (the same, but for an event stream the first
	// event with content); or `complete` (the whole response, up to `size`; the rest of a larger
	// one is passed on as it arrives). Default: `headers`.
	After string `json:"after,omitempty"`

	// The largest part of a body, in bytes, that `complete` holds. Default: 1048576 (1 MiB).
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
			suggest(c.After, commitHeaders, commitFirstByte, commitFirstEvent, commitComplete))
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

// NextOn selects responses by which a healthy endpoint rejects a request that another endpoint may
// accept. A request of any method moves on, and the endpoint is not blamed. If no
// endpoint accepts it, the client gets the first such response.
type NextOn struct {
	// The status: a code (400), a class (4xx) or a range (400-404). Required.
	Status string `json:"status,omitempty"`

	// A regular expression that the first 64 KiB of the body must match. Default: any body.
	Body string `json:"body,omitempty"`
}

// rule converts the option.
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

// Answer sets what certain responses mean, regardless of their status. The first match counts. These
// rules come before those of `next_on`.
type Answer struct {
	// The status: a code (200), a class (4xx) or a range (400-404). Required.
	Status string `json:"status,omitempty"`

	// The path of a field of a JSON body or of an event of a stream, as in `set_json`:
	// `error.code`. If the body is an array, one matching element is enough. A null field does
	// not match. Default: the whole body.
	JSON string `json:"json,omitempty"`

	// A regular expression that the field, or the first 64 KiB of the body, must match. Default:
	// any field, any body.
	Match string `json:"match,omitempty"`

	// `failure` (the endpoint has failed), `held` (the endpoint needs a cooldown, as after a 429),
	// `denied` (the endpoint refuses its credentials), `next` (another endpoint may succeed, and
	// this one is not blamed) or `ok` (a normal response). Required.
	As string `json:"as,omitempty"`
}

// rule converts the option.
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
		return answer.Rule{}, fmt.Errorf("answer %s: want as failure, held, denied, next or ok, not %q%s", a.Status, a.As,
			suggest(a.As, "failure", "held", "denied", "next", "ok"))
	}
	return rule, nil
}

// answerStatus parses the statuses in an option about responses.
func answerStatus(option, word string) (*outcome.StatusSet, error) {
	set, err := outcome.ParseStatusSet([]string{word})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", option, err)
	}
	for code := 100; code < 200; code++ {
		if set.Has(code) {
			return nil, fmt.Errorf("%s %s: statuses under 200 are not final responses", option, word)
		}
	}
	return set, nil
}

// answerRules returns the rules of a pool: those of its options, then those of its API.
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

// checkRepeats refuses rules about responses that an earlier rule has taken already, and a status in the place of an
// expression.
func (p *Policy) checkRepeats() error {
	for i, a := range p.Answers {
		if slices.ContainsFunc(p.Answers[:i], func(b *Answer) bool { return a.Status == b.Status && a.JSON == b.JSON && a.Match == b.Match }) {
			return fmt.Errorf("answer %s: the same responses are given twice, and only the first line counts; remove one", a.Status)
		}
		if a.JSON == "" && isStatus(a.Match) {
			return fmt.Errorf("answer %s %s: %[2]s is a regular expression there; write each status on its own line, or %[2]s in parentheses for a text", a.Status, a.Match)
		}
	}
	for i, n := range p.NextOn {
		if slices.ContainsFunc(p.NextOn[:i], func(b *NextOn) bool { return *n == *b }) {
			return fmt.Errorf("next_on %s is given twice; remove one", strings.TrimSpace(n.Status+" "+n.Body))
		}
		if isStatus(n.Body) {
			return fmt.Errorf("next_on %s %s: %[2]s is a regular expression there; write each status on its own line, or %[2]s in parentheses for a text", n.Status, n.Body)
		}
	}
	return nil
}

// isStatus reports whether a word is a status, a class or a range of statuses.
func isStatus(word string) bool {
	_, err := outcome.ParseStatusSet([]string{word})
	return word != "" && err == nil
}

// SetJSON sets a value in the JSON request bodies for an endpoint. The body must be an object in
// UTF-8, at most as large as the retry block's `buffer`, and nested at most 1,000 deep. It is
// read whole before the attempt. Requests without a body stay unchanged.
//
// The endpoint finds only this value at the path: other members whose names decode to the same
// text, or differ only in case, are removed.
type SetJSON struct {
	// The path, in the syntax of github.com/tidwall/sjson without wildcards and queries: `model`,
	// `options.seed`, `messages.0.role`, `messages.-1`. Required.
	Path string `json:"path,omitempty"`

	// The JSON value. Placeholders in its strings are replaced. Required.
	Value json.RawMessage `json:"value,omitempty"`

	// Whether the endpoint gets bodies that are too large, or are not JSON objects, unchanged.
	// Default: false; then such a request skips the endpoint, and gets a 413 or 415 if no endpoint
	// is left.
	Optional bool `json:"optional,omitempty"`
}

// jsonWord returns a word of a Caddyfile as JSON: unchanged if it is JSON, else as a string.
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
	if err := checkPlaceholders(string(s.Value)); err != nil {
		return fmt.Errorf("set_json %s: %w", s.Path, err)
	}
	return nil
}

// jsonEdits converts a list of SetJSON, which must be valid.
func jsonEdits(list []*SetJSON) []target.JSONEdit {
	var ready []target.JSONEdit
	for _, s := range list {
		ready = append(ready, target.NewJSONEdit(s.Path, s.Value, s.Optional))
	}
	return ready
}

// readCommit reads `commit headers|first_byte|first_event|complete [<size>]`.
func readCommit(_ *reader, d *caddyfile.Dispenser, p *Policy) error {
	word, err := argument(d)
	if err != nil {
		return err
	}
	p.Commit = &Commit{After: word}
	if d.NextArg() {
		if p.Commit.Size, err = parseSize(d, "commit size"); err != nil {
			return err
		}
	}
	return wrap(d, p.Commit.validate())
}

// readAnswer reads `answer <status> [json <path>] [<regexp>] as failure|held|denied|next|ok`.
func readAnswer(_ *reader, d *caddyfile.Dispenser, p *Policy) error {
	status, err := argument(d)
	if err != nil {
		return err
	}
	a := &Answer{Status: status}
	words := d.RemainingArgs()
	if len(words) > 3 && words[0] == "json" {
		a.JSON, words = words[1], words[2:]
	}
	if len(words) == 3 {
		a.Match, words = words[0], words[1:]
	}
	if len(words) != 2 || words[0] != "as" {
		return d.Errf("answer %s: want [json <path>] [<regexp>] as failure|held|denied|next|ok", status)
	}
	a.As = words[1]
	p.Answers = append(p.Answers, a)
	if _, err = a.rule(); err != nil {
		return d.WrapErr(err)
	}
	return wrap(d, p.checkRepeats())
}

// readNextOn reads `next_on <status> [<body-regexp>]`.
func readNextOn(_ *reader, d *caddyfile.Dispenser, p *Policy) error {
	status, err := argument(d)
	if err != nil {
		return err
	}
	n := &NextOn{Status: status}
	if d.NextArg() {
		n.Body = d.Val()
	}
	p.NextOn = append(p.NextOn, n)
	if _, err = n.rule(); err != nil {
		return d.WrapErr(err)
	}
	return wrap(d, p.checkRepeats())
}

// readSetJSON reads `set_json <path> <value> [optional]`.
func readSetJSON(_ *reader, d *caddyfile.Dispenser, e *Endpoint) error {
	path, err := argument(d)
	if err != nil {
		return err
	}
	value, err := argument(d)
	if err != nil {
		return err
	}
	s := &SetJSON{Path: path, Value: jsonWord(value)}
	if d.NextArg() {
		if d.Val() != "optional" {
			advice := suggest(d.Val(), "optional")
			switch {
			case value == "=":
				advice = "; leave out the ="
			case strings.HasPrefix(value, "{") || strings.HasPrefix(value, "["):
				advice = "; write JSON with spaces in backquotes"
			}
			return d.Errf("set_json %s: want optional, not %q%s", path, d.Val(), advice)
		}
		s.Optional = true
	}
	e.SetJSON = append(e.SetJSON, s)
	if err := s.validate(); err != nil {
		return d.WrapErr(err)
	}
	return wrap(d, e.checkTwice())
}

// readHedge reads `hedge <delay>|p<NN> [max <ratio>]`.
func readHedge(_ *reader, d *caddyfile.Dispenser, r *Retry) error {
	word, err := argument(d)
	if err != nil {
		return err
	}
	r.Hedge = new(Hedge)
	if strings.HasPrefix(word, "p") {
		r.Hedge.Quantile, err = parseQuantile(word)
		err = wrapWord(d, "hedge", word, err)
	} else {
		if r.Hedge.After, err = parseDuration(d, "hedge"); err != nil {
			advice := adviseVariable(word)
			if part, bad := parseNumber(word); bad == nil && part > 0 && part < 1 {
				advice = fmt.Sprintf("; did you mean p%v?", 100*part)
			}
			return d.Errf("invalid hedge %q: want a duration such as 50ms, or a quantile of the usual latency such as p95%s", word, advice)
		}
	}
	if err != nil || !d.NextArg() {
		return err
	}
	if d.Val() != "max" {
		return d.Errf("hedge %s: want max <ratio>, not %q", word, d.Val())
	}
	part, err := ratioArgument(d)
	r.Hedge.Max = &part
	return err
}
