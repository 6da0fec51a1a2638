package failover

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

// A race is between the attempt that a round trip is about and its rival, the hedge.
// The request's goroutine makes the first attempt; the rival gets a goroutine of its
// own, when the watcher finds that it is due.
//
// While the first attempt is under way the call is used by whoever holds mu.
type race struct {
	transport *transport
	request   *http.Request
	first     *attempt
	delay     time.Duration
	due       bool // has been found so; the watcher's own

	mu     sync.Mutex
	over   bool           // decided, or there will be no rival
	rival  *attempt       // nil: not yet
	won    *http.Response // the rival's, if that won
	fought chan struct{}  // closed when the rival's round trip is over
}

// A side is what an attempt has to do with a race.
type side struct {
	race *race                  // of the first attempt
	dial *reverseproxy.DialInfo // of the rival; the proxy knows the first one's only
}

// race is that of a first attempt; nil: none.
func (a *attempt) race() *race {
	if a.hedge == nil {
		return nil
	}
	return a.hedge.race
}

// dial is how a rival is dialed; nil: the proxy knows.
func (a *attempt) dial() *reverseproxy.DialInfo {
	if a.hedge == nil {
		return nil
	}
	return a.hedge.dial
}

// errOvertaken says that the rival's answer is the call's.
var errOvertaken = errors.New("overtaken by a hedge")

// hedged prepares a race, if the attempt may be hedged.
func (t *transport) hedged(a *attempt, r *http.Request, now time.Time) *side {
	rules := t.handler.retry.hedge
	if r.Header.Get("Upgrade") != "" || t.ProxyProtocolEnabled() {
		return nil
	}
	delay := rules.delayFor(a.target, now)
	if delay == 0 || delay >= a.timeout {
		return nil
	}
	return &side{race: &race{transport: t, request: r, first: a, delay: delay}}
}

// hedgeDue tells the watcher whether the attempt's rival is to start.
func (a *attempt) hedgeDue(now time.Time) bool {
	if !a.is(started) {
		return false // and still being prepared
	}
	x := a.race()
	if x == nil || x.due || a.first.Load() != 0 || a.waitedFor(now) < x.delay {
		return false
	}
	x.due = true
	return true
}

// start makes the second attempt.
func (x *race) start(now time.Time) {
	defer x.withoutRival()
	if out := x.enter(now); out != nil {
		x.run(out)
	}
}

// withoutRival lets the first attempt go on alone where a panic, the transport's or
// ours, has ended its rival.
func (x *race) withoutRival() {
	if r := recover(); r != nil {
		x.transport.handler.logPanic("a hedge panicked", r)
	}
}

// enter reserves the second attempt, if there is still to be one, and returns its
// request.
func (x *race) enter(now time.Time) *http.Request {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over || x.first.first.Load() != 0 {
		return nil
	}
	out := x.prepare(now)
	if out != nil {
		x.fought = make(chan struct{})
	}
	return out
}

// prepare reserves the second attempt and makes its request; nil if there is none.
func (x *race) prepare(now time.Time) *http.Request {
	c := x.first.call
	h := c.handler
	if c.body != nil && !c.body.complete() || !h.pool.hedges.Take(h.pool.budget.Calls.Load(), h.retry.hedge.max) {
		return nil
	}
	a := c.planElsewhere(now, x.first)
	if a == nil {
		h.pool.hedges.GiveBack()
		return nil
	}
	defer func() {
		if x.rival == nil {
			a.settle(now, outcome.Cancelled, true)
			h.pool.budget.GiveBack()
			h.pool.hedges.GiveBack()
		}
	}()
	out := x.ready(a, now)
	if out != nil {
		x.rival = a
		c.attempts++
	}
	return out
}

// ready begins an attempt and returns its request; nil if the endpoint is no help:
// it is on trial itself, has no address, or cannot be sent this body.
func (x *race) ready(a *attempt, now time.Time) *http.Request {
	if a.permit.Trial != 0 {
		return nil
	}
	dial, err := dialInfo(a.upstream, x.request)
	if err != nil {
		return nil
	}
	a.hedge, a.doubtful = &side{dial: dial}, true
	a.client = x.request.Context()
	out, unfit := a.prepare(x.request)
	if unfit != nil {
		return nil
	}
	a.begin(a.client, now, 0)
	a.call.handler.pool.watch(a.patience())
	return out
}

// run makes the rival's round trip and decides the race if its answer is good.
func (x *race) run(out *http.Request) {
	a := x.rival
	settled := false
	defer func() {
		if !settled { // a panic
			a.settle(time.Now(), outcome.Cancelled, true)
			close(x.fought)
		}
	}()
	resp, err := x.transport.RoundTripper.RoundTrip(out)
	now := time.Now()
	good := err == nil && a.call.promising(a, resp)
	if err == nil && !good {
		err = errors.New(resp.Status)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	settled = true
	switch {
	case x.over:
		a.settle(now, outcome.Cancelled, true)
	case good:
		x.over, x.won = true, resp
		x.first.end(endedByHedge)
	default:
		o := a.call.blameRival(a, resp, err, now)
		a.settleIn(now, o, true, a.call.inDoubt(a, o))
	}
	if resp != nil && x.won != resp {
		resp.Body.Close()
	}
	close(x.fought)
}

// promising tells whether an answer is good as far as it has come when commit goes
// by its first byte.
func (c *call) promising(a *attempt, resp *http.Response) bool {
	if outcome.OfStatus(resp.StatusCode, c.handler.failure, a.target.quota) != outcome.Success || resp.StatusCode == http.StatusSwitchingProtocols {
		return false
	}
	if c.handler.commit.body {
		h := new(held)
		if err := h.first(a, resp.Body); err != nil {
			h.drop()
			return false
		}
		h.rest, resp.Body = resp.Body, h
	} else if !a.answered(time.Now()) {
		return false
	}
	return !c.handler.mayMoveOn(resp.StatusCode) || !c.handler.movesOn(a, resp)
}

// blameRival says what a rival that brought no good answer came to.
func (c *call) blameRival(a *attempt, resp *http.Response, err error, now time.Time) outcome.Outcome {
	if resp == nil || a.endedWhy() != notEnded {
		return c.blame(a, err, now)
	}
	o := outcome.OfStatus(resp.StatusCode, c.handler.failure, a.target.quota)
	switch {
	case o == outcome.Success && a.first.Load() <= 0:
		return outcome.Truncated // before its first byte
	case o == outcome.RateLimited:
		a.retryAfter, _ = askedToWait(a, resp, now)
	}
	a.answered(now)
	return o
}

// claim makes the first attempt the winner, unless the rival is.
func (x *race) claim() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over {
		return x.won == nil
	}
	x.over = true
	if x.rival != nil {
		x.rival.end(endedByHedge)
	}
	return true
}

// lost tells whether the rival has won, when the first attempt has brought nothing
// good. It waits for a rival that is still under way.
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

// beaten takes the one thing that an attempt says which lost a race: that its answer
// took longer than this to begin.
func (s *endpointState) beaten(f flight, now time.Time) {
	took := max(1, taken(f, now))
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.own().outcome == outcome.Pending {
		s.countLocked(now)
		s.tally.Latencies++
		s.tally.LogLatency += math.Log(took.Seconds())
		s.peakLocked(now, took)
	}
}

// helpsLocked tells whether there is a rival under way.
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

// claims tells whether the attempt's good answer is the call's.
func (a *attempt) claims() bool {
	return a.hedge == nil || a.hedge.race == nil || a.hedge.race.claim()
}

// answeredByRival answers the call with what an attempt's rival has brought.
func (c *call) answeredByRival(a *attempt) (*http.Response, error) {
	if a.sent != nil {
		a.sent.Close()
	}
	race := a.race()
	c.current = race.rival
	race.rival.credit()
	return c.answered(race.rival, race.won, time.Now())
}

// overtaken tells whether a hedge has made up for the attempt's failure. If it has
// failed as well, its endpoint is not tried again.
func (a *attempt) overtaken() bool {
	x := a.race()
	if x == nil {
		return false
	}
	lost := x.lost()
	if !lost && x.rival != nil {
		a.call.exclude(x.rival.target)
		a.call.suspect(x.rival, x.rival.known(), time.Now())
	}
	return lost
}

// dialInfoKey is where the proxy's transport looks for the address to dial. The
// proxy's own constant is not exported.
const dialInfoKey caddy.CtxKey = "reverse_proxy.dial_info"

// dialInfo is how an upstream is dialed for a request, as the proxy has it.
func dialInfo(u *reverseproxy.Upstream, r *http.Request) (*reverseproxy.DialInfo, error) {
	dial := u.Dial
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		dial = repl.ReplaceAll(dial, "")
	}
	addr, err := caddy.ParseNetworkAddress(dial)
	if err != nil {
		return nil, fmt.Errorf("parsing the address %s: %w", dial, err)
	}
	return &reverseproxy.DialInfo{
		Upstream: u,
		Network:  addr.Network,
		Address:  addr.JoinHostPort(0),
		Host:     addr.Host,
		Port:     strconv.Itoa(int(addr.StartPort)),
	}, nil
}

// direct points a request that the proxy has made for another upstream to the
// rival's.
func (a *attempt) direct(out *http.Request, scheme string) {
	was, dial := a.call.current.upstream, a.dial()
	u := *out.URL
	u.Host = dial.Address
	if scheme == "http" && dial.Port == "80" || scheme == "https" && dial.Port == "443" {
		u.Host = dial.Host
	}
	out.URL = &u
	if out.Host == was.Dial {
		out.Host = a.upstream.Dial // it was set to that of the upstream
	}
	out.Header = out.Header.Clone()
}

// credit makes the proxy's placeholders name the upstream whose answer goes out, where
// that is not the one that the proxy knows of.
func (a *attempt) credit() {
	repl, ok := a.client.Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	d := a.dial()
	if d == nil {
		d, _ = dialInfo(a.upstream, a.call.request)
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
