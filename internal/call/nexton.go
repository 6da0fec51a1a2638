package call

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// reasonNextOn is the reason of a failover by a next_on rule.
const reasonNextOn = "next_on"

// passedOn moves the call on from an answer that another endpoint may do better. The client
// gets the answer only if there is no such endpoint.
func (c *Call) passedOn(a *Attempt, resp *http.Response, now time.Time) (*http.Response, error) {
	if a.race() != nil {
		if a.overtaken() {
			resp.Body.Close()
			a.Settle(now, outcome.Success, true)
			return nil, errOvertaken
		}
		now = time.Now() // overtaken may have waited for the rival
	}
	if err := c.setAside(a, resp, now); err != nil {
		return nil, err
	}
	a.MovedOn = true // the rule matched, so the answer proves nothing about the endpoint
	a.Target.State.TrialUnanswered(&a.Ticket)
	a.final = !c.Handler.Rematches
	c.finished = true
	a.follow(resp)
	return resp, nil
}

// setAside moves the call on from an answer, and keeps the first such answer. It returns an
// error that makes the proxy try again; nil if the call cannot move on.
func (c *Call) setAside(a *Attempt, resp *http.Response, now time.Time) error {
	next := c.planBetter(now, a)
	if next == nil {
		return nil
	}
	a.MovedOn = true
	x := c.extra()
	x.movedOn = append(x.movedOn, a)
	if k := a.keep(resp); x.kept == nil {
		x.kept = k
	} else {
		k.letGo()
	}
	c.moveTo(a, next, reasonNextOn, whatStatus(resp), now)
	return reverseproxy.NewDialError(fmt.Errorf("moving on from status %d of endpoint %s", resp.StatusCode, a.Target.Name))
}

// A keptAnswer goes to the client if no other endpoint answers better. A goroutine reads its body
// meanwhile, so that the endpoint is not kept busy.
type keptAnswer struct {
	attempt *Attempt
	resp    *http.Response
	body    *filling
}

// keep starts to read an answer's body, and returns the answer for later.
func (a *Attempt) keep(resp *http.Response) *keptAnswer {
	a.set(holding) // the watcher settles it if the client leaves
	return &keptAnswer{a, resp, a.fill(resp, func(err error) {
		switch err {
		case nil:
		case io.EOF: // bodyOutcome would read a.answer, which follow may set meanwhile
			a.Settle(time.Now(), outcome.Success, true)
		default:
			o := a.bodyOutcome(err)
			a.settleFor(a.whatBroke(o, err), time.Now(), o, true, endpoint.NoDoubt)
		}
	})}
}

// letGo settles and closes an answer that the client does not get.
func (k *keptAnswer) letGo() {
	k.attempt.Settle(time.Now(), outcome.Success, false)
	go func() { // the connection can be used again if the body has been read to its end
		<-k.body.done
		k.body.Close()
		k.attempt.Settle(time.Now(), outcome.Success, true)
	}()
}

// keptAnswer returns the kept answer; nil: there is none.
func (c *Call) keptAnswer() *keptAnswer {
	if c.extras == nil {
		return nil
	}
	return c.extras.kept
}

// answeredWell notes that an endpoint has answered the call well. It drops the kept answer, and
// tells the endpoints from whose answers the call moved on.
func (c *Call) answeredWell(now time.Time) {
	x := c.extras
	if x == nil {
		return
	}
	if x.unlike {
		c.Handler.Pool.Fingerprints.Served(c.fingerprint(), now)
	}
	if x.saved {
		x.saved = false
		c.Handler.Pool.Saved.Add(1)
	}
	if len(x.movedOn) > 0 {
		for _, a := range x.movedOn {
			a.Target.State.PassedOver(&a.Ticket, now)
		}
		x.movedOn = nil
		x.dropKept()
	}
}

func (x *extras) dropKept() {
	if k := x.kept; k != nil {
		x.kept = nil
		k.letGo()
	}
}

// orKept returns the kept answer instead of the call's result, unless the client has left.
func (c *Call) orKept(resp *http.Response, err error) (*http.Response, error) {
	if err == outcome.ErrClientGone {
		for _, a := range c.extras.movedOn {
			a.Target.State.TrialUnanswered(&a.Ticket)
		}
		c.extras.movedOn = nil
		c.extras.dropKept()
		return nil, err
	}
	return c.giveKept(resp), nil
}

// giveKept closes resp, if any, and gives the client the kept answer.
func (c *Call) giveKept(resp *http.Response) *http.Response {
	if resp != nil {
		resp.Body.Close()
	}
	k := c.keptAnswer()
	for _, a := range c.extras.movedOn { // no endpoint answered better
		a.Target.State.TrialUnanswered(&a.Ticket)
	}
	c.extras.kept, c.extras.movedOn, c.Current = nil, nil, k.attempt
	k.attempt.unset(holding)
	k.attempt.credit()
	if !c.Handler.Rematches {
		c.recordAtEnd(k.attempt)
	}
	k.attempt.follow(k.resp)
	return k.resp
}
