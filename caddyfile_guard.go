package failover

import (
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

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
	_, err = a.rule()
	return wrap(d, err)
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
	_, err = n.rule()
	return wrap(d, err)
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
			return d.Errf("set_json %s: want optional, not %q%s", path, d.Val(), meant(d.Val(), "optional"))
		}
		s.Optional = true
	}
	e.SetJSON = append(e.SetJSON, s)
	return wrap(d, s.validate())
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
		r.Hedge.After, err = parseDuration(d, word)
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
