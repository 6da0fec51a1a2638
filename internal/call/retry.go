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

// RetryRules are Retry, ready for use.
type RetryRules struct {
	Attempts int
	Any      bool
	Methods  []string    // nil: idempotent ones
	Hedge    *HedgeRules // nil: no hedges
	Deadline time.Duration

	SameEndpoint int
	Wait         time.Duration // the longest Retry-After to wait for
	Base, Cap    time.Duration
	Budget       budget.Rules
	NoneAfter    time.Duration // no attempt begins later than that after the call; 0: no bound
	Buffer       int64
}

// Allows tells whether a request may be sent again after a failure. What the
// endpoint cannot have acted on always may.
func (r *RetryRules) Allows(req *http.Request, o outcome.Outcome) bool {
	return o.Unprocessed() || r.Repeatable(req)
}

// allows is RetryRules.Allows where the proxy's own lb_retry_match does not say what is
// retried; else that says it, and of answers the proxy itself asks it.
func (c *Call) allows(o outcome.Outcome) bool {
	if c.Handler.RetryMatch == nil {
		return c.Handler.Retry.Allows(c.Request, o)
	}
	return o.Unprocessed() || o != outcome.FailedStatus && c.repeatable()
}

// repeatable tells whether the call may be sent again after any failure.
func (c *Call) repeatable() bool {
	match := c.Handler.RetryMatch
	if match == nil {
		return c.Handler.Retry.Repeatable(c.Request)
	}
	x := c.extra()
	if x.repeats == unknown { // rivals ask as well, from goroutines of their own
		x.repeats = no
		if match(c.Request) {
			x.repeats = yes
		}
	}
	return x.repeats == yes
}

// tristate is an answer that may not be known yet.
type tristate uint8

const (
	unknown tristate = iota
	no
	yes
)

// Repeatable tells whether a request may be sent again after any failure.
func (r *RetryRules) Repeatable(req *http.Request) bool {
	return r.Methods == nil && req.Method == http.MethodGet || r.mayRepeat(req)
}

// mayRepeat is repeatable for any method.
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

// backoff is the pause before the same endpoint is asked for the n-th time
// again, n from 0: full jitter, rand(0, min(cap, base·2ⁿ)).
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

// Plan decides what becomes of a call whose attempt failed at now: it reserves
// the next attempt, or returns nil if the failure is the call's answer.
func (c *Call) Plan(now time.Time, failed *Attempt, o outcome.Outcome) *Attempt {
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
	}
	return next
}

// planElsewhere reserves an attempt at another endpoint for a call that may be
// sent again.
func (c *Call) planElsewhere(now time.Time, from *Attempt) *Attempt {
	if !c.mayGoOn(now) || !c.takeRetry(now) {
		return nil
	}
	tried := c.excluded
	next := c.planOther(now, from)
	if next == nil {
		c.Handler.Pool.Budget.GiveBack()
		c.excluded = tried // the call goes on where it is
	}
	return next
}

// planBetter reserves an attempt at another endpoint for a call that has an answer from which it
// is to move on. Such attempts have a budget of their own.
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

// takeRetry asks the budget for a retry. A call whose request fails wherever it goes
// leaves half of the budget to others.
func (c *Call) takeRetry(now time.Time) bool {
	rules := &c.Handler.Retry.Budget
	if c.extras != nil && c.extras.failed.own {
		rules = &budget.Rules{Ratio: rules.Ratio / 2, Floor: rules.Floor / 2}
	}
	return c.Handler.Pool.Budget.Take(now, rules)
}

// mayGoOn tells whether the call has an attempt, the body for it, and time left.
func (c *Call) mayGoOn(now time.Time) bool {
	rules := &c.Handler.Retry
	return c.hasAttempts() &&
		(c.body == nil || c.body.Replayable()) &&
		!c.late(now) &&
		(rules.NoneAfter <= 0 || now.Sub(c.began()) < rules.NoneAfter)
}

// planOther reserves an attempt at an endpoint that the call has not tried, for
// which a budget has been asked. Nil: there is none.
func (c *Call) planOther(now time.Time, failed *Attempt) *Attempt {
	c.exclude(failed.Target)
	t := c.Handler.TableFor(c.upstreams(), now)
	return c.Handler.Choose(c, t, now)
}

// planSame reserves another attempt at the endpoint that failed, after a pause,
// where the pool wants that.
func (c *Call) planSame(now time.Time, failed *Attempt, o outcome.Outcome) *Attempt {
	pause, ok := c.Handler.Retry.pause(failed, o)
	if !ok || c.late(now.Add(pause)) {
		return nil
	}
	next := c.newAttempt(failed.Target, failed.upstream, now.Add(pause))
	how := endpoint.AdmitNormally
	if o == outcome.RateLimited {
		how = endpoint.AdmitHeld
	}
	next.repeats, next.paused, next.Doubtful = failed.repeats+1, true, failed.Doubtful
	if !next.Target.State.Acquire(next, now, c.Handler.BreakerConfig(), next.Target.Bounds, how) {
		return nil
	}
	return next
}

// pause is how long to wait before the endpoint that failed is asked again; false
// if it is not to be.
func (r *RetryRules) pause(failed *Attempt, o outcome.Outcome) (time.Duration, bool) {
	if failed.RetryAfter > 0 {
		return failed.RetryAfter, failed.RetryAfter <= r.Wait
	}
	if int(failed.repeats) >= r.SameEndpoint || o != outcome.FailedReset && o != outcome.FailedStatus && o != outcome.RateLimited {
		return 0, false
	}
	return r.backoff(int(failed.repeats)), true
}
