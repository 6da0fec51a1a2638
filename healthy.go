package failover

import (
	"math"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// This is the way of a request while all is well, from Select to the end of the
// answer's body, in the order in which it goes. Whatever else may happen has a file of
// its own. In one file these functions also lie next to each other in the program:
// spread over it, each on a page of its own, they cost a request a tenth more CPU.

// Select implements reverseproxy.Selector. For the first attempt of a call it
// picks an endpoint by the routing table; further ones were reserved when the
// attempt before failed.
func (h *callHandler) Select(pool reverseproxy.UpstreamPool, r *http.Request, w http.ResponseWriter) *reverseproxy.Upstream {
	now := time.Now()
	h.goLive()
	c := h.callFor(r, pool)
	if c.attempts > 0 || c.finished {
		return c.goOn(now)
	}
	if h.below && leavesBase(r.URL) {
		return c.refuseWith(errOutside)
	}
	if c.body != nil {
		var err error
		if now, err = c.prepareBody(w, now); err != nil {
			return c.refuseWith(err)
		}
	}
	t := h.tableFor(pool, now)
	if c.next = h.choose(c, t, now); c.next == nil {
		return h.refuse(c, t, w, now)
	}
	c.attempts = 1
	return c.next.upstream
}

// callFor finds the call of a request, or begins it.
func (h *callHandler) callFor(r *http.Request, pool reverseproxy.UpstreamPool) *call {
	ctx := r.Context()
	vars, _ := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any) // once, for reading and writing
	first, _ := vars[callKey].(*call)
	if c := latestCall(first, func(c *call) bool { return c.handler == h && c.request == r }); c != nil {
		return c
	}
	c := &call{handler: h, request: r, vars: vars}
	if h.dynamic != nil {
		c.extra().looked = pool
	}
	if h.strips {
		c.takeCredentials()
	}
	c.body = h.record(r)
	if first == nil {
		c.before = c
		if vars != nil {
			vars[callKey] = c
		}
		if repl, ok := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
			repl.Map(c.placeholder)
		}
	} else {
		c.before, first.before = first.before, c
	}
	return c
}

// choose reserves an attempt at the best endpoint of a table that the call has not
// tried; nil if there is none.
func (h *callHandler) choose(c *call, t *routes, now time.Time) *attempt {
	if c.excluded == nil {
		if len(t.trials) > 0 || len(t.standby) > 0 {
			if a := h.chooseToLearn(c, t, now); a != nil {
				return a
			}
		}
		i, at := -1, spot(h.pool.turn())
		if h.least {
			i = t.drawTwo(at, t.load)
		} else {
			i = t.draw(at)
		}
		if i >= 0 {
			if a := h.try(c, t.targets[i], now, admitNormally); a != nil {
				return a
			}
			c.exclude(t.targets[i])
		}
	}
	return h.chooseOther(c, t, now)
}

// try reserves an attempt at a target.
func (h *callHandler) try(c *call, t *target, now time.Time, how admission) *attempt {
	upstream := t.upstream
	if upstream == nil {
		if upstream = upstreamAt(c.upstreams(), t.address); upstream == nil {
			return nil
		}
	}
	if upstream.Host != nil && !upstream.Available() {
		return nil // by the proxy's own health checks and limits
	}
	if x := c.extras; t.needsJSON && x != nil && x.unfit != nil {
		x.skipped = true
		return nil
	}
	a := c.newAttempt(t, upstream, now)
	if !t.state.acquire(a, now, h.breakerConfig(), t.limit, how) {
		a.call = nil // its room may be used again
		return nil
	}
	return a
}

// newAttempt prepares an attempt at a target; acquire puts it in flight.
func (c *call) newAttempt(t *target, upstream *reverseproxy.Upstream, now time.Time) *attempt {
	a := &c.first
	if a.call != nil {
		// the transport may still be at work on the first one
		a = new(attempt)
	}
	a.call, a.target, a.upstream = c, t, upstream
	a.timeout = t.timeoutFor(c.request)
	a.began = now
	a.doubtful = c.doubtful()
	return a
}

// acquire asks for one attempt. On success the attempt is in flight and holds a
// permit.
func (s *endpointState) acquire(f flight, now time.Time, cfg *breaker.Config, limit int, how admission) bool {
	s.mu.Lock()
	if s.slowness.Episode.Due(now) {
		s.countLocked(now)
		s.slowness.Episode.Mark(now, s.slowness.Limit)
	}
	if s.wellLocked() && limit == 0 {
		f.own().permit.Generation = s.breaker.Generation
		s.begun++
		s.busy.Add(1)
		s.inFlight.add(f)
		s.mu.Unlock()
		return true
	}
	before := s.breaker.Generation
	ok := s.acquireLocked(f, now, cfg, limit, how)
	s.unlockAndTell(before, false)
	return ok
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	c := t.handler.callAt(r)
	if c == nil {
		return t.RoundTripper.RoundTrip(r)
	}
	a := c.next
	if a == nil {
		return c.refused(r)
	}
	c.next, c.current = nil, a
	now := a.began
	again := c.attempts > 1 // a rival may change it once this one has begun
	var as progress
	if int(c.attempts) < t.handler.retry.attempts && t.handler.retry.repeatable(c.request) {
		as = movable
		if t.handler.retry.hedge != nil {
			a.hedge = t.hedged(a, r, now)
		}
	}
	a.client = r.Context()
	if again && a.client.Err() != nil {
		a.end(endedByClient) // while it waited, or before
	}
	reported := false
	defer func() {
		if !reported { // a panic is no fault of the endpoint's
			a.settle(time.Now(), outcome.Cancelled, true)
			c.record(a, outcome.Cancelled)
		}
	}()
	out, unfit := a.prepare(r)
	if unfit != nil {
		c.finish()
		return unfit.answer(r), nil // and the attempt is settled as cancelled
	}
	a.begin(a.client, now, as)
	t.handler.pool.watch(a.patience())
	resp, err := t.RoundTripper.RoundTrip(out)
	now = a.began.Add(time.Since(a.began)) // at half the cost of time.Now
	reported = true
	if err != nil {
		err = c.failed(a, err, now)
	} else {
		resp, err = c.answered(a, resp, now)
	}
	if err == errOvertaken {
		resp, err = c.answeredByRival(a)
	}
	if c.finished && c.keptAnswer() != nil {
		resp, err = c.orKept(resp, err)
	}
	c.handed = err == nil
	if c.handed && t.handler.rematches {
		c.recordAfterRequest(c.current)
	}
	return resp, err
}

// callAt finds the call that Select left for this round trip; nil for requests
// that no Select has seen, such as the proxy's own health checks.
func (h *callHandler) callAt(r *http.Request) *call {
	first, _ := caddyhttp.GetVar(r.Context(), callKey).(*call)
	return latestCall(first, func(c *call) bool {
		return c.handler == h && (c.next != nil || c.extras != nil && c.extras.refusal != nil)
	})
}

// prepare makes the request that goes to the attempt's endpoint. What all attempts
// share, the headers and the URL, stays as it is.
func (a *attempt) prepare(r *http.Request) (*http.Request, *unfit) {
	a.makeDone()
	t, c := a.target, a.call
	if a.hedge != nil || t.headers != nil || t.edits != nil || t.strip && !c.handler.stripsAll || c.handler.looks || c.handler.rematches {
		return a.rewrite(r)
	}
	// The proxy has made r for this round trip, and looks at nothing in it
	// afterwards that changes here.
	*r = *r.WithContext(a)
	if c.body != nil {
		a.sent = c.body.send(r, a.began)
	}
	if t.url != nil {
		if !c.handler.plain || !t.keeps(r.URL) {
			r.URL = t.join(r.URL)
		}
		r.Host = t.host
	}
	return r, nil
}

// answered deals with an answer: it goes to the client, or the call moves on.
func (c *call) answered(a *attempt, resp *http.Response, now time.Time) (*http.Response, error) {
	h := c.handler
	o := outcome.OfStatus(resp.StatusCode, h.failure, a.target.quota)
	switch {
	case o == outcome.Success && h.mayMoveOn(resp.StatusCode) && a.answered(now) && h.movesOn(a, resp):
		return c.passedOn(a, resp, now)
	case o == outcome.Success && h.commit.body && resp.StatusCode != http.StatusSwitchingProtocols:
		return c.heldBack(a, resp)
	case !a.answered(now) || o == outcome.Success && !a.claims():
		resp.Body.Close()
		return nil, c.failed(a, errGivenUp, now)
	case o != outcome.Success:
		return c.answeredBadly(a, resp, o, now)
	}
	a.final = !h.rematches
	c.finish()
	c.dropKept()
	c.blameSuspects(now)
	if a.watchful {
		a.target.state.beganAnswer(a, now, h.breakerConfig())
	}
	a.follow(resp)
	return resp, nil
}

// answered notes the first byte of the answer, once; false if the attempt has been
// given up just before.
func (a *attempt) answered(now time.Time) bool {
	first := max(1, int64(now.Sub(a.began)))
	return a.first.CompareAndSwap(0, first) || a.answeredLate(first)
}

// follow watches an answer that goes to the client to its end.
func (a *attempt) follow(resp *http.Response) {
	switch {
	case resp.Body == http.NoBody:
		a.bodyEnds(outcome.Success)
	case resp.StatusCode == http.StatusSwitchingProtocols:
		a.followUpgraded(resp)
	default:
		a.answer = resp.Body
		resp.Body = (*responseBody)(a)
		if a.call.handler.errorEvent {
			a.addErrorEvent(resp)
		}
	}
}

// Read implements io.Reader.
func (b *responseBody) Read(p []byte) (int, error) {
	a := (*attempt)(b)
	idle := a.idle() > 0
	if idle {
		a.silenceBegins(time.Now())
	}
	n, err := a.readAnswer(p)
	if idle {
		a.silenceEnds()
	}
	if err != nil {
		o := a.bodyOutcome(err)
		a.bodyEnds(o)
		a.set(bodyOver)
		if o.Failed() {
			err = &brokenBody{o, a.target.name, err}
		}
	}
	return n, err
}

// bodyEnds settles an attempt at the end of its response body.
func (a *attempt) bodyEnds(o outcome.Outcome) {
	if o == outcome.Success && a.target.state.succeeded(a, a.call.handler.breakerConfig()) {
		a.mu.Lock()
		a.endAndUnlock(endedNormally)
		return
	}
	a.settle(time.Now(), o, true)
}

// succeeded takes the success of an attempt, whose body has come to its end, if it
// can be kept as a sample.
func (s *endpointState) succeeded(f flight, cfg *breaker.Config) bool {
	t, latency := f.own(), f.firstByte()
	s.mu.Lock()
	if t.outcome != outcome.Pending || t.judged || latency == 0 || s.slowness.IsSlow(latency) || !s.holdUntil.IsZero() ||
		!s.breaker.Succeeded(cfg, t.permit, latency) {
		s.mu.Unlock()
		return false
	}
	t.outcome = outcome.Success
	s.unlinkLocked(t)
	if s.samples.n == len(s.samples.kept) {
		s.countLocked(time.Now())
	}
	if latency.Seconds() > math.Float64frombits(s.peak.Load()) {
		s.peakLocked(time.Now(), latency) // which least_latency goes by at once
	}
	kept := sample{latency: latency}
	if t.final {
		kept.waited, _ = f.recordsCall(latency)
	}
	s.samples.kept[s.samples.n] = kept
	s.samples.n++
	if s.holdStep > 0 { // writing costs more, where many requests share the line
		s.holdStep = 0
	}
	s.mu.Unlock()
	return true
}
