package failover

import (
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/apifailover/caddy-failover/internal/budget"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// allows tells whether a request may be sent again after a failure. What the
// endpoint cannot have acted on always may.
func (r *retryRules) allows(req *http.Request, o outcome.Outcome) bool {
	return o.Unprocessed() || r.repeatable(req)
}

// repeatable tells whether a request may be sent again after any failure.
func (r *retryRules) repeatable(req *http.Request) bool {
	return r.methods == nil && req.Method == http.MethodGet || r.mayRepeat(req)
}

// mayRepeat is repeatable for any method.
func (r *retryRules) mayRepeat(req *http.Request) bool {
	switch {
	case r.any:
		return true
	case r.methods != nil:
		return slices.Contains(r.methods, req.Method)
	}
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return req.Header.Get("Idempotency-Key") != ""
}

// backoff is the pause before the same endpoint is asked for the n-th time
// again, n from 0: full jitter, rand(0, min(cap, base·2ⁿ)).
func (r *retryRules) backoff(n int) time.Duration {
	longest, most := r.base, min(r.cap, math.MaxInt64-1)
	for ; n > 0 && longest <= most/2; n-- {
		longest *= 2
	}
	if n > 0 {
		longest = most
	}
	return rand.N(min(longest, most) + 1)
}

// plan decides what becomes of a call whose attempt failed at now: it reserves
// the next attempt, or returns nil if the failure is the call's answer.
func (c *call) plan(now time.Time, failed *attempt, o outcome.Outcome) *attempt {
	if !c.handler.retry.allows(c.request, o) || !c.mayGoOn(now) {
		return nil
	}
	if !c.takeRetry(now) {
		return nil
	}
	if next := c.planSame(now, failed, o); next != nil {
		return next
	}
	return c.planOther(now, failed)
}

// planElsewhere reserves an attempt at another endpoint for a call that may be
// sent again.
func (c *call) planElsewhere(now time.Time, from *attempt) *attempt {
	if !c.mayGoOn(now) || !c.takeRetry(now) {
		return nil
	}
	tried := c.excluded
	next := c.planOther(now, from)
	if next == nil {
		c.excluded = tried // the call goes on where it is
	}
	return next
}

// takeRetry asks the budget for a retry. A call whose request fails wherever it goes
// leaves half of the budget to others.
func (c *call) takeRetry(now time.Time) bool {
	rules := &c.handler.retry.budget
	if c.extras != nil && c.extras.failed.own {
		rules = &budget.Rules{Ratio: rules.Ratio / 2, Floor: rules.Floor / 2}
	}
	return c.handler.pool.budget.Take(now, rules)
}

// mayGoOn tells whether the call has an attempt, the body for it, and time left.
func (c *call) mayGoOn(now time.Time) bool {
	rules := &c.handler.retry
	return int(c.attempts) < rules.attempts &&
		(c.body == nil || c.body.replayable()) &&
		!c.late(now) &&
		(rules.noneAfter <= 0 || now.Sub(c.began()) < rules.noneAfter)
}

// planOther reserves an attempt at an endpoint that the call has not tried, for
// which the budget has been asked.
func (c *call) planOther(now time.Time, failed *attempt) *attempt {
	c.exclude(failed.target)
	t := c.handler.tableFor(c.upstreams(), now)
	if next := c.handler.choose(c, t, now); next != nil {
		return next
	}
	c.handler.pool.budget.GiveBack()
	return nil
}

// planSame reserves another attempt at the endpoint that failed, after a pause,
// where the pool wants that.
func (c *call) planSame(now time.Time, failed *attempt, o outcome.Outcome) *attempt {
	pause, ok := c.handler.retry.pause(failed, o)
	if !ok || c.late(now.Add(pause)) {
		return nil
	}
	next := c.newAttempt(failed.target, failed.upstream, now.Add(pause))
	how := admitNormally
	if o == outcome.RateLimited {
		how = admitHeld
	}
	next.repeats, next.paused, next.doubtful = failed.repeats+1, true, failed.doubtful
	if !next.target.state.acquire(next, now, c.handler.breakerConfig(), next.target.limit, how) {
		return nil
	}
	return next
}

// pause is how long to wait before the endpoint that failed is asked again; false
// if it is not to be.
func (r *retryRules) pause(failed *attempt, o outcome.Outcome) (time.Duration, bool) {
	if failed.retryAfter > 0 {
		return failed.retryAfter, failed.retryAfter <= r.wait
	}
	if int(failed.repeats) >= r.sameEndpoint || o != outcome.FailedReset && o != outcome.FailedStatus && o != outcome.RateLimited {
		return 0, false
	}
	return r.backoff(int(failed.repeats)), true
}
