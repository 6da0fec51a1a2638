package failover

import (
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

// A failure has an author: this process, the client, the request, or the endpoint.
// Of some failures only the next attempt tells whose they are: a request that fails
// in the same way at a second endpoint, while other calls succeed there, would fail
// anywhere (a query of death). Such a call moves on as any other, but its failures
// count for no endpoint.

// suspects are the attempts of a call whose failures may be the request's own, in the
// order in which they failed. The zero value is empty.
type suspects struct {
	list []suspect
	own  bool // the request has been found to be the cause
	slow bool // the call has waited for long elsewhere
}

type suspect struct {
	attempt *attempt
	outcome outcome.Outcome
}

// doubtful tells whether the call has failed in a way that may be its own: then it is
// no measure for an endpoint that is on trial, or of which little is known.
func (c *call) doubtful() bool {
	return c.extras != nil && (len(c.extras.failed.list) > 0 || c.extras.failed.slow)
}

// inDoubt says how the failure of an attempt is to be reported: whether it may turn
// out to be the request's own.
func (c *call) inDoubt(a *attempt, o outcome.Outcome) doubtStage {
	switch {
	case !o.MayBeTheRequests():
		return noDoubt
	case c.suspected(a, o):
		return doubtedBefore
	case c.mayMoveOn(o):
		return doubted
	}
	return noDoubt
}

// suspected tells whether the call has had the same kind of failure at another endpoint.
func (c *call) suspected(a *attempt, o outcome.Outcome) bool {
	if c.extras == nil {
		return false
	}
	for _, s := range c.extras.failed.list {
		if s.outcome == o && s.attempt.target.state != a.target.state {
			return true
		}
	}
	return false
}

// mayMoveOn tells whether the call may be tried elsewhere after such a failure.
func (c *call) mayMoveOn(o outcome.Outcome) bool {
	return c.handler.retry.allows(c.request, o) && int(c.attempts) < c.handler.retry.attempts &&
		(c.body == nil || c.body.replayable())
}

// suspect notes a failure that was reported in doubt. If it is the second of its kind,
// from another endpoint, and one of the endpoints serves other calls, the request is
// the cause, and none of its failures counts any longer.
func (c *call) suspect(a *attempt, o outcome.Outcome, now time.Time) {
	if !o.MayBeTheRequests() || a.target.state.inNoDoubt(&a.ticket) {
		return
	}
	x := c.extra()
	same := c.suspected(a, o)
	x.failed.list = append(x.failed.list, suspect{a, o})
	if !same && !x.failed.own {
		return
	}
	if !x.failed.own && !x.failed.servesOthers(o, now) && !x.failed.refusedTwice() {
		return
	}
	if !x.failed.own {
		x.failed.own = true
		c.handler.pool.poisoned(c.request, o)
		c.handler.pool.budget.GiveBack() // others shall not pay for it
	}
	x.failed.resolve(c, now, false)
}

// servesOthers tells whether an endpoint at which the call failed in this way has
// served another one lately.
func (s *suspects) servesOthers(o outcome.Outcome, now time.Time) bool {
	for _, one := range s.list {
		if one.outcome == o && one.attempt.target.state.servedLately(now) {
			return true
		}
	}
	return false
}

// refusedTwice tells whether the HTTP/2 layers of two endpoints have refused the
// request alone: no two of them do that to requests which are well.
func (s *suspects) refusedTwice() bool {
	var first *endpointState
	for _, one := range s.list {
		state := one.attempt.target.state
		switch {
		case !one.attempt.refusedAlone:
		case first == nil:
			first = state
		case first != state:
			return true
		}
	}
	return false
}

// resolve says of all suspects whether their endpoints are to blame.
func (s *suspects) resolve(c *call, now time.Time, blamed bool) {
	for _, one := range s.list {
		one.attempt.target.state.resolve(&one.attempt.ticket, now, c.handler.breakerConfig(), blamed)
	}
	if blamed {
		s.list = nil
	}
}

// answerFor is what the client gets for an error of its last attempt: 400 where the
// HTTP/2 layer of every endpoint asked takes the request to be malformed.
func (s *suspects) answerFor(err error) error {
	if s.own && s.refusedTwice() {
		return caddyhttp.Error(http.StatusBadRequest, err)
	}
	return err
}

// blameSuspects says that the request is well, or that no attempt will tell any more:
// what failed was the endpoints' doing.
func (c *call) blameSuspects(now time.Time) {
	if c.extras == nil || len(c.extras.failed.list) == 0 || c.extras.failed.own {
		return
	}
	c.extras.failed.resolve(c, now, true)
}

// noneFollows says that the call ends with its latest failure. Other endpoints might
// have answered it, where a 429 keeps calls away from them that is in doubt itself: then
// this one's stays in doubt, too.
func (c *call) noneFollows(a *attempt, o outcome.Outcome, now time.Time) {
	if o == outcome.RateLimited && c.othersHeldInDoubt(a, now) {
		a.target.state.resolve(&a.ticket, now, c.handler.breakerConfig(), false)
		return
	}
	c.blameSuspects(now)
}

func (c *call) othersHeldInDoubt(a *attempt, now time.Time) bool {
	for _, t := range c.handler.tableFor(c.upstreams(), now).targets {
		if t.state != a.target.state && t.weight > 0 && t.state.heldInDoubt(now) {
			return true
		}
	}
	return false
}
