package call

import (
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/apifailover/caddy-failover/internal/endpoint"
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
	attempt *Attempt
	outcome outcome.Outcome
}

// doubtful tells whether the call has failed in a way that may be its own: then it is
// no measure for an endpoint that is on trial, or of which little is known.
func (c *Call) doubtful() bool {
	return c.extras != nil && (len(c.extras.failed.list) > 0 || c.extras.failed.slow)
}

// inDoubt says how the failure of an attempt is to be reported: whether it may turn
// out to be the request's own.
func (c *Call) inDoubt(a *Attempt, o outcome.Outcome) endpoint.DoubtStage {
	if x := a.race(); x != nil { // a rival may be about to begin
		x.mu.Lock()
		defer x.mu.Unlock()
	}
	switch {
	case !o.MayBeTheRequests():
		return endpoint.NoDoubt
	case c.suspected(a, o):
		return endpoint.DoubtedBefore
	case c.mayMoveOn(o):
		return endpoint.Doubted
	}
	return endpoint.NoDoubt
}

// suspected tells whether the call has had the same kind of failure at another endpoint.
func (c *Call) suspected(a *Attempt, o outcome.Outcome) bool {
	if c.extras == nil {
		return false
	}
	for _, s := range c.extras.failed.list {
		if s.outcome == o && s.attempt.Target.State != a.Target.State {
			return true
		}
	}
	return false
}

// mayMoveOn tells whether the call may be tried elsewhere after such a failure.
func (c *Call) mayMoveOn(o outcome.Outcome) bool {
	return c.allows(o) && c.hasAttempts() &&
		(c.body == nil || c.body.Replayable())
}

// suspect notes a failure that was reported in doubt. If it is the second of its kind,
// from another endpoint, and one of the endpoints serves other calls, the request is
// the cause, and none of its failures counts any longer.
func (c *Call) suspect(a *Attempt, o outcome.Outcome, now time.Time) {
	if !o.MayBeTheRequests() || a.Target.State.InNoDoubt(&a.Ticket) {
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
		c.Handler.Pool.Poisoned(c.Request, o)
		c.Handler.Pool.Budget.GiveBack() // others shall not pay for it
	}
	x.failed.resolve(c, now, false)
}

// servesOthers tells whether an endpoint at which the call failed in this way has
// served another one lately.
func (s *suspects) servesOthers(o outcome.Outcome, now time.Time) bool {
	for _, one := range s.list {
		if one.outcome == o && one.attempt.Target.State.ServedLately(now) {
			return true
		}
	}
	return false
}

// refusedTwice tells whether the HTTP/2 layers of two endpoints have refused the
// request alone: no two of them do that to requests which are well.
func (s *suspects) refusedTwice() bool {
	var first *endpoint.State
	for _, one := range s.list {
		state := one.attempt.Target.State
		switch {
		case !one.attempt.RefusedAlone:
		case first == nil:
			first = state
		case first != state:
			return true
		}
	}
	return false
}

// resolve says of all suspects whether their endpoints are to blame.
func (s *suspects) resolve(c *Call, now time.Time, blamed bool) {
	for _, one := range s.list {
		one.attempt.Target.State.Resolve(&one.attempt.Ticket, now, c.Handler.BreakerConfig(), blamed)
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
func (c *Call) blameSuspects(now time.Time) {
	if c.extras == nil || len(c.extras.failed.list) == 0 || c.extras.failed.own {
		return
	}
	c.extras.failed.resolve(c, now, true)
}

// noneFollows says that the call ends with its latest failure. Other endpoints might
// have answered it, where a 429 keeps calls away from them that is in doubt itself: then
// this one's stays in doubt, too.
func (c *Call) noneFollows(a *Attempt, o outcome.Outcome, now time.Time) {
	if o == outcome.RateLimited && c.othersHeldInDoubt(a, now) {
		a.Target.State.Resolve(&a.Ticket, now, c.Handler.BreakerConfig(), false)
		return
	}
	c.blameSuspects(now)
}

func (c *Call) othersHeldInDoubt(a *Attempt, now time.Time) bool {
	for _, t := range c.Handler.TableFor(c.upstreams(), now).Targets {
		if t.State != a.Target.State && t.Weight > 0 && t.State.HeldInDoubt(now) {
			return true
		}
	}
	return false
}
