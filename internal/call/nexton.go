package call

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

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// reasonNextOn is the reason of a failover because of such an answer.
const reasonNextOn = "next_on"

// bodyLooks is how much of a body is looked at.
const bodyLooks = 64 << 10

// NextRule is NextOn, ready for use.
type NextRule struct {
	Status *outcome.StatusSet
	Body   *regexp.Regexp // nil: any
}

// mayMoveOn tells whether there is a rule for answers of this status.
func (h *Handler) mayMoveOn(code int) bool {
	for _, rule := range h.NextOn {
		if rule.Status.Has(code) {
			return true
		}
	}
	return false
}

// movesOn tells whether an answer is one to move on from. The body that it may have
// looked at is put back.
func (h *Handler) movesOn(a *Attempt, resp *http.Response) bool {
	var body []byte
	looked := false
	for _, rule := range h.NextOn {
		if !rule.Status.Has(resp.StatusCode) {
			continue
		}
		if rule.Body == nil {
			return true
		}
		if !looked {
			body, looked = decoded(resp, a.peek(resp, bodyLooks)), true
		}
		if rule.Body.Match(body) {
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
func (a *Attempt) peek(resp *http.Response, limit int64) []byte {
	h := new(held)
	a.Set(Holding)
	for h.err == nil && h.total < limit && !h.full {
		if err := h.read(a, resp.Body, limit-h.total); err != nil {
			h.err = err
		}
	}
	a.unset(Holding)
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
func (c *Call) passedOn(a *Attempt, resp *http.Response, now time.Time) (*http.Response, error) {
	if a.overtaken() {
		resp.Body.Close()
		a.Settle(now, outcome.Success, true)
		return nil, errOvertaken
	}
	if err := c.setAside(a, resp, now); err != nil {
		return nil, err
	}
	a.Final = !c.Handler.Rematches
	c.finish()
	a.follow(resp)
	return resp, nil
}

// setAside moves a call on from an answer that another endpoint may do better on,
// and keeps the first such answer. What it returns makes the proxy try again; nil
// if there is nothing to move on to.
func (c *Call) setAside(a *Attempt, resp *http.Response, now time.Time) error {
	next := c.planElsewhere(now, a)
	if next == nil {
		return nil
	}
	if x := c.Extra(); x.kept == nil {
		a.peek(resp, bodyLooks)
		a.Set(Holding) // the watcher lets go of it if the client leaves
		x.kept = &keptAnswer{a, resp}
		if err := resp.Body.(*held).err; err != nil {
			o := a.BodyOutcome(err)
			a.settleFor(a.whatBroke(o, err), time.Now(), o, true, endpoint.NoDoubt)
		}
	} else {
		resp.Body.Close()
		a.Settle(now, outcome.Success, true)
	}
	c.moveTo(a, next, reasonNextOn, whatStatus(resp), now)
	return reverseproxy.NewDialError(fmt.Errorf("status %d of endpoint %s: moved on", resp.StatusCode, a.Target.Name))
}

// A keptAnswer is one that the client gets if no endpoint does better.
type keptAnswer struct {
	attempt *Attempt
	resp    *http.Response
}

// keptAnswer is the one that was kept; nil: none.
func (c *Call) keptAnswer() *keptAnswer {
	if c.extras == nil {
		return nil
	}
	return c.extras.kept
}

// dropKept lets go of the kept answer, which is not needed.
func (c *Call) dropKept() {
	if c.extras != nil {
		c.extras.dropKept()
	}
}

// answeredWell notes that the call's answer is a good one.
func (c *Call) answeredWell() {
	x := c.extras
	if x == nil {
		return
	}
	x.dropKept()
	if x.moved {
		x.moved = false
		c.Handler.Pool.Saved.Add(1)
	}
}

func (x *extras) dropKept() {
	if k := x.kept; k != nil {
		x.kept = nil
		k.resp.Body.Close()
		k.attempt.Settle(time.Now(), outcome.Success, true)
	}
}

// orKept is what the call comes to in the end, where an answer was kept: that, unless
// the client has left.
func (c *Call) orKept(resp *http.Response, err error) (*http.Response, error) {
	if err == outcome.ErrClientGone {
		c.dropKept()
		return nil, err
	}
	return c.giveKept(resp), nil
}

// giveKept answers the call with the kept answer instead of what it came to.
func (c *Call) giveKept(resp *http.Response) *http.Response {
	if resp != nil {
		resp.Body.Close()
	}
	k := c.keptAnswer()
	c.extras.kept, c.Current = nil, k.attempt
	k.attempt.unset(Holding)
	k.attempt.credit()
	if !c.Handler.Rematches {
		c.recordAtEnd(k.attempt)
	}
	k.attempt.follow(k.resp)
	return k.resp
}
