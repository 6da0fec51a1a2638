package failover

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// Hedge sends a second attempt to the next endpoint when the first has not begun to
// answer for a while. The first good answer wins; the other attempt is ended and
// counts for nothing but how long it has taken by then. Only calls that may be
// retried are hedged, once the client's body is in and can be sent again, and no
// upgrades.
//
// See Dean and Barroso, The Tail at Scale, https://doi.org/10.1145/2408776.2408794.
type Hedge struct {
	// How long to wait for the first byte that `commit` waits for. Either this or
	// `quantile` is required.
	After caddy.Duration `json:"after,omitempty"`

	// Wait as long as that part of the endpoint's own answers of the last hour took
	// to begin, at least 10ms: 0 to 1, without 0 and 1. While that is not known there
	// are no hedges.
	Quantile float64 `json:"quantile,omitempty"`

	// Hedges as a part of calls, 0 to 1; they also count as retries to the budget.
	// Default: 0.05.
	Max *float64 `json:"max,omitempty"`
}

const (
	defaultHedgeMax = 0.05
	hedgeAtLeast    = 10 * time.Millisecond
	// hedgeBurst is how many hedges can be saved up.
	hedgeBurst = 20
)

func (h *Hedge) validate() error {
	switch {
	case h == nil:
		return nil
	case h.After < 0:
		return errors.New("hedge: the delay must not be negative")
	case (h.After > 0) == (h.Quantile != 0):
		return errors.New("hedge: want either a delay or a quantile")
	case h.Quantile != 0 && !(h.Quantile > 0 && h.Quantile < 1):
		return errors.New("hedge: the quantile must be between 0 and 1")
	case h.Max != nil && outside(*h.Max):
		return errors.New("hedge: max must be between 0 and 1")
	}
	return nil
}

// parseQuantile reads p95 or p99.9.
func parseQuantile(word string) (float64, error) {
	digits, ok := strings.CutPrefix(word, "p")
	percent, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || !(percent > 0 && percent < 100) {
		return 0, errors.New("want a quantile such as p95 or p99.9")
	}
	return percent / 100, nil
}

// hedgeRules are Hedge, ready for use.
type hedgeRules struct {
	after    time.Duration
	quantile float64
	max      float64
}

func (h *Hedge) rules() *hedgeRules {
	if h == nil {
		return nil
	}
	rules := &hedgeRules{after: time.Duration(h.After), quantile: h.Quantile, max: defaultHedgeMax}
	if h.Max != nil {
		rules.max = *h.Max
	}
	return rules
}

// A hedgeDelay is when attempts at an endpoint are hedged, where that goes by its
// own latencies. It is worked out once a second.
type hedgeDelay struct {
	at    atomic.Int64 // Unix nanoseconds
	delay atomic.Int64 // 0: not known
}

// delayFor is when an attempt at the target is hedged; 0 if it is not.
func (r *hedgeRules) delayFor(t *target, now time.Time) time.Duration {
	if r.after > 0 {
		return r.after
	}
	d, at := t.hedge, t.hedge.at.Load()
	if age := now.UnixNano() - at; age < 0 || age > int64(slownessRefresh) {
		if d.at.CompareAndSwap(at, now.UnixNano()) {
			d.delay.Store(int64(t.state.typically(r.quantile)))
		}
	}
	return time.Duration(d.delay.Load())
}

// typically is how long a part q of the endpoint's answers took to begin at most; 0
// if too few are known.
func (s *endpointState) typically(q float64) time.Duration {
	s.mu.Lock()
	known := s.slowness.known
	s.mu.Unlock()
	total := known.total()
	if total < slowSamples {
		return 0
	}
	return max(hedgeAtLeast, known.quantile(float32(q), total))
}

// hedgeBudget keeps hedges to a part of calls: each call saves up a part of one. The
// zero value is ready.
type hedgeBudget struct {
	mu     sync.Mutex
	saved  float64
	counts int64 // calls that have been counted
}

func (b *hedgeBudget) take(calls int64, ratio float64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.saved = min(hedgeBurst, b.saved+ratio*float64(calls-b.counts))
	b.counts = calls
	if b.saved < 1 {
		return false
	}
	b.saved--
	return true
}

// giveBack returns a hedge that was not made after all.
func (b *hedgeBudget) giveBack() {
	b.mu.Lock()
	b.saved++
	b.mu.Unlock()
}

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

// errOvertaken says that the rival's answer is the call's.
var errOvertaken = errors.New("overtaken by a hedge")

// hedged prepares a race, if the attempt may be hedged.
func (t *transport) hedged(a *attempt, r *http.Request, now time.Time) *race {
	rules := t.policy.retry.hedge
	if !a.movable || r.Header.Get("Upgrade") != "" || t.ProxyProtocolEnabled() {
		return nil
	}
	delay := rules.delayFor(a.target, now)
	if delay == 0 || delay >= a.timeout {
		return nil
	}
	return &race{transport: t, request: r, first: a, delay: delay}
}

// hedgeDue tells the watcher whether the attempt's rival is to start.
func (a *attempt) hedgeDue(now time.Time) bool {
	if !a.started.Load() || a.race == nil || a.race.due || a.first.Load() != 0 || a.waitedFor(now) < a.race.delay {
		return false
	}
	a.race.due = true
	return true
}

// start makes the second attempt.
func (x *race) start(now time.Time) {
	x.mu.Lock()
	if x.over || x.first.first.Load() != 0 {
		x.mu.Unlock()
		return
	}
	out := x.prepare(now)
	if out == nil {
		x.mu.Unlock()
		return
	}
	x.fought = make(chan struct{})
	x.mu.Unlock()
	x.run(out)
}

// prepare reserves the second attempt and makes its request; nil if there is none.
func (x *race) prepare(now time.Time) *http.Request {
	c := x.first.call
	p := c.policy
	if c.body != nil && !c.body.complete() || !p.pool.hedges.take(p.pool.budget.calls.Load(), p.retry.hedge.max) {
		return nil
	}
	a := c.planElsewhere(now, x.first)
	if a == nil {
		p.pool.hedges.giveBack()
		return nil
	}
	if out := x.ready(a, now); out != nil {
		x.rival = a
		c.attempts++
		return out
	}
	a.settle(now, cancelled, true)
	p.pool.budget.giveBack()
	p.pool.hedges.giveBack()
	return nil
}

// ready begins an attempt and returns its request; nil if the endpoint is no help:
// it is on trial itself, has no address, or cannot be sent this body.
func (x *race) ready(a *attempt, now time.Time) *http.Request {
	if !a.permit.trialUntil.IsZero() {
		return nil
	}
	var err error
	if a.dial, err = dialInfo(a.upstream, x.request); err != nil {
		return nil
	}
	a.begin(x.request.Context(), now)
	a.call.policy.pool.watch(a.patience())
	out, unfit := a.prepare(x.request)
	if unfit != nil {
		return nil
	}
	return out
}

// run makes the rival's round trip and decides the race if its answer is good.
func (x *race) run(out *http.Request) {
	a := x.rival
	settled := false
	defer func() {
		if !settled {
			a.settle(time.Now(), cancelled, true)
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
		a.settle(now, cancelled, true)
	case good:
		x.over, x.won = true, resp
		x.first.end(endedByHedge)
	default:
		a.settle(now, a.call.blameRival(a, resp, err, now), true)
	}
	if resp != nil && x.won != resp {
		resp.Body.Close()
	}
	close(x.fought)
}

// promising tells whether an answer is good as far as it has come when commit goes
// by its first byte.
func (c *call) promising(a *attempt, resp *http.Response) bool {
	p := c.policy
	if classifyStatus(resp.StatusCode, p.failure, a.target.quota) != success || resp.StatusCode == http.StatusSwitchingProtocols {
		return false
	}
	if p.commit.body {
		h := new(held)
		if err := h.first(a, resp.Body); err != nil {
			h.drop()
			return false
		}
		h.rest, resp.Body = resp.Body, h
	} else if !a.answered(time.Now()) {
		return false
	}
	return !p.mayMoveOn(resp.StatusCode) || !p.movesOn(a, resp)
}

// blameRival says what a rival that brought no good answer came to.
func (c *call) blameRival(a *attempt, resp *http.Response, err error, now time.Time) outcome {
	if resp == nil || a.endedWhy() != notEnded {
		return c.blame(a, err, now)
	}
	o := classifyStatus(resp.StatusCode, c.policy.failure, a.target.quota)
	switch {
	case o == success && a.first.Load() <= 0:
		return truncated // before its first byte
	case o == rateLimited:
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
func (s *endpointState) beaten(a *attempt, now time.Time) {
	took := a.firstByte()
	if took == 0 {
		took = max(1, a.waitedFor(now))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.outcome == pending {
		s.tally.latencies++
		s.tally.logLatency += math.Log(took.Seconds())
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
func (a *attempt) claims() bool { return a.race == nil || a.race.claim() }

// overtaken tells whether a hedge has made up for the attempt's failure. If it has
// failed as well, its endpoint is not tried again.
func (a *attempt) overtaken() bool {
	x := a.race
	if x == nil {
		return false
	}
	lost := x.lost()
	if !lost && x.rival != nil {
		a.call.exclude(x.rival.target)
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
	was := a.call.current.upstream
	u := *out.URL
	u.Host = a.dial.Address
	if scheme == "http" && a.dial.Port == "80" || scheme == "https" && a.dial.Port == "443" {
		u.Host = a.dial.Host
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
	d := a.dial
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
