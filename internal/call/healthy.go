package call

import (
	"io"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/answer"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/grpc"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/pool"
	"github.com/apifailover/caddy-failover/internal/routing"
	"github.com/apifailover/caddy-failover/internal/target"
)

// This file has the functions that every request runs while all is well, in order: from Select to the
// end of the answer's body. Other files have the rest. In one file these functions are also next to
// each other in the program. Spread over more memory pages, they cost a request a tenth more CPU.

// Select implements reverseproxy.Selector. It chooses an endpoint for a call's first attempt by the
// routing table. Each later attempt was reserved when the previous one failed.
func (h *Handler) Select(pool reverseproxy.UpstreamPool, r *http.Request, w http.ResponseWriter) *reverseproxy.Upstream {
	now := time.Now()
	h.GoLive()
	c := h.callFor(r, pool)
	if c.Attempts > 0 || c.finished || c.extras != nil && c.extras.wait.next {
		if x := c.extras; x != nil && x.wait.next && h.Dynamic != nil {
			x.looked = pool // the proxy has looked up the upstreams again
		}
		return c.goOn(w, now)
	}
	if h.Below && target.LeavesBase(r.URL) {
		return c.refuseWith(errOutside)
	}
	if c.body != nil {
		var err error
		if now, err = c.prepareBody(w, now); err != nil {
			return c.refuseWith(err)
		}
	}
	if h.PathModels {
		c.extra().model = target.ModelOf(r.URL)
	}
	if h.Tokens != nil {
		c.extra().asked = h.Tokens.asked(c)
	}
	if h.Affinity != nil {
		c.setKey(w)
	}
	if h.Scope != nil {
		c.setScope()
	}
	t := h.TableFor(pool, now).For(c.scope())
	if h.Wait.queues() && h.Pool.Queue.Blocks(c) {
		return h.refuse(c, t, w, now)
	}
	if c.Next = h.choose(c, t, now); c.Next == nil {
		return h.refuse(c, t, w, now)
	}
	c.Attempts = 1
	return c.Next.upstream
}

// callFor returns the call of a request, and begins it if there is none.
func (h *Handler) callFor(r *http.Request, pool reverseproxy.UpstreamPool) *Call {
	ctx := r.Context()
	vars, _ := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any) // one lookup for reading and writing
	first, _ := vars[varKey].(*Call)
	if c := latest(first, func(c *Call) bool { return c.Handler == h && c.Request == r }); c != nil {
		return c
	}
	c := &Call{Handler: h, Request: r, vars: vars, grpc: isGRPC(r)}
	if h.Dynamic != nil {
		c.extra().looked = pool
	}
	c.trace(ctx)
	if h.Strips {
		c.takeCredentials()
	}
	c.body = h.record(r)
	if first == nil {
		c.before = c
		if vars != nil {
			vars[varKey] = c
		}
		c.addToAccessLog(ctx)
		if repl, ok := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
			repl.Map(c.placeholder)
		}
	} else {
		c.before, first.before = first.before, c
	}
	return c
}

// choose reserves an attempt at an endpoint of a table that the call does not exclude; nil if
// none takes it.
func (h *Handler) choose(c *Call, t *pool.Routes, now time.Time) *Attempt {
	if c.excluded == nil {
		if len(t.Trials) > 0 || len(t.Standby) > 0 {
			if a := h.chooseToLearn(c, t, now); a != nil {
				h.Pool.Turn() // counts the call
				return a
			}
		}
		i, at := -1, routing.Spot(h.Pool.Turn())
		switch {
		case c.key != 0:
			i = t.Affine(c.key, nil)
		case h.Balance == ByLatency:
			i = t.DrawTwo(at, func(i int) float64 { return t.Load(i, c.scope()) })
		case h.Balance == ByRequests:
			i = t.DrawTwo(at, t.Requests)
		default:
			i = t.Draw(at)
		}
		if i >= 0 {
			if a := h.try(c, t.Targets[i], now, endpoint.AdmitNormally); a != nil {
				return a
			}
			c.exclude(t.Targets[i])
		}
	}
	return h.chooseOther(c, t, now)
}

// try reserves an attempt at a target.
func (h *Handler) try(c *Call, t *target.Target, now time.Time, how endpoint.Admission) *Attempt {
	upstream := t.Upstream
	if upstream == nil {
		if upstream = pool.UpstreamAt(c.upstreams(), t.Address); upstream == nil {
			return nil
		}
	}
	if upstream.Host != nil && !upstream.Available() {
		return nil // the proxy's own health checks or limits keep calls away
	}
	if x := c.extras; x != nil {
		if !c.takes(t) {
			return nil
		}
		if t.NeedsJSON && x.unfit != nil {
			x.skipped = true
			return nil
		}
		if x.wait.lanes != nil && !x.wait.lanes.Room(pool.Way{State: t.State, Scope: x.wait.scope}) {
			return nil
		}
	}
	a := c.newAttempt(t, upstream, now)
	if !t.State.Acquire(a, now, h.BreakerConfig(), t.Bounds, how) {
		a.Call = nil // frees Call.first for another attempt
		return nil
	}
	return a
}

// newAttempt prepares an attempt at a target. Acquire puts it in flight.
func (c *Call) newAttempt(t *target.Target, upstream *reverseproxy.Upstream, now time.Time) *Attempt {
	a := &c.first
	if a.Call != nil {
		// the transport may still use the first attempt
		a = new(Attempt)
	}
	a.Call, a.Target, a.upstream, a.done = c, t, upstream, make(chan struct{})
	a.Timeout = t.TimeoutFor(c.Request)
	a.Began = now
	a.Doubtful, a.Unhurried, a.Finite = c.doubtful(), c.grpc, c.Handler.Commit.JSON && !c.grpc
	if x := c.extras; x != nil && x.scope != "" {
		var room *endpoint.Rare
		if a == &c.first {
			room = &x.rare
		}
		a.Concern(x.scope, room)
	}
	if c.Handler.Tokens != nil {
		a.Tokens = c.tokensAt(t)
	}
	return a
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	c := t.Handler.callAt(r)
	if c == nil {
		resp, err := t.RoundTripper.RoundTrip(r)
		return resp, last(err)
	}
	a := c.Next
	if a == nil {
		resp, err := c.refused(r)
		c.leave(err == nil)
		return resp, err
	}
	c.Next, c.Current = nil, a
	again := c.Attempts > 1 // read now, before a rival can change Attempts
	var as progress
	if c.hasAttempts() && c.repeatable() {
		as = movable
		if t.Handler.Retry.Hedge != nil {
			a.hedge = t.hedged(a, r, a.Began)
		}
	}
	a.client = r.Context()
	if c.traced {
		a.beginSpan(int(c.Attempts), false)
		defer c.spansDealtWith(a)
	}
	if again && a.client.Err() != nil {
		a.end(endpoint.EndedByClient) // before the attempt began, perhaps during its pause
	}
	reported := false
	defer func() {
		if !reported { // a panic is no fault of the endpoint's
			if x := a.race(); x != nil {
				x.abandon()
			}
			a.Settle(time.Now(), outcome.Cancelled, true)
			c.record(a, outcome.Cancelled)
			c.leavesLane(0, false)
		}
	}()
	out, unfit := a.prepare(r)
	if unfit != nil {
		c.finished = true
		c.leave(true)
		return c.says(r, unfit.said(), true), nil // the deferred function settles the attempt as cancelled
	}
	a.Begin(a.client, as)
	t.Handler.Pool.Watch(a.patience())
	resp, err := t.send(out)
	now := a.Began.Add(time.Since(a.Began)) // costs half as much as time.Now
	reported = true
	if c.queued && (err != nil || !t.Handler.Answers.Concern(resp.StatusCode)) { // else examined does that
		c.leavesLane(now.Sub(a.Began), err == nil && outcome.OfStatus(resp.StatusCode, t.Handler.Failure, a.Target.Quota) == outcome.Success)
	}
	if err != nil && c.grpc {
		resp, err = c.atDeadline(a, err, now)
	}
	if err != nil {
		err = c.failed(a, err, now)
	} else {
		if a.Tokens != nil {
			a.meter(resp)
		}
		resp, err = c.answered(a, resp, now)
	}
	if err == errOvertaken {
		resp, err = c.answeredByRival(a)
	}
	if c.finished && c.keptAnswer() != nil {
		resp, err = c.orKept(resp, err)
	}
	if c.handed = err == nil; c.handed {
		c.Current.inform()
	}
	c.leave(c.handed)
	if c.handed && t.Handler.Rematches {
		c.extra().status = resp.StatusCode
		c.recordAfterRequest(c.Current)
	}
	return resp, err
}

// send sends a request to its endpoint. It returns an error for a response that no client can get.
func (t *Transport) send(out *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(out)
	if err == nil && (resp.StatusCode < 200 || resp.StatusCode > 999 || t.maxHeader > 0) {
		return t.usable(out, resp)
	}
	return resp, err
}

// callAt returns the call that Select prepared for this round trip; nil for requests without
// a Select, such as the proxy's own health checks.
func (h *Handler) callAt(r *http.Request) *Call {
	first, _ := caddyhttp.GetVar(r.Context(), varKey).(*Call)
	return latest(first, func(c *Call) bool {
		return c.Handler == h && (c.Next != nil || c.extras != nil && c.extras.refusal != nil)
	})
}

// prepare makes the request for the attempt's endpoint. It does not change the headers and the URL,
// which all attempts share.
func (a *Attempt) prepare(r *http.Request) (*http.Request, *unfit) {
	a.traceConnection()
	t, c := a.Target, a.Call
	if a.hedge != nil || t.Headers != nil || t.Edits != nil || t.Models != nil || t.Strip && !c.Handler.StripsAll || c.Handler.Looks || c.Handler.Rematches || c.traced {
		return a.rewrite(r)
	}
	// The proxy made r for this round trip, and later does not use what changes here. So we modify
	// it instead of cloning.
	*r = *r.WithContext(a)
	if c.body != nil && r.Body != nil { // r.Body is nil if the proxy found the body empty
		a.sent = c.body.Send(r, a.Began)
	}
	if t.URL != nil {
		if !c.Handler.Plain || !t.Keeps(r.URL) {
			r.URL = t.Join(r.URL)
		}
		r.Host = t.Host
	}
	return r, nil
}

// answered gives an answer to the client or moves the call on, by the answer's status and the pool's
// rules.
func (c *Call) answered(a *Attempt, resp *http.Response, now time.Time) (*http.Response, error) {
	h := c.Handler
	if c.traced {
		a.spanAnswered(resp.StatusCode)
	}
	if a.Target.Quota && len(h.Quotas) > 0 && resp.StatusCode != http.StatusTooManyRequests {
		a.readQuotas(resp, now)
	}
	o := outcome.OfStatus(resp.StatusCode, h.Failure, a.Target.Quota)
	a.noteRefusal(o, resp.StatusCode)
	if h.Below && resp.StatusCode == http.StatusNotFound {
		c.warnOfPath(a.Target)
	}
	if h.Answers.Concern(resp.StatusCode) {
		return c.examined(a, resp, o, now)
	}
	if c.grpc && resp.StatusCode == http.StatusOK && o == outcome.Success && grpc.Is(resp.Header) {
		return c.answeredGRPC(a, resp, now)
	}
	return c.dealWith(a, resp, o, now)
}

// dealWith gives an answer to the client or moves the call on, by its outcome.
func (c *Call) dealWith(a *Attempt, resp *http.Response, o outcome.Outcome, now time.Time) (*http.Response, error) {
	h := c.Handler
	switch {
	case o == outcome.Success && h.Commit.Body && resp.StatusCode != http.StatusSwitchingProtocols:
		return c.heldBack(a, resp)
	case !a.Answered(now) || o == outcome.Success && !a.claims():
		resp.Body.Close()
		return nil, c.failed(a, errGivenUp, now)
	case o != outcome.Success:
		return c.answeredBadly(a, resp, o, now)
	}
	a.final = !h.Rematches
	c.finished = true
	c.answeredWell(now)
	c.answeredElsewhere(now)
	if a.Watchful {
		c.beganAnswer(a, resp, now)
	}
	a.follow(resp)
	return resp, nil
}

// noteRefusal notes a 4xx that is no failure. Call it before Answered, after which the watcher reads
// what it notes.
func (a *Attempt) noteRefusal(o outcome.Outcome, status int) {
	if status >= http.StatusBadRequest && o == outcome.Success && a.first.Load() == 0 {
		a.Untimed = true
	}
}

// Answered notes the first byte of the answer, once. It returns false if the attempt has ended just
// before.
func (a *Attempt) Answered(now time.Time) bool {
	first := max(1, int64(now.Sub(a.Began)))
	return a.first.CompareAndSwap(0, first) || a.answeredLate(first)
}

// follow watches an answer that goes to the client until its end.
func (a *Attempt) follow(resp *http.Response) {
	if a.sent != nil {
		a.sent.Answering(a.Call.restOfBody())
	}
	switch {
	case resp.Body == http.NoBody:
		a.BodyEnds(outcome.Success)
	case resp.StatusCode == http.StatusSwitchingProtocols:
		a.followUpgraded(resp)
	default:
		a.answer = resp.Body
		if a.Call.Handler.Commit.JSON && answer.HasTail(resp.Header) {
			a.answer = &tailedBody{ReadCloser: resp.Body, attempt: a}
		}
		resp.Body = (*responseBody)(a)
		if a.Call.Handler.ErrorEvent {
			a.addErrorEvent(resp)
		}
	}
}

// Read implements io.Reader.
func (b *responseBody) Read(p []byte) (int, error) {
	a := (*Attempt)(b)
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
		if o.Failed() {
			now := time.Now()
			a.Call.noteFailed(now)
			a.settleAnswer(a.whatBroke(o, err), now, o)
		} else {
			a.BodyEnds(o)
		}
		a.set(bodyOver)
		if o.Failed() && err != io.EOF {
			err = &brokenBody{o, a.Target.Name, err}
		}
	}
	return n, err
}

// BodyEnds settles an attempt at the end of its response body.
func (a *Attempt) BodyEnds(o outcome.Outcome) {
	if o == outcome.Success && a.Target.State.Succeeded(a, a.Call.Handler.BreakerConfig(), a.final) {
		a.mu.Lock()
		a.endAndUnlock(endpoint.EndedNormally)
		if a.Call.traced {
			a.spanSettled("", true)
		}
		return
	}
	a.settleAnswer("", time.Now(), o)
}
