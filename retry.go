package failover

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"time"
)

// allows tells whether a request may be sent again after a failure. What the
// endpoint cannot have acted on always may.
func (r *retryRules) allows(req *http.Request, o outcome) bool {
	return o.unprocessed() || r.repeatable(req)
}

// repeatable tells whether a request may be sent again after any failure.
func (r *retryRules) repeatable(req *http.Request) bool {
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
	longest := r.base
	for ; n > 0 && longest < r.cap; n-- {
		longest *= 2
	}
	return rand.N(min(longest, r.cap) + 1)
}

// plan decides what becomes of a call whose attempt failed at now: it reserves
// the next attempt, or returns nil if the failure is the call's answer.
func (c *call) plan(now time.Time, failed *attempt, o outcome) *attempt {
	p := c.policy
	switch {
	case c.attempts >= p.retry.attempts,
		!p.retry.allows(c.request, o),
		c.body != nil && !c.body.replayable(),
		!c.deadline.IsZero() && !now.Before(c.deadline),
		p.retry.noneAfter > 0 && now.Sub(c.began) >= p.retry.noneAfter:
		return nil
	}
	if !p.pool.budget.take(now, &p.retry.budget) {
		return nil
	}
	if next := c.planSame(now, failed, o); next != nil {
		return next
	}
	c.exclude(failed.target)
	if next := p.choose(c, now); next != nil {
		return next
	}
	p.pool.budget.giveBack()
	return nil
}

// planSame reserves another attempt at the endpoint that failed, after a
// backoff, where the pool wants that.
func (c *call) planSame(now time.Time, failed *attempt, o outcome) *attempt {
	rules := &c.policy.retry
	if failed.repeats >= rules.sameEndpoint || o != failedReset && o != failedStatus {
		return nil
	}
	pause := rules.backoff(failed.repeats)
	if !c.deadline.IsZero() && !now.Add(pause).Before(c.deadline) {
		return nil
	}
	next := c.newAttempt(failed.target, failed.upstream, now)
	if !next.target.state.acquire(next, now, c.policy.breakerConfig(), next.target.limit, admitNormally) {
		return nil
	}
	next.repeats, next.notBefore = failed.repeats+1, now.Add(pause)
	return next
}
