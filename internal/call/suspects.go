package call

import (
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/target"
)

// A failure is the fault of this process, the client, the request or the endpoint. For some
// failures only the next attempt shows which. A request that fails in the same way at a second
// endpoint, while other calls succeed there, would fail anywhere (a query of death). Such a call
// moves on as any other, but its failures count against no endpoint.

// suspects are the attempts of a call whose failures may be the request's fault, in the order
// in which they failed. The zero value is empty.
type suspects struct {
	list []suspect
	own  bool // the request was found to be at fault
	slow bool // the call was rescued, or waits after a failure that may be its own
}

type suspect struct {
	attempt *Attempt
	outcome outcome.Outcome
}

// doubtful reports whether the call has failed in a way that may be its request's fault. Such a
// call must not test an endpoint that is on trial or little known.
func (c *Call) doubtful() bool {
	return c.extras != nil && (len(c.extras.failed.list) > 0 || c.extras.failed.slow)
}

// inDoubt returns the doubt about whose fault an attempt's failure is.
func (c *Call) inDoubt(a *Attempt, o outcome.Outcome) endpoint.DoubtStage {
	if x := a.race(); x != nil { // a rival may be starting
		x.mu.Lock()
		defer x.mu.Unlock()
	}
	switch {
	case !o.MayBeTheRequests():
		return endpoint.NoDoubt
	case c.suspected(a, o):
		return endpoint.DoubtedBefore
	case c.mayMoveOn(a, o):
		return endpoint.Doubted
	}
	return endpoint.NoDoubt
}

// suspected reports whether the call has failed in the same way at another endpoint.
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

// mayMoveOn reports whether the call may be sent elsewhere after such a failure of an attempt.
func (c *Call) mayMoveOn(a *Attempt, o outcome.Outcome) bool {
	return (a.wasRefused(o) || c.allows(o)) && c.hasAttempts() &&
		(c.body == nil || c.body.Replayable())
}

// suspect notes a failure that was reported in doubt. If another endpoint failed in the same way
// before, and one of them serves other calls, the request is at fault, and none of its failures
// counts any more.
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
		x.failed.mark()
		return
	}
	if !x.failed.own {
		x.failed.own = true
		c.foundAtFault(o)
		x.failed.found(true, now)
	}
	x.failed.resolve(c, now, false)
}

// found tells the endpoints what the call's next attempt has shown: its request is at fault, or they.
func (s *suspects) found(request bool, now time.Time) {
	for _, one := range s.list {
		one.attempt.Target.State.FoundAtFault(&one.attempt.Ticket, request, now)
	}
}

// mark notes at the endpoints that the call has failed at more than one, or everywhere.
func (s *suspects) mark() {
	for _, one := range s.list {
		one.attempt.Target.State.FailedElsewhere(&one.attempt.Ticket)
	}
}

// servesOthers reports whether an endpoint where the call failed in this way has served
// another call lately.
func (s *suspects) servesOthers(o outcome.Outcome, now time.Time) bool {
	for _, one := range s.list {
		if one.outcome == o && one.attempt.Target.State.For(one.attempt.Call.scope()).ServedLately(now) {
			return true
		}
	}
	return false
}

// refusedTwice reports whether the HTTP/2 layers of two endpoints refused only this request.
// Two of them do so only if it is malformed.
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

// resolve ends the doubt about all suspects. blamed says that their endpoints are at fault.
func (s *suspects) resolve(c *Call, now time.Time, blamed bool) {
	for _, one := range s.list {
		one.attempt.Target.State.Resolve(&one.attempt.Ticket, now, c.Handler.BreakerConfig(), blamed)
	}
	if blamed {
		s.list = nil
	}
}

// answerFor returns the error for the proxy after the last attempt: 400 if the HTTP/2 layers
// of two endpoints refused the request as malformed, else err.
func (s *suspects) answerFor(err error) error {
	if s.own && s.refusedTwice() {
		return caddyhttp.Error(http.StatusBadRequest, err)
	}
	return err
}

// answeredElsewhere blames the endpoints for the failures in doubt, because another has answered.
func (c *Call) answeredElsewhere(now time.Time) {
	if c.extras == nil || len(c.extras.failed.list) == 0 || c.extras.failed.own {
		return
	}
	c.extras.failed.found(false, now)
	c.blameSuspects(now)
}

// blameSuspects blames the endpoints for the failures in doubt, because nothing can show any more that
// the request is at fault.
func (c *Call) blameSuspects(now time.Time) {
	if c.extras == nil || len(c.extras.failed.list) == 0 || c.extras.failed.own {
		return
	}
	c.extras.failed.resolve(c, now, true)
}

// failedEverywhere ends a call that no endpoint answered. If its failures may be its request's fault,
// and other calls may be served where it failed, the failures stay in doubt until one is served
// there, or until endpoint.DoubtFor is over. Then they count against the endpoints, unless another
// call has waited at one of them for longer than this call took to fail, or the latest calls that failed
// there and got another attempt were at fault themselves. So a request that fails
// everywhere does not take out endpoints that have served no other call yet, nor those that serve others
// while the budget of retries is used up. A single endpoint is
// blamed at once, since there is none to compare it with.
func (c *Call) failedEverywhere(now time.Time) {
	c.noteFailed(now)
	if c.extras == nil || !c.extras.failed.undecided(now) || len(c.Handler.TableFor(c.upstreams(), now).Targets) == 1 {
		c.blameSuspects(now)
		return
	}
	failed := suspects{list: slices.Clone(c.extras.failed.list)}
	failed.mark()
	took := now.Sub(c.began())
	c.Handler.Pool.Undecided(now, func(now time.Time, last bool) bool {
		switch {
		case failed.areTheRequests(now):
			c.foundAtFault(failed.list[len(failed.list)-1].outcome)
			failed.resolve(c, now, false)
		case !last:
			return false
		default:
			failed.resolve(c, now, !failed.othersUnderWay(took, now) && !failed.requestsFail(now))
		}
		return true
	})
}

// othersUnderWay reports whether another call gets a good response from one of the endpoints, or has
// waited for one for clearly longer than the call took.
func (s *suspects) othersUnderWay(took time.Duration, now time.Time) bool {
	return slices.ContainsFunc(s.list, func(one suspect) bool {
		return one.attempt.Target.State.For(one.attempt.Call.scope()).OthersUnderWay(took, now)
	})
}

// requestsFail reports whether the latest failures at one of the endpoints were the fault of requests.
func (s *suspects) requestsFail(now time.Time) bool {
	return slices.ContainsFunc(s.list, func(one suspect) bool {
		return one.attempt.Target.State.For(one.attempt.Call.scope()).RequestsFail(now)
	})
}

// undecided reports whether it is not known yet whose fault the failures are.
func (s *suspects) undecided(now time.Time) bool {
	serving := false
	for _, one := range s.list {
		if one.outcome == outcome.RateLimited {
			return false // it holds its endpoint at once
		}
		serving = serving || one.attempt.Target.State.For(one.attempt.Call.scope()).MayServe(now)
	}
	return serving && !s.own
}

// areTheRequests reports whether the call failed in the same way at two endpoints, and one of them
// has served another call lately.
func (s *suspects) areTheRequests(now time.Time) bool {
	for i, one := range s.list {
		for _, other := range s.list[:i] {
			if other.outcome == one.outcome && other.attempt.Target.State != one.attempt.Target.State {
				return s.servesOthers(one.outcome, now)
			}
		}
	}
	return false
}

// foundAtFault notes that the call's request fails wherever it goes.
func (c *Call) foundAtFault(o outcome.Outcome) {
	c.Handler.Pool.Poisoned(c.Request, o)
	c.Handler.Pool.Budget.GiveBack() // other calls do not pay for its retries
}

// noneFollows ends the doubt about the failures of a call that ends with a bad answer. While a 429
// in doubt keeps calls away from another endpoint, which might have answered this call, a 429 of
// this endpoint counts against nobody, unless all endpoints have answered only 429 for a while.
func (c *Call) noneFollows(a *Attempt, o outcome.Outcome, now time.Time) {
	if o == outcome.RateLimited && c.othersHeldInDoubt(a, now) && !c.allAnswer429(now) {
		a.Target.State.Resolve(&a.Ticket, now, c.Handler.BreakerConfig(), false)
		c.noteFailed(now)
		return
	}
	c.failedEverywhere(now)
}

// othersHeldInDoubt reports whether a 429 in doubt keeps calls away from another endpoint.
func (c *Call) othersHeldInDoubt(a *Attempt, now time.Time) bool {
	for _, t := range c.routes(now).Targets {
		if t.State != a.Target.State && t.Weight > 0 && c.takes(t) && t.State.For(c.scope()).HeldInDoubt(now) {
			return true
		}
	}
	return false
}

// allAnswer429 reports whether each endpoint that the call may have has answered only 429 for a while.
func (c *Call) allAnswer429(now time.Time) bool {
	return !slices.ContainsFunc(c.routes(now).Targets, func(t *target.Target) bool {
		return t.Weight > 0 && c.takes(t) && !t.State.For(c.scope()).AnswersOnly429(now)
	})
}
