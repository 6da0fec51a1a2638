package call

import (
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/answer"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/grpc"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/target"
)

// A race is between a first attempt and its rival, the hedge. The request's goroutine makes the
// first attempt. The watcher starts a goroutine for the rival when it is due.
//
// While the first attempt is under way, mu also guards the call.
type race struct {
	transport *Transport
	request   *http.Request
	first     *Attempt
	delay     time.Duration
	due       bool // the rival was found due; only the watcher uses it

	mu     sync.Mutex
	over   bool           // decided, or no rival will start
	rival  *Attempt       // nil: not started
	won    *http.Response // the rival's answer, if it won
	fought chan struct{}  // closed after the rival's round trip
}

// A side is an attempt's part in a race.
type side struct {
	race *race                  // set for the first attempt
	dial *reverseproxy.DialInfo // set for the rival, since the proxy has prepared only the first attempt
}

// race returns the race of a first attempt; nil: none.
func (a *Attempt) race() *race {
	if a.hedge == nil {
		return nil
	}
	return a.hedge.race
}

// dial returns how to dial a rival; nil for other attempts, which the proxy prepared.
func (a *Attempt) dial() *reverseproxy.DialInfo {
	if a.hedge == nil {
		return nil
	}
	return a.hedge.dial
}

// errOvertaken says that the rival's answer is the call's answer.
var errOvertaken = errors.New("overtaken by a hedge")

// hedged returns the attempt's side in a new race; nil if it may not be hedged.
func (t *Transport) hedged(a *Attempt, r *http.Request, now time.Time) *side {
	rules := t.Handler.Retry.Hedge
	if r.Header.Get("Upgrade") != "" || t.ProxyProtocolEnabled() {
		return nil
	}
	delay := rules.delayFor(a.Target, a.Call.scope(), now)
	if delay == 0 || delay >= a.Timeout {
		return nil
	}
	return &side{race: &race{transport: t, request: r, first: a, delay: delay}}
}

// hedgeDue reports whether the attempt's rival must start now. It returns true only once. Only the
// watcher calls it.
func (a *Attempt) hedgeDue(now time.Time) bool {
	if !a.is(started) {
		return false // its race may not be set
	}
	x := a.race()
	if x == nil || x.due || a.first.Load() != 0 || a.WaitedFor(now) < x.delay {
		return false
	}
	x.due = true
	return true
}

// start makes the rival's attempt, if it is still needed and possible.
func (x *race) start(now time.Time) {
	defer x.withoutRival()
	if out := x.enter(now); out != nil {
		x.run(out)
	}
}

// withoutRival recovers from a panic in the rival. The first attempt goes on alone.
func (x *race) withoutRival() {
	if r := recover(); r != nil {
		x.transport.Handler.LogPanic("a hedge panicked", r)
	}
}

// enter reserves the rival and returns its request; nil if it is not needed or not possible.
func (x *race) enter(now time.Time) *http.Request {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over || x.first.first.Load() != 0 {
		return nil
	}
	out := x.prepareLocked(now)
	if out != nil {
		x.fought = make(chan struct{})
	}
	return out
}

// prepareLocked reserves the rival and makes its request; nil if that is not possible.
func (x *race) prepareLocked(now time.Time) *http.Request {
	c := x.first.Call
	h := c.Handler
	if c.body != nil && !c.body.Complete() || !h.Pool.Hedges.Take(h.Pool.Budget.Calls.Load(), h.Retry.Hedge.Max) {
		return nil
	}
	a := c.planElsewhere(now, x.first)
	if a == nil {
		h.Pool.Hedges.GiveBack()
		return nil
	}
	defer func() {
		if x.rival == nil {
			a.Settle(now, outcome.Cancelled, true)
			if c.traced {
				a.spanDealtWith(false)
			}
			h.Pool.Budget.GiveBack()
			h.Pool.Hedges.GiveBack()
		}
	}()
	out := x.ready(a)
	if out != nil {
		x.rival = a
		c.Attempts++
	}
	return out
}

// ready begins an attempt and returns its request; nil if the endpoint is on trial, has no
// address, or cannot get this body.
func (x *race) ready(a *Attempt) *http.Request {
	if a.Permit.Trial != 0 {
		return nil
	}
	dial, err := target.DialInfo(a.upstream, x.request)
	if err != nil {
		return nil
	}
	a.hedge, a.Doubtful = &side{dial: dial}, true
	a.client = x.request.Context()
	if c := a.Call; c.traced {
		a.beginSpan(int(c.Attempts)+1, true)
	}
	out, unfit := a.prepare(x.request)
	if unfit != nil {
		return nil
	}
	a.Begin(a.client, 0)
	a.Call.Handler.Pool.Watch(a.patience())
	return out
}

// run makes the rival's round trip and decides the race if its answer is good.
func (x *race) run(out *http.Request) {
	a := x.rival
	settled, won := false, false
	defer func() {
		if !settled { // a panic
			a.Settle(time.Now(), outcome.Cancelled, true)
			close(x.fought)
		}
		if a.Call.traced && !won {
			a.spanDealtWith(false)
		}
	}()
	resp, err := x.transport.send(out)
	now := time.Now()
	o, good := outcome.Pending, false
	if err == nil {
		a.meter(resp)
		if a.Target.Quota && resp.StatusCode != http.StatusTooManyRequests {
			a.readQuotas(resp, now)
		}
		if o, good = a.Call.promise(a, resp, now); !good {
			err = errors.New(resp.Status)
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	settled = true
	switch {
	case x.over:
		a.Settle(now, outcome.Cancelled, true)
	case good:
		x.over, x.won, won = true, resp, true
		x.first.end(endpoint.EndedByHedge)
	default:
		if o == outcome.Pending || a.endedWhy() != endpoint.NotEnded {
			o = a.Call.blame(a, err, now)
		}
		a.settleFor(a.whatOfRival(resp, o, err, now), now, o, true, a.Call.inDoubt(a, o))
	}
	if resp != nil && x.won != resp {
		resp.Body.Close()
	}
	close(x.fought)
}

// promise returns the outcome of a rival's answer, by as much of it as commit requires, and
// whether the answer may win. It may read the body, which can be slow, so the caller must not hold
// the race's mutex.
func (c *Call) promise(a *Attempt, resp *http.Response, now time.Time) (o outcome.Outcome, good bool) {
	h := c.Handler
	o = outcome.OfStatus(resp.StatusCode, h.Failure, a.Target.Quota)
	a.noteRefusal(o, resp.StatusCode)
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return outcome.Cancelled, false
	}
	next, ruled := false, false
	if h.Answers.Concern(resp.StatusCode) {
		switch rule, flaw, _ := a.look(resp, o); {
		case rule != nil && (!rule.OfQuota || a.Target.Quota):
			o, next, ruled = outcomeOf(rule.As), rule.As == answer.Next, true
		case rule == nil && (flaw != "" || o == outcome.Success && brokenBy(resp) != nil):
			o = outcome.Truncated
		}
	}
	if c.grpc && o == outcome.Success && !ruled && grpc.Is(resp.Header) {
		if code, ok := grpc.Status(resp.Header); ok {
			o, next = c.grpcOutcome(a, code, false, now), code == grpc.Unimplemented
		}
	}
	switch {
	case o == outcome.Success && h.Commit.Body && !next:
		began := new(held)
		if err := began.readFirst(a, resp, h.Commit.Until); err != nil {
			began.drop()
			return outcome.Truncated, false // before its first byte
		}
		began.putBack(resp)
	case !a.Answered(now):
		return outcome.Cancelled, false
	case o != outcome.Success:
		a.RetryAfter = a.askedToWait(resp, o, now)
	}
	return o, o == outcome.Success && !next
}

// claim makes the first attempt the winner, and reports whether it is.
func (x *race) claim() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over {
		return x.won == nil
	}
	x.over = true
	if x.rival != nil {
		x.rival.end(endpoint.EndedByHedge)
	}
	return true
}

// abandon ends the race of a first attempt that panicked, and drops the rival's answer.
func (x *race) abandon() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.over = true
	if x.rival == nil {
		return
	}
	x.rival.end(endpoint.EndedByHedge)
	if x.won != nil {
		x.won.Body.Close()
		x.rival.Settle(time.Now(), outcome.Cancelled, true)
		if x.rival.Call.traced {
			x.rival.spanDealtWith(false)
		}
	}
}

// lost reports, after the first attempt has failed, whether the rival has won. It waits for a
// rival that is under way.
func (x *race) lost() bool {
	x.mu.Lock()
	if x.rival == nil {
		x.over = true
	}
	fought := x.fought
	x.mu.Unlock()
	if fought != nil {
		<-fought
	}
	return x.won != nil
}

// helpsLocked reports whether a rival is under way or has won.
func (x *race) helpsLocked() bool {
	if x.rival == nil {
		return false
	}
	select {
	case <-x.fought:
		return x.won != nil
	default:
		return true
	}
}

// claims reports whether the attempt's good answer is the call's answer.
func (a *Attempt) claims() bool {
	return a.hedge == nil || a.hedge.race == nil || a.hedge.race.claim()
}

// answeredByRival answers the call with the answer of the attempt's rival.
func (c *Call) answeredByRival(a *Attempt) (*http.Response, error) {
	if a.sent != nil {
		a.sent.Close()
	}
	race := a.race()
	c.Current = race.rival
	race.rival.credit()
	return c.answered(race.rival, race.won, time.Now())
}

// overtaken reports whether the attempt's rival has won. It waits for a rival that is under way.
// If the rival has failed too, the call avoids its endpoint from then on.
func (a *Attempt) overtaken() bool {
	x := a.race()
	if x == nil {
		return false
	}
	lost := x.lost()
	if !lost && x.rival != nil {
		a.Call.exclude(x.rival.Target)
		a.Call.suspect(x.rival, x.rival.known(), time.Now())
	}
	return lost
}

// direct points a request that the proxy made for the first attempt's upstream to the rival's.
func (a *Attempt) direct(out *http.Request, scheme string) {
	was, dial := a.Call.Current.upstream, a.dial()
	u := *out.URL
	u.Host = dial.Address
	if scheme == "http" && dial.Port == "80" || scheme == "https" && dial.Port == "443" {
		u.Host = dial.Host
	}
	out.URL = &u
	if out.Host == was.Dial {
		out.Host = a.upstream.Dial // header_up set it to the upstream's address
	}
	out.Header = out.Header.Clone()
}

// credit sets the proxy's placeholders to the attempt's upstream, which is not the one that the
// proxy chose.
func (a *Attempt) credit() {
	repl, ok := a.client.Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	d := a.dial()
	if d == nil {
		d, _ = target.DialInfo(a.upstream, a.Call.Request)
	}
	if !ok || d == nil {
		return
	}
	const prefix = "http.reverse_proxy.upstream."
	repl.Set(prefix+"address", d.String())
	repl.Set(prefix+"hostport", d.Address)
	repl.Set(prefix+"host", d.Host)
	repl.Set(prefix+"port", d.Port)
	if a.upstream.Host != nil {
		repl.Set(prefix+"requests", a.upstream.Host.NumRequests())
		repl.Set(prefix+"fails", a.upstream.Host.Fails())
	}
	repl.Set(prefix+"max_requests", a.upstream.MaxRequests)
}
