package call

import (
	"cmp"
	"errors"
	"math"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/pool"
	"github.com/apifailover/caddy-failover/internal/target"
)

// WaitRules say how long calls wait for an endpoint, and how often they go again to one that
// failed them. The zero value: calls do not wait.
type WaitRules struct {
	For      time.Duration // the longest wait, from the beginning of the call; 0: no bound
	Most     int           // the largest number of calls that wait in the pool
	Interval time.Duration // the pause before a call goes again to an endpoint that failed it
	Tries    int           // the largest number of tries after the first, where each Interval of waiting counts as one; 0: no bound
}

// queues reports whether calls that find no endpoint wait.
func (w *WaitRules) queues() bool { return w.For > 0 || w.Tries > 0 && w.Interval > 0 }

// repeats reports whether calls go again to endpoints that failed them.
func (w *WaitRules) repeats() bool { return w.For > 0 || w.Tries > 0 }

// A wait is the state of a call that waits, or has waited, for an endpoint.
type wait struct {
	since  time.Time     // when the call began
	began  time.Time     // when the current wait began; zero: none
	before time.Duration // the length of all earlier waits
	tries  int           // the tries that waits counted as, by WaitRules.Interval
	again  int           // attempts that followed a wait, without the first attempt
	round  uint16        // the number of attempts before the latest wait
	left   bool          // the client left, or its body failed, while the call waited

	next    bool          // the next Select waits
	rests   bool          // some endpoint takes calls, so the call pauses for rest and tries again
	rest    time.Duration // the pause before the next try
	err     error         // the client's error if the wait is in vain; nil: a refusal
	limited time.Time     // when the call began to pause because of 429s last; zero: never
	reason  string        // the reason of the move to the next endpoint
	what    string        // what was wrong with the attempt before; empty: nothing

	scope string                     // pool.Way.Scope of the call's ways; set with lanes
	lanes *pool.Lanes                // set while the queue looks for an endpoint
	lane  atomic.Pointer[pool.Place] // the place from which the queue let the call in, until its attempt is answered
}

// entering returns the lanes in which the call's next attempt needs room; nil: the queue is not
// looking for an endpoint for this call.
func (c *Call) entering() *pool.Lanes {
	if c.extras == nil {
		return nil
	}
	return c.extras.wait.lanes
}

// waited returns how long the call has waited for endpoints, without the current wait.
func (c *Call) waited() time.Duration {
	if c.extras == nil {
		return 0
	}
	return c.extras.wait.before
}

// used returns how many of WaitRules.Tries the call has used.
func (c *Call) used() int {
	made := max(0, int(c.Attempts)-1)
	if x := c.extras; x != nil {
		made += x.wait.tries - x.wait.again
	}
	return made
}

// hasAttempts reports whether the call may have another attempt. A wait renews the number of
// attempts, unless lb_retries bounds it.
func (c *Call) hasAttempts() bool {
	h := c.Handler
	if c.extras == nil {
		return int(c.Attempts) < h.Retry.Attempts
	}
	if h.Wait.Tries > 0 {
		return c.used() < h.Wait.Tries
	}
	return int(c.Attempts-c.extras.wait.round) < h.Retry.Attempts
}

// waitsUntil returns when the call gives up waiting; zero: never.
func (c *Call) waitsUntil(now time.Time) (until time.Time) {
	rules := &c.Handler.Wait
	if rules.For > 0 {
		until = c.began().Add(rules.For)
	}
	if rules.Tries > 0 {
		left := max(0, rules.Tries-c.used())
		until = endpoint.Earliest(until, now.Add(time.Duration(left)*rules.Interval))
	}
	if c.Handler.Retry.Deadline > 0 {
		until = endpoint.Earliest(until, now.Add(c.left(now)-c.needs(now)))
	}
	by, _ := c.Handler.Pool.Queue.EndsBy()
	return endpoint.Earliest(until, by)
}

// needs returns the time that a call needs before its deadline: a quarter more than three of four responses take to begin at
// the fastest endpoint of the call. If that is unknown, it is a tenth of the deadline. A call with less time left would often
// take the place of others in vain; one with more may still be served, although responses are sometimes slow. So may one whose
// responses take nearly the whole deadline: it waits for a tenth of it.
func (c *Call) needs(now time.Time) (least time.Duration) {
	for _, t := range c.routes(now).Targets {
		if t.Weight <= 0 || !c.takes(t) {
			continue
		}
		if took := t.State.For(c.scope()).Typically(now, 0.75); took > 0 && (least == 0 || took < least) {
			least = took
		}
	}
	deadline := c.Handler.Retry.Deadline
	return min(cmp.Or(least+least/4, deadline/10), deadline-deadline/10)
}

// waitsFor makes a call whose attempt failed wait for an endpoint, which may be the same one, and
// reports whether it does. If the wait is in vain, the client gets err; nil: a refusal. what says
// in a few words what was wrong with the attempt.
func (c *Call) waitsFor(o outcome.Outcome, what string, err error, now time.Time) bool {
	h := c.Handler
	if c.keptAnswer() != nil || !h.Wait.repeats() || h.Retry.Attempts < 2 || !c.Current.wasRefused(o) && !c.allows(o) {
		return false
	}
	out := h.allOut(c, now)
	limited := o == outcome.RateLimited && !out
	switch {
	case limited && (h.Wait.For <= 0 || c.limitedAlone(now)),
		!out && (o == outcome.FailedStatus || o == outcome.Denied):
		return false // the client gets this answer
	}
	if !c.plansWait(now, out, err, o.String()) {
		return false
	}
	s := &c.extras.wait
	s.what = what
	if limited {
		s.limited, s.rest = now, max(s.rest, min(c.Current.RetryAfter, longestRest))
	}
	if o.MayBeTheRequests() {
		c.extras.failed.slow = true
	}
	return true
}

// longestRest is the longest pause of a call before it tries endpoints again that answer with 429s, if these may be its own
// fault. Once they hold all calls, it waits in the queue.
const longestRest = time.Second

// limitedAlone reports whether a call that has paused because of 429s is to blame for them: an endpoint that it has tried has
// served another call meanwhile, and goes on answering some with 429s.
func (c *Call) limitedAlone(now time.Time) bool {
	if c.extras == nil || c.extras.wait.limited.IsZero() {
		return false
	}
	return slices.ContainsFunc(c.routes(now).Targets, func(t *target.Target) bool {
		return (t.State == c.Current.Target.State || c.isExcluded(t)) && t.State.For(c.scope()).Answers429ToSome(c.extras.wait.limited, now)
	})
}

// plansWait makes the next Select wait, and reports whether the call may. It waits in the queue if
// all endpoints are out; otherwise for Interval, before it tries one again.
func (c *Call) plansWait(now time.Time, out bool, err error, reason string) bool {
	rules := &c.Handler.Wait
	switch {
	case rules.For > 0 && !now.Before(c.began().Add(rules.For)), rules.Tries > 0 && c.used() >= rules.Tries:
		return false
	case out && !rules.queues():
		return false
	case int(c.Attempts) >= MaxAttempts-c.Handler.Retry.Attempts, c.body != nil && !c.body.Replayable(), c.late(now):
		return false
	}
	since := c.began()
	x := c.extra()
	s := &x.wait
	s.since, s.next, s.rests, s.rest, s.err, s.reason = since, true, !out, rules.Interval, err, reason
	return true
}

// allOut reports whether no endpoint takes the call now. It asks the endpoints' states, not the tables.
func (h *Handler) allOut(c *Call, now time.Time) bool {
	cfg := h.BreakerConfig()
	return !slices.ContainsFunc(c.routesToWaitFor(now).Targets, func(t *target.Target) bool {
		return t.Weight > 0 && c.takes(t) && !t.State.For(c.scope()).Out(now, cfg)
	})
}

// wait keeps the call until there is an endpoint for it, its time is over or its client leaves.
// It returns the upstream of the attempt, or one whose round trip is the refusal.
func (c *Call) wait(w http.ResponseWriter, now time.Time) *reverseproxy.Upstream {
	h, x := c.Handler, c.extra()
	q, s := &h.Pool.Queue, &x.wait
	s.next = false
	if s.since.IsZero() {
		s.since = now
	}
	if s.began.IsZero() {
		most := h.Wait.Most
		if s.before > 0 {
			most = math.MaxInt32 // a call that waited before is not turned away
		}
		if !q.Take(most) {
			q.TurnedAway()
			return c.givesUp(w, now)
		}
		s.began = now
	}
	broken := make(chan struct{})
	if c.body != nil {
		c.body.AnsweredBy(w)
		defer c.body.Fill(func() { close(broken) })()
	}
	by, known := q.EndsBy()
	if !by.IsZero() {
		known = nil
	}
	until := c.waitsUntil(now)
	for s.rests {
		if pause := min(s.rest, until.Sub(now)); pause > 0 {
			left := c.sleep(pause, nil, broken, known)
			now = time.Now()
			switch {
			case left == errLookAgain:
				s.next = true
				return c.refuseWith(errLookAgain)
			case left != nil:
				return c.leaves(left, now)
			}
		}
		if s.rest > 0 && !now.Before(until) {
			return c.timeOver(w, now)
		}
		a, denied := c.chooseAgain(now)
		switch {
		case a != nil:
			return c.goesIn(nil, now)
		case !denied:
			s.rests = false
		case c.limitedAlone(now):
			return c.timeOver(w, now)
		default:
			s.rest = max(h.Wait.Interval, endpoint.PollAllIn)
			until = c.waitsUntil(now)
		}
	}
	if !h.Wait.queues() {
		return c.timeOver(w, now)
	}
	pause := until.Sub(now)
	if h.Dynamic != nil { // the proxy looks up the upstreams between tries
		pause = min(pause, max(h.Wait.Interval, endpoint.PollAllIn))
	}
	if !s.limited.IsZero() {
		x.failed = suspects{slow: true} // its 429s were not its own fault, since all endpoints are out
	}
	place := q.Join(c, s.since)
	left := c.sleep(pause, place.In(), broken, known)
	now = time.Now()
	switch {
	case !place.Leave():
		return c.goesIn(place, now)
	case left != nil && left != errLookAgain:
		return c.leaves(left, now)
	case !now.Before(until):
		return c.timeOver(w, now)
	}
	s.next = true
	return c.refuseWith(errLookAgain)
}

// errLookAgain makes the proxy ask for an upstream again, and look up dynamic ones.
var errLookAgain = reverseproxy.NewDialError(errors.New("no endpoint yet"))

// sleep waits for pause, or until the call is let in. The error says that the client has left or its body failed or, if
// it is errLookAgain, that it is known now when all waits end.
func (c *Call) sleep(pause time.Duration, in, broken, known <-chan struct{}) error {
	timer := time.NewTimer(max(0, pause))
	defer timer.Stop()
	select {
	case <-in:
	case <-timer.C:
	case <-known:
		return errLookAgain
	case <-c.Request.Context().Done():
		return outcome.ErrClientGone
	case <-broken:
		if c.Request.Context().Err() == nil {
			return c.body.Error()
		}
		return outcome.ErrClientGone
	}
	return nil
}

// chooseAgain reserves an attempt for a call that has paused before it tries an endpoint again.
// denied says that neither the budget nor Queue.MayTry allows it. If calls of its kind wait in the queue, it reserves none, and
// the call joins them.
func (c *Call) chooseAgain(now time.Time) (a *Attempt, denied bool) {
	h := c.Handler
	if h.Pool.Queue.Blocks(c) {
		return nil, false
	}
	within := c.takeRetry(now)
	if !within && !h.Pool.Queue.MayTry(now) {
		return nil, true
	}
	c.excluded = nil
	if a = h.choose(c, c.routesToWaitFor(now), now); a == nil {
		if within {
			h.Pool.Budget.GiveBack()
		}
		c.excluded = nil
		return nil, false
	}
	c.enters(a, now)
	return a, false
}

// enters makes an attempt the call's next one, after a wait.
func (c *Call) enters(a *Attempt, now time.Time) {
	c.excluded = nil
	s := &c.extras.wait
	s.round = c.Attempts
	if c.Attempts == 0 {
		c.Attempts, c.Next = 1, a
		return
	}
	s.again++
	c.moveTo(c.Current, a, s.reason, s.what, now)
}

// goesIn ends a wait for which an attempt was reserved, and returns the attempt's upstream.
func (c *Call) goesIn(place *pool.Place, now time.Time) *reverseproxy.Upstream {
	c.waitEnds(now, pool.LetIn)
	if !c.queued {
		c.queued = true
	}
	c.extras.wait.lane.Store(place)
	return c.Next.upstream
}

// waitEnds ends and counts the current wait.
func (c *Call) waitEnds(now time.Time, how pool.WaitEnd) {
	s := &c.extras.wait
	took := max(0, now.Sub(s.began))
	s.began, s.before = time.Time{}, s.before+took
	tries := 1
	if every := c.Handler.Wait.Interval; every > 0 {
		tries = max(1, int((took+every-1)/every))
	}
	s.tries += tries
	c.Handler.Pool.Queue.Release(took, how)
}

// leaves ends a call whose client has left, or whose body failed, during a wait.
func (c *Call) leaves(err error, now time.Time) *reverseproxy.Upstream {
	c.waitEnds(now, pool.Left)
	c.extras.wait.left = true
	if !c.recorded.Swap(true) {
		c.Handler.Pool.Refusals.Gone.Add(1)
	}
	return c.refuseWith(err)
}

// timeOver ends a call whose wait was in vain.
func (c *Call) timeOver(w http.ResponseWriter, now time.Time) *reverseproxy.Upstream {
	c.waitEnds(now, pool.TimeOver)
	return c.givesUp(w, now)
}

// givesUp ends a call that waits no longer. The client gets the error of the last attempt or, if no
// endpoint takes calls, a refusal.
func (c *Call) givesUp(w http.ResponseWriter, now time.Time) *reverseproxy.Upstream {
	h := c.Handler
	if err := c.extras.wait.err; err != nil && !h.allOut(c, now) {
		c.record(c.Current, c.Current.known())
		return c.refuseWith(err)
	}
	c.excluded = nil
	o := h.outlook(c, c.routesToWaitFor(now), now)
	if a := c.Current; a != nil && o.kind == pool.AllDown && a.known() == outcome.RateLimited && !h.allOut(c, now) {
		o = outlook{now.Add(a.RetryAfter), pool.AllHeld} // no cooldown has begun yet
	}
	return c.refuseAs(o, w, now)
}

// Kind implements pool.Waiter.
func (c *Call) Kind() any {
	heir := c.Handler.Heir()
	k := kind{handler: heir, scope: c.scope(), model: c.model()}
	if k.scope == "" && k.model == "" {
		return heir
	}
	if !heir.Parted() {
		t := heir.TableFor(c.upstreams(), time.Now()).For(k.scope)
		k.scope = t.Scope()
		if !slices.ContainsFunc(t.Targets, func(t *target.Target) bool { return !c.takes(t) }) {
			k.model = ""
		}
	}
	if k.scope == "" && k.model == "" {
		return heir
	}
	return k
}

// A kind stands for the calls of a scope for which a handler has its own routes, or of a model that some
// endpoint does not take.
type kind struct {
	handler      *pool.Handler
	scope, model string
}

// Doubtful implements pool.Waiter.
func (c *Call) Doubtful() bool { return c.doubtful() }

// Enter implements pool.Waiter.
func (c *Call) Enter(now time.Time, lanes pool.Lanes, trial bool) pool.Way {
	h, s := c.Handler, &c.extras.wait
	t := c.routesToWaitFor(now)
	s.scope = t.Scope()
	for i, target := range t.Targets {
		if !t.Members[i].TakesCalls() {
			lanes.Pace(pool.Way{State: target.State, Scope: s.scope})
		}
	}
	c.excluded, s.lanes = nil, &lanes
	var a *Attempt
	switch {
	case !trial:
		a = h.redraw(c, t, now, endpoint.AdmitNormally) // at endpoints whose trials succeeded
	case c.doubtful():
		a = h.chooseOther(c, t, now)
	default:
		a = h.choose(c, t, now)
	}
	c.excluded = nil
	if a == nil && trial {
		a = h.lastChance(c, t, now)
		c.extra().unlike = a != nil
	}
	s.lanes, c.excluded = nil, nil
	if a == nil {
		return pool.Way{}
	}
	c.enters(a, now)
	return pool.Way{State: a.Target.State, Scope: s.scope}
}

// Due implements pool.Waiter.
func (c *Call) Due(now time.Time) time.Time {
	h := c.Handler
	due, _ := h.limited(c, h.TableToWaitFor(c.upstreams(), now), now)
	return due
}

// leavesLane tells the queue the result of an attempt of a call that has waited: its duration, and
// whether it went well. It may be called from any goroutine.
func (c *Call) leavesLane(took time.Duration, well bool) {
	if !c.queued {
		return
	}
	if place := c.extras.wait.lane.Swap(nil); place != nil {
		place.Answered(took, well)
	} else {
		c.Handler.Pool.Queue.Tried(well)
	}
}
