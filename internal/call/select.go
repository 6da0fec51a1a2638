package call

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/pool"
)

// goOn returns the upstream of a call's next attempt after its first.
func (c *Call) goOn(w http.ResponseWriter, now time.Time) *reverseproxy.Upstream {
	switch x := c.extras; {
	case c.handed:
		return c.again(w, now)
	case x != nil && x.wait.next:
		return c.wait(w, now)
	case c.finished || c.Next == nil:
		return c.refuseWith(errOver)
	case c.Next.paused:
		c.Next.pause(now)
	}
	return c.Next.upstream
}

// errOver ends a call whose error the proxy already has.
var errOver = errors.New("the call is over")

// again goes on with a call whose answer the proxy has dropped because of lb_retry_match.
func (c *Call) again(w http.ResponseWriter, now time.Time) *reverseproxy.Upstream {
	c.handed = false
	if !c.Current.passOver() {
		return c.refuseWith(errOver)
	}
	next := c.planElsewhere(now, c.Current)
	if next == nil {
		// the client gets the answer's status
		err := caddyhttp.Error(c.extras.status, fmt.Errorf("status %d of endpoint %s matches lb_retry_match, but the request cannot move on", c.extras.status, c.Current.Target.Name))
		if c.Handler.Wait.repeats() && c.plansWait(now, c.Handler.allOut(c, now), err, reasonRetryMatch) {
			c.finished = false
			return c.wait(w, now)
		}
		c.record(c.Current, c.Current.known())
		return c.refuseWith(err)
	}
	c.finished = false
	c.moveTo(c.Current, next, reasonRetryMatch, "", now)
	return next.upstream
}

// reasonRetryMatch is the reason of a failover that the proxy asked for.
const reasonRetryMatch = "lb_retry_match"

// pause waits for the end of a backoff, or until the client leaves.
func (a *Attempt) pause(now time.Time) {
	timer := time.NewTimer(a.Began.Sub(now))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-a.Call.Request.Context().Done():
	}
}

// chooseToLearn reserves an attempt at an endpoint that recovers or is on standby, to learn about it.
// Nil: the table decides.
func (h *Handler) chooseToLearn(c *Call, t *pool.Routes, now time.Time) *Attempt {
	if a := h.tryRecovering(c, t, now, false); a != nil {
		return a
	}
	if len(t.Standby) > 0 && rand.Float64() < h.StandbyShare && c.retrySafe() {
		return h.try(c, t.Standby[rand.IntN(len(t.Standby))], now, endpoint.AdmitNormally)
	}
	return nil
}

// chooseOther reserves an attempt for a call that has tried an endpoint, or whose first choice did not
// admit it.
func (h *Handler) chooseOther(c *Call, t *pool.Routes, now time.Time) *Attempt {
	if !c.doubtful() {
		if a := h.redraw(c, t, now, endpoint.AdmitNormally); a != nil {
			return a
		}
		if a := h.tryPassed(c, t, now); a != nil {
			return a
		}
		return h.tryRecovering(c, t, now, true)
	}
	tried := c.excluded
	if a := h.redraw(c, t, now, endpoint.AdmitProven); a != nil {
		return a
	}
	c.excluded = tried // a recovering endpoint is better than none
	if a := h.redraw(c, t, now, endpoint.AdmitNormally); a != nil {
		return a
	}
	return h.tryPassed(c, t, now)
}

// tryPassed reserves an attempt at an endpoint that is passed over, for a call that finds no other.
func (h *Handler) tryPassed(c *Call, from *pool.Routes, now time.Time) *Attempt {
	for _, t := range from.Passed {
		if c.isExcluded(t) {
			continue
		}
		if a := h.try(c, t, now, endpoint.AdmitNormally); a != nil {
			return a
		}
	}
	return nil
}

// mayMove reports whether a rule for answers may move the call on.
func (c *Call) mayMove() bool {
	h := c.Handler
	return h.Answers != nil && h.Retry.Attempts > 1 && (c.body == nil || c.body.Fits())
}

// redraw reserves an attempt at one of the targets that the call does not exclude, drawn by their
// parts; nil if none admits it. It excludes the targets that did not admit it.
func (h *Handler) redraw(c *Call, t *pool.Routes, now time.Time, how endpoint.Admission) *Attempt {
	redraws := 0
	excluded := func(i int) bool { return c.isExcluded(t.Targets[i]) }
	for ; t.Total > 0 && redraws < maxRedraws; redraws++ {
		i := -1
		if c.key != 0 {
			i = t.Affine(c.key, excluded)
		} else {
			i = t.Redraw(rand.Float64(), excluded)
		}
		if i < 0 {
			break
		}
		target := t.Targets[i]
		if a := h.try(c, target, now, how); a != nil {
			return a
		}
		c.exclude(target)
	}
	if redraws == maxRedraws {
		for i, target := range t.Targets {
			if !t.Members[i].TakesCalls() || excluded(i) {
				continue
			}
			if a := h.try(c, target, now, how); a != nil {
				return a
			}
		}
	}
	return nil
}

// maxRedraws bounds how often a call draws again because an endpoint did not admit it. After that it
// takes the first endpoint that admits it.
const maxRedraws = 8

// retrySafe reports whether the call can be sent elsewhere however its first attempt fails.
func (c *Call) retrySafe() bool {
	rules := &c.Handler.Retry
	return rules.Attempts > 1 && c.repeatable() &&
		(c.body == nil || c.body.Fits())
}

// tryRecovering reserves a trial at an endpoint that wants one. The call must be one that can be sent
// elsewhere if it fails, unless the endpoint has waited long for a trial, or lastResort is set.
func (h *Handler) tryRecovering(c *Call, from *pool.Routes, now time.Time, lastResort bool) *Attempt {
	elsewhere := from.Total > 0 && c.retrySafe()
	for _, t := range from.Trials {
		if c.isExcluded(t) {
			continue
		}
		if wants, urgent := t.State.For(c.scope()).WantsPassingTrial(now); wants && !lastResort && from.Total > 0 && (urgent || c.mayMove()) {
			if a := h.try(c, t, now, endpoint.AdmitPassed); a != nil {
				return a
			}
		}
		wants, urgent := t.State.For(c.scope()).WantsTrial(now, h.BreakerConfig())
		if !wants || !(elsewhere || urgent || lastResort) {
			continue
		}
		if a := h.try(c, t, now, endpoint.AdmitNormally); a != nil {
			return a
		}
	}
	return nil
}

// refuse handles a call that found no endpoint. The call waits if the rules allow it. Otherwise it
// becomes a trial if one is due, or is refused. A call that is unlike those that failed lately
// does not wait.
func (h *Handler) refuse(c *Call, t *pool.Routes, w http.ResponseWriter, now time.Time) *reverseproxy.Upstream {
	if x := c.extras; x != nil && x.skipped {
		return c.refuseWith(x.unfit)
	}
	if none := c.noModel(t); none != nil {
		return c.refuseWith(none)
	}
	a := h.chooseUnlike(c, t, now)
	if a == nil && h.Wait.queues() {
		return c.wait(w, now)
	}
	if a == nil {
		a = h.lastChance(c, t, now)
	}
	if a != nil {
		c.extra().unlike = true
		c.Next = a
		c.Attempts++
		return a.upstream
	}
	return c.refuseAs(h.outlook(c, t, now), w, now)
}

// lastChance reserves an attempt in a pool whose endpoints are all out: a trial if one is due and no call unlike
// this one can make it, else one of inNeed; nil if there is neither.
func (h *Handler) lastChance(c *Call, from *pool.Routes, now time.Time) *Attempt {
	_, _, due := h.soonest(c, from, now)
	switch {
	case due == nil || c.Attempts > 0 && c.entering() == nil:
		return nil
	case h.TryAnyway:
		return h.try(c, due, now, endpoint.AdmitAnyway)
	}
	if a := h.try(c, due, now, endpoint.AdmitProven); a != nil {
		return a // its cooldown is over, and the table not yet rebuilt
	}
	switch {
	case h.Pool.Fingerprints.ServesOthers(now) || !h.Pool.TrialDue(from, now):
		return h.inNeed(c, from, now)
	}
	return h.try(c, due, now, endpoint.AdmitAllDown)
}

// inNeed reserves an attempt at the endpoint that still answers the largest part of its calls although
// all endpoints are out. It does so for that part of the calls, and returns nil for the others.
func (h *Handler) inNeed(c *Call, from *pool.Routes, now time.Time) *Attempt {
	best, most := h.mostServing(c, from, now)
	if best == nil || rand.Float64() >= most {
		return nil
	}
	return h.try(c, best, now, endpoint.AdmitInNeed)
}
