package failover

import (
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

// goOn hands out what was reserved for a call that has had its first attempt.
func (c *call) goOn(now time.Time) *reverseproxy.Upstream {
	switch {
	case c.handed:
		return c.again(now)
	case c.finished || c.next == nil:
		return nil // the proxy keeps the error it has
	case c.next.paused:
		c.next.pause(now)
	}
	return c.next.upstream
}

// again goes on with a call whose answer the proxy has thrown away, as its own
// lb_retry_match wants.
func (c *call) again(now time.Time) *reverseproxy.Upstream {
	c.handed = false
	if !c.current.passOver() {
		return nil
	}
	next := c.planElsewhere(now, c.current)
	if next == nil {
		c.record(c.current, c.current.known()) // the client gets its status
		return nil
	}
	c.finished = false
	c.moveTo(c.current, next, reasonRetryMatch, now)
	return next.upstream
}

// reasonRetryMatch is the reason of a failover that the proxy asked for.
const reasonRetryMatch = "lb_retry_match"

// pause waits for the end of a backoff, or until the client leaves.
func (a *attempt) pause(now time.Time) {
	timer := time.NewTimer(a.began.Sub(now))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-a.call.request.Context().Done():
	}
}

// chooseToLearn reserves an attempt at an endpoint of which more is to be known: one
// that recovers, or one in reserve. Nil: the call goes its normal way.
func (h *callHandler) chooseToLearn(c *call, t *routes, now time.Time) *attempt {
	if a := h.tryRecovering(c, t, now, false); a != nil {
		return a
	}
	if len(t.standby) > 0 && rand.Float64() < h.standbyShare && c.retrySafe() {
		return h.try(c, t.standby[rand.IntN(len(t.standby))], now, admitNormally)
	}
	return nil
}

// chooseOther reserves an attempt for a call that has been somewhere, or could not get
// in where it was to go.
func (h *callHandler) chooseOther(c *call, t *routes, now time.Time) *attempt {
	if !c.doubtful() {
		if a := h.redraw(c, t, now, admitNormally); a != nil {
			return a
		}
		return h.tryRecovering(c, t, now, true)
	}
	tried := c.excluded
	if a := h.redraw(c, t, now, admitProven); a != nil {
		return a
	}
	c.excluded = tried // better an endpoint that recovers than none
	return h.redraw(c, t, now, admitNormally)
}

// redraw reserves an attempt at one of the available targets that the call has not
// excluded, by their parts.
func (h *callHandler) redraw(c *call, t *routes, now time.Time, how admission) *attempt {
	redraws := 0
	excluded := func(i int) bool { return c.isExcluded(t.targets[i]) }
	for ; t.total > 0 && redraws < maxRedraws; redraws++ {
		i := t.redraw(rand.Float64(), excluded)
		if i < 0 {
			break
		}
		target := t.targets[i]
		if a := h.try(c, target, now, how); a != nil {
			return a
		}
		c.exclude(target)
	}
	if redraws == maxRedraws {
		for i, target := range t.targets {
			if !t.members[i].takesCalls() || excluded(i) {
				continue
			}
			if a := h.try(c, target, now, how); a != nil {
				return a
			}
		}
	}
	return nil
}

// maxRedraws bounds how often a call draws again because the endpoint it drew
// had just become unavailable; then it takes the first that lets it in.
const maxRedraws = 8

// retrySafe tells whether the call can be sent elsewhere whatever becomes of its
// first attempt.
func (c *call) retrySafe() bool {
	rules := &c.handler.retry
	return rules.attempts > 1 && rules.repeatable(c.request) &&
		(c.body == nil || c.body.fits())
}

// tryRecovering offers a call to endpoints that want to be tried: one that may
// be sent elsewhere if it fails, any call to one that has waited for long, and,
// as the last resort, any call to any of them.
func (h *callHandler) tryRecovering(c *call, from *routes, now time.Time, lastResort bool) *attempt {
	elsewhere := from.total > 0 && h.retry.attempts > 1 && h.retry.repeatable(c.request)
	for _, t := range from.trials {
		if c.isExcluded(t) {
			continue
		}
		s := t.state
		s.mu.Lock()
		wants, urgent := s.breaker.WantsTrial(now, h.breakerConfig())
		s.mu.Unlock()
		if !wants || !(elsewhere || urgent || lastResort) {
			continue
		}
		if a := h.try(c, t, now, admitNormally); a != nil {
			return a
		}
	}
	return nil
}

// refuse answers a call for which there is no endpoint: by a trial where one is
// due, else with 503, or 429 where every endpoint asked us to wait.
func (h *callHandler) refuse(c *call, t *routes, w http.ResponseWriter, now time.Time) *reverseproxy.Upstream {
	if x := c.extras; x != nil && x.skipped {
		return c.refuseWith(x.unfit)
	}
	first, held, a := h.lastChance(c, t, now)
	if a != nil {
		c.next = a
		c.attempts++
		return a.upstream
	}
	wait := min(max(1, math.Ceil(first.Sub(now).Seconds())), outcome.MaxHold.Seconds())
	w.Header().Set("Retry-After", strconv.Itoa(int(wait)))
	h.pool.refused(held)
	if !held {
		c.finish()
		return nil
	}
	return c.refuseWith(caddyhttp.Error(http.StatusTooManyRequests, outcome.ErrAllHeld))
}

// refuseWith ends a call before its first attempt: the round trip to the upstream
// that it returns is the refusal.
func (c *call) refuseWith(err error) *reverseproxy.Upstream {
	c.finish()
	targets := c.handler.tableFor(c.upstreams(), time.Now()).targets
	if len(targets) == 0 {
		return nil
	}
	c.finished = false
	c.extra().refusal = err
	// with a Host of its own, so that the refusal counts against no endpoint in
	// the proxy's passive health checks
	return &reverseproxy.Upstream{Dial: targets[0].address, Host: new(reverseproxy.Host)}
}

// lastChance looks at a pool whose endpoints are all out: when the first of
// them is to be tried again, and whether holds are all that keeps them away. If
// a trial is due now it is reserved.
func (h *callHandler) lastChance(c *call, from *routes, now time.Time) (first time.Time, held bool, a *attempt) {
	cfg := h.breakerConfig()
	held = true
	var due *target
	var dueKey time.Time
	anyway := h.tryAnyway
	for _, t := range from.targets {
		if t.weight <= 0 || c.isExcluded(t) && c.attempts > 0 {
			continue
		}
		if until, barred := t.state.barredUntil(now); barred {
			held, first = false, earliest(first, until)
			continue
		}
		at, onHold := t.state.returns(now, cfg)
		held = held && onHold
		if at.IsZero() {
			continue
		}
		first = earliest(first, at)
		key := at
		if !anyway {
			since, free := t.state.idleSince(now, cfg, t.limit)
			if !free {
				continue
			}
			key = since
		}
		if due == nil || key.Before(dueKey) {
			due, dueKey = t, key
		}
	}
	if first.IsZero() {
		return now, false, nil
	}
	if due == nil || c.attempts > 0 {
		return first, held, nil
	}
	if anyway {
		return first, held, h.try(c, due, now, admitAnyway)
	}
	if !h.pool.trialDue(now) {
		return first, held, h.inNeed(c, from, now)
	}
	return first, held, h.try(c, due, now, admitAllDown)
}

// inNeed reserves an attempt at the endpoint that answers most calls well, where all
// are out but some still answer: for as many calls as it answers.
func (h *callHandler) inNeed(c *call, from *routes, now time.Time) *attempt {
	var best *target
	most := 0.0
	for _, t := range from.targets {
		if t.weight <= 0 {
			continue
		}
		if served := t.state.servesSome(now); served > most {
			best, most = t, served
		}
	}
	if best == nil || rand.Float64() >= most {
		return nil
	}
	return h.try(c, best, now, admitInNeed)
}
