package failover

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

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

// reasonNextOn is the reason of a failover because of such an answer.
const reasonNextOn = "next_on"

// bodyLooks is how much of a body is looked at.
const bodyLooks = 64 << 10

// nextRule is NextOn, ready for use.
type nextRule struct {
	status *outcome.StatusSet
	body   *regexp.Regexp // nil: any
}

func (n *NextOn) rule() (nextRule, error) {
	set, err := outcome.ParseStatusSet([]string{n.Status})
	if err != nil {
		return nextRule{}, fmt.Errorf("next_on: %w", err)
	}
	for code := 100; code < 200; code++ {
		if set.Has(code) {
			return nextRule{}, fmt.Errorf("next_on %s: statuses under 200 are no answers", n.Status)
		}
	}
	rule := nextRule{status: set}
	if n.Body != "" {
		if rule.body, err = regexp.Compile(n.Body); err != nil {
			return nextRule{}, fmt.Errorf("next_on %s: %w", n.Status, err)
		}
	}
	return rule, nil
}

// nextRules makes the rules of a pool, and tells whether one looks at bodies.
func nextRules(list []*NextOn) (rules []nextRule, looks bool, err error) {
	for _, n := range list {
		rule, err := n.rule()
		if err != nil {
			return nil, false, err
		}
		rules = append(rules, rule)
		looks = looks || rule.body != nil
	}
	return rules, looks, nil
}

// mayMoveOn tells whether there is a rule for answers of this status.
func (h *callHandler) mayMoveOn(code int) bool {
	for _, rule := range h.nextOn {
		if rule.status.Has(code) {
			return true
		}
	}
	return false
}

// movesOn tells whether an answer is one to move on from. The body that it may have
// looked at is put back.
func (h *callHandler) movesOn(a *attempt, resp *http.Response) bool {
	var body []byte
	looked := false
	for _, rule := range h.nextOn {
		if !rule.status.Has(resp.StatusCode) {
			continue
		}
		if rule.body == nil {
			return true
		}
		if !looked {
			body, looked = decoded(resp, a.peek(resp, bodyLooks)), true
		}
		if rule.body.Match(body) {
			return true
		}
	}
	return false
}

// readable keeps an endpoint from answering in a coding that we cannot look into.
func readable(h http.Header) {
	if accepted := h.Get("Accept-Encoding"); strings.Contains(accepted, "gzip") {
		h.Set("Accept-Encoding", "gzip")
	} else if accepted != "" {
		h.Set("Accept-Encoding", "identity")
	}
}

// decoded is the start of a body without its content coding, as far as that can be
// undone.
func decoded(resp *http.Response, body []byte) []byte {
	if resp.Header.Get("Content-Encoding") != "gzip" {
		return body
	}
	unzip, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return body
	}
	plain, _ := io.ReadAll(io.LimitReader(unzip, bodyLooks)) // what is cut off is missing
	return plain
}

// peek reads up to limit bytes of an answer's body and puts them back. What it
// returns is valid until the body is read.
func (a *attempt) peek(resp *http.Response, limit int64) []byte {
	h := new(held)
	a.set(holding)
	for h.err == nil && h.total < limit && !h.full {
		if err := h.read(a, resp.Body, limit-h.total); err != nil {
			h.err = err
		}
	}
	a.unset(holding)
	if h.err == io.EOF {
		resp.Body.Close()
	} else {
		h.rest = resp.Body
	}
	resp.Body = h
	if len(h.chunks) == 1 {
		c := h.chunks[0]
		return c.Data[c.from:c.to]
	}
	joined := make([]byte, 0, h.total)
	for _, c := range h.chunks {
		joined = append(joined, c.Data[c.from:c.to]...)
	}
	return joined
}

// passedOn deals with an answer that another endpoint may do better on: it goes to
// the client only if there is no such endpoint.
func (c *call) passedOn(a *attempt, resp *http.Response, now time.Time) (*http.Response, error) {
	if a.overtaken() {
		resp.Body.Close()
		a.settle(now, outcome.Success, true)
		return nil, errOvertaken
	}
	if err := c.setAside(a, resp, now); err != nil {
		return nil, err
	}
	a.final = !c.handler.rematches
	c.finish()
	a.follow(resp)
	return resp, nil
}

// setAside moves a call on from an answer that another endpoint may do better on,
// and keeps the first such answer. What it returns makes the proxy try again; nil
// if there is nothing to move on to.
func (c *call) setAside(a *attempt, resp *http.Response, now time.Time) error {
	next := c.planElsewhere(now, a)
	if next == nil {
		return nil
	}
	if x := c.extra(); x.kept == nil {
		a.peek(resp, bodyLooks)
		a.set(holding) // the watcher lets go of it if the client leaves
		x.kept = &keptAnswer{a, resp}
		if err := resp.Body.(*held).err; err != nil {
			a.settle(time.Now(), a.bodyOutcome(err), true)
		}
	} else {
		resp.Body.Close()
		a.settle(now, outcome.Success, true)
	}
	c.moveTo(a, next, reasonNextOn, now)
	return reverseproxy.NewDialError(fmt.Errorf("status %d of endpoint %s: moved on", resp.StatusCode, a.target.name))
}

// A keptAnswer is one that the client gets if no endpoint does better.
type keptAnswer struct {
	attempt *attempt
	resp    *http.Response
}

// keptAnswer is the one that was kept; nil: none.
func (c *call) keptAnswer() *keptAnswer {
	if c.extras == nil {
		return nil
	}
	return c.extras.kept
}

// dropKept lets go of the kept answer, which is not needed.
func (c *call) dropKept() {
	if c.extras != nil {
		c.extras.dropKept()
	}
}

func (x *extras) dropKept() {
	if k := x.kept; k != nil {
		x.kept = nil
		k.resp.Body.Close()
		k.attempt.settle(time.Now(), outcome.Success, true)
	}
}

// orKept is what the call comes to in the end, where an answer was kept: that, unless
// the client has left.
func (c *call) orKept(resp *http.Response, err error) (*http.Response, error) {
	if err == outcome.ErrClientGone {
		c.dropKept()
		return nil, err
	}
	return c.giveKept(resp), nil
}

// giveKept answers the call with the kept answer instead of what it came to.
func (c *call) giveKept(resp *http.Response) *http.Response {
	if resp != nil {
		resp.Body.Close()
	}
	k := c.keptAnswer()
	c.extras.kept, c.current = nil, k.attempt
	k.attempt.unset(holding)
	k.attempt.credit()
	if !c.handler.rematches {
		c.recordAtEnd(k.attempt)
	}
	k.attempt.follow(k.resp)
	return k.resp
}
