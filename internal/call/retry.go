package call

import (
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/apifailover/caddy-failover/internal/budget"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// RetryRules are the resolved options of the retry block.
type RetryRules struct {
	Attempts int           // the most attempts of a call, the first one included
	Any      bool          // calls of any method may be sent again
	Methods  []string      // the methods that may be sent again; nil: idempotent ones
	Hedge    *HedgeRules   // nil: no hedges
	Deadline time.Duration // the longest time of a call; 0: no bound

	SameEndpoint int           // the most retries at the same endpoint, one after another
	Wait         time.Duration // the longest Retry-After to wait for
	Base, Cap    time.Duration // see backoff
	Budget       budget.Rules
	NoneAfter    time.Duration // no attempt begins later than this after the call began; 0: no bound
	Buffer       int64         // the largest body that is kept for another attempt, in bytes
}

// Allows reports whether a request may be sent again after a failure. It may if the endpoint
// cannot have acted on it, or if it is Repeatable.
func (r *RetryRules) Allows(req *http.Request, o outcome.Outcome) bool {
	return o.Unprocessed() || r.Repeatable(req)
}

// allows is RetryRules.Allows, unless lb_retry_match decides. About answers, the proxy itself asks
// lb_retry_match.
func (c *Call) allows(o outcome.Outcome) bool {
	if c.Handler.RetryMatch == nil {
		return c.Handler.Retry.Allows(c.Request, o)
	}
	return o.Unprocessed() || o != outcome.FailedStatus && c.repeatable()
}

// repeatable reports whether the call may be sent again after any failure.
func (c *Call) repeatable() bool {
	match := c.Handler.RetryMatch
	if match == nil {
		return c.Handler.Retry.Repeatable(c.Request)
	}
	x := c.extra()
	if x.repeats == unknown { // it is known before a rival's goroutine calls this
		x.repeats = no
		if match(c.Request) {
			x.repeats = yes
		}
	}
	return x.repeats == yes
}

// A tristate is a bool that may not be known yet.
type tristate uint8

const (
	unknown tristate = iota
	no
	yes
)

// Repeatable reports whether a request may be sent again after any failure.
func (r *RetryRules) Repeatable(req *http.Request) bool {
	return r.Methods == nil && req.Method == http.MethodGet || r.mayRepeat(req)
}

// mayRepeat is Repeatable without the short cut for GET.
func (r *RetryRules) mayRepeat(req *http.Request) bool {
	switch {
	case r.Any:
		return true
	case r.Methods != nil:
		return slices.Contains(r.Methods, req.Method)
	}
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return req.Header.Get("Idempotency-Key") != ""
}

// backoff returns the pause before the n-th repeated attempt at the same endpoint, n from 0:
// full jitter, rand(0, min(cap, base·2ⁿ)).
func (r *RetryRules) backoff(n int) time.Duration {
	longest, most := r.Base, min(r.Cap, math.MaxInt64-1)
	for ; n > 0 && longest <= most/2; n-- {
		longest *= 2
	}
	if n > 0 {
		longest = most
	}
	return rand.N(min(longest, most) + 1)
}

// Plan reserves the next attempt of a call whose attempt failed at now. It returns nil if the client
// gets the failure.
func (c *Call) Plan(now time.Time, failed *Attempt, o outcome.Outcome) *Attempt {
	if failed.wasRefused(o) {
		return c.afterRefusals(now, failed)
	}
	if !c.allows(o) || !c.mayGoOn(now) {
		return nil
	}
	if !c.takeRetry(now) {
		return nil
	}
	if next := c.planSame(now, failed, o); next != nil {
		return next
	}
	next := c.planOther(now, failed)
	if next == nil {
		c.Handler.Pool.Budget.GiveBack()
		return nil
	}
	if failed.Watchful && o.AnsweredBadly() {
		c.movedOn(failed, now, false)
	}
	return next
}

// movedOn tells the endpoint of an attempt that the call has moved on: because it was slow, or from
// its failure.
func (c *Call) movedOn(from *Attempt, now time.Time, slow bool) {
	from.Target.State.MovedOn(from, now, c.Handler.BreakerConfig(), slow, c.Handler.Pool.Budget.Rate(now))
}

// planElsewhere reserves an attempt at another endpoint, for a call that may be sent again. If it
// cannot, it returns nil and does not change the call's exclusions.
func (c *Call) planElsewhere(now time.Time, from *Attempt) *Attempt {
	if !c.mayGoOn(now) || !c.takeRetry(now) {
		return nil
	}
	tried := c.excluded
	next := c.planOther(now, from)
	if next == nil {
		c.Handler.Pool.Budget.GiveBack()
		c.excluded = tried // the call stays where it is
	}
	return next
}

// planBetter reserves an attempt at another endpoint, for a call whose answer another endpoint may
// do better; nil if it cannot. Such attempts have their own budget.
func (c *Call) planBetter(now time.Time, from *Attempt) *Attempt {
	if !c.mayGoOn(now) || !c.Handler.Pool.Budget.TakeMove(now, &c.Handler.Retry.Budget) {
		return nil
	}
	next := c.planOther(now, from)
	if next == nil {
		c.Handler.Pool.Budget.GiveBackMove()
	}
	return next
}

// takeRetry takes a retry from the budget and reports whether it could. A call whose request is at
// fault may use only half of the budget.
func (c *Call) takeRetry(now time.Time) bool {
	rules := &c.Handler.Retry.Budget
	if c.extras != nil && c.extras.failed.own {
		rules = &budget.Rules{Ratio: rules.Ratio / 2, Floor: rules.Floor / 2}
	}
	return c.Handler.Pool.Budget.Take(now, rules)
}

// mayGoOn reports whether the call has an attempt, its body and time left.
func (c *Call) mayGoOn(now time.Time) bool {
	rules := &c.Handler.Retry
	return c.hasAttempts() &&
		(c.body == nil || c.body.Replayable()) &&
		!c.late(now) &&
		(rules.NoneAfter <= 0 || now.Sub(c.began()) < rules.NoneAfter)
}

// planOther reserves an attempt at an endpoint that the call has not tried; nil if there is
// none. The caller has taken it from a budget.
func (c *Call) planOther(now time.Time, failed *Attempt) *Attempt {
	c.exclude(failed.Target)
	t := c.routes(now)
	a := c.Handler.choose(c, t, now)
	if a == nil && c.Handler.Parted() {
		a = c.Handler.choose(c, c.routesToWaitFor(now), now)
	}
	if a == nil && c.extras != nil && c.extras.unlike {
		a = c.Handler.chooseUnlike(c, t, now)
	}
	return a
}

// planSame reserves another attempt at the endpoint that failed, after a pause; nil if the rules do
// not allow that.
func (c *Call) planSame(now time.Time, failed *Attempt, o outcome.Outcome) *Attempt {
	pause, ok := c.Handler.Retry.pause(failed, o)
	if !ok {
		return nil
	}
	how := endpoint.AdmitNormally
	if o == outcome.RateLimited {
		how = endpoint.AdmitHeld
	}
	return c.planAgain(now, failed, pause, how)
}

// refusedPause is the longest pause before another attempt at an HTTP/2 endpoint that has refused the request, if there
// is no other. It may take only a few requests at once on a connection, while the transport sends those that come
// together on the same new one.
const refusedPause = 200 * time.Millisecond

// planAfterRefusals reserves the next attempt of a call whose request an HTTP/2 endpoint refuses; nil if it cannot. Then it
// does not change the call's exclusions.
func (c *Call) planAfterRefusals(now time.Time, refused *Attempt) *Attempt {
	if !c.mayGoOn(now) || !c.takeRetry(now) {
		return nil
	}
	tried := c.excluded
	next := c.planOther(now, refused)
	if next == nil {
		next = c.planAgain(now, refused, rand.N(refusedPause), endpoint.AdmitNormally)
	}
	if next == nil {
		c.Handler.Pool.Budget.GiveBack()
		c.excluded = tried
	}
	return next
}

// afterRefusals returns the attempt that planAfterRefusals has reserved; nil: none. An endpoint to which the call goes again
// is not at fault.
func (c *Call) afterRefusals(now time.Time, refused *Attempt) *Attempt {
	if c.extras == nil {
		return nil
	}
	next := c.extras.reserved
	c.extras.reserved = nil
	if next != nil && next.Target == refused.Target {
		refused.Target.State.Resolve(&refused.Ticket, now, c.Handler.BreakerConfig(), false)
	}
	return next
}

// planAgain reserves another attempt at the endpoint that failed, after a pause; nil if it is too late, or the endpoint
// does not take it.
func (c *Call) planAgain(now time.Time, failed *Attempt, pause time.Duration, how endpoint.Admission) *Attempt {
	if c.late(now.Add(pause)) {
		return nil
	}
	next := c.newAttempt(failed.Target, failed.upstream, now.Add(pause))
	next.repeats, next.paused, next.Doubtful = failed.repeats+1, true, failed.Doubtful
	if !next.Target.State.Acquire(next, now, c.Handler.BreakerConfig(), next.Target.Bounds, how) {
		return nil
	}
	return next
}

// pause returns how long to wait before the next attempt at the endpoint that failed, and
// whether there may be one.
func (r *RetryRules) pause(failed *Attempt, o outcome.Outcome) (time.Duration, bool) {
	if failed.RetryAfter > 0 {
		return failed.RetryAfter, failed.RetryAfter <= r.Wait
	}
	if int(failed.repeats) >= r.SameEndpoint || o != outcome.FailedReset && o != outcome.FailedStatus && o != outcome.RateLimited {
		return 0, false
	}
	return r.backoff(int(failed.repeats)), true
}
