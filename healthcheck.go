package failover

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/breaker"
)

const (
	// checkBody is how much of an answer's body a check reads at most.
	checkBody = 64 << 10
	// checkJitter spreads the checks of many instances.
	checkJitter = 0.1
	// skipAfter calls that succeeded say as much as a check.
	skipAfter = 10
	checkedBy = "caddy-failover health check"
)

// A checkResult is what a check came to.
type checkResult struct {
	passed  bool
	why     string        // "passed", or what was wrong
	latency time.Duration // to the first byte, 0 without an answer
}

const checkPassed = "passed"

// probe makes one check of the endpoint at t through trip. It ends within the
// configured timeout, and reads no more than checkBody.
func probe(ctx context.Context, cfg *checkConfig, trip http.RoundTripper, t *target) (result checkResult) {
	defer func() {
		if r := recover(); r != nil {
			result = checkResult{why: fmt.Sprint("panic: ", r)}
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, cfg.timeout)
	defer cancel()
	r, err := checkRequest(ctx, cfg, t)
	if err != nil {
		return checkResult{why: err.Error()}
	}
	began := time.Now()
	resp, err := trip.RoundTrip(r)
	if err != nil {
		return checkResult{why: outcomeOf(err).String()}
	}
	defer resp.Body.Close()
	result.latency = max(1, time.Since(began))
	body := io.LimitReader(resp.Body, checkBody)
	if !cfg.expect.Has(resp.StatusCode) {
		result.why = "status " + strconv.Itoa(resp.StatusCode)
	} else if cfg.pattern == nil {
		result.passed, result.why = true, checkPassed
	} else if text, err := io.ReadAll(body); err != nil {
		result.why = "body: " + outcomeOf(err).String()
	} else if result.passed = cfg.pattern.Match(text); result.passed {
		result.why = checkPassed
	} else {
		result.why = "body: no match"
	}
	_, _ = io.Copy(io.Discard, body) // so that the connection can be used again
	return result
}

// proxyProtocolKey is where the proxy's transport looks for the client's
// address, which it may have to pass on.
const proxyProtocolKey = "reverse_proxy.proxy_protocol_info"

// checkRequest makes the request of a check, as the proxy and the endpoint's
// configuration would make a call's.
func checkRequest(ctx context.Context, cfg *checkConfig, t *target) (*http.Request, error) {
	repl := caddy.NewReplacer()
	ctx = context.WithValue(ctx, caddy.ReplacerCtxKey, repl)
	upstream := t.upstream
	if upstream == nil {
		upstream = &reverseproxy.Upstream{Dial: t.address}
	}
	dial, err := dialInfo(upstream, (&http.Request{}).WithContext(ctx))
	if err != nil {
		return nil, err
	}
	repl.Set("http.reverse_proxy.upstream.address", dial.String())
	repl.Set("http.reverse_proxy.upstream.hostport", dial.Address)
	repl.Set("http.reverse_proxy.upstream.host", dial.Host)
	repl.Set("http.reverse_proxy.upstream.port", dial.Port)
	ctx = context.WithValue(ctx, dialInfoKey, *dial)
	ctx = context.WithValue(ctx, caddyhttp.VarsCtxKey, map[string]any{
		proxyProtocolKey: reverseproxy.ProxyProtocolInfo{AddrPort: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)},
	})
	var body io.Reader
	if cfg.body != "" {
		body = strings.NewReader(repl.ReplaceKnown(cfg.body, ""))
	}
	r, err := http.NewRequestWithContext(ctx, cfg.method, "http://check/", body)
	if err != nil {
		return nil, fmt.Errorf("making a request: %w", err)
	}
	asked := &url.URL{Host: dial.Address, Path: cfg.path, RawQuery: cfg.query}
	r.URL, r.Host = asked, dial.Address
	if t.url != nil {
		r.URL, r.Host = t.join(asked), t.url.Host
	}
	if r.URL.Path == "" {
		r.URL.Path = "/"
	}
	r.Header.Set("User-Agent", checkedBy)
	for field, values := range cfg.headers {
		field = http.CanonicalHeaderKey(field)
		r.Header.Del(field)
		for _, value := range values {
			if value = repl.ReplaceKnown(value, ""); field == "Host" {
				r.Host = value
			} else {
				r.Header.Add(field, value)
			}
		}
	}
	if t.headers != nil {
		t.headers.ApplyToRequest(r)
	}
	return r, nil
}

// riseAndFall counts results in a row: passes above 0, failures below.
func riseAndFall(run int, passed bool) int {
	if passed {
		return max(0, run) + 1
	}
	return min(0, run) - 1
}

// verdict says what a run of results means: 1 the endpoint is well, -1 it is
// not, 0 that is undecided.
func (cfg *checkConfig) verdict(run int) int {
	switch {
	case run >= cfg.passes:
		return 1
	case -run >= cfg.fails:
		return -1
	}
	return 0
}

// pause is the time until the next check of an endpoint, before jitter, given
// the run of its results, where its breaker stands, and how many checks have
// found that open.
func (cfg *checkConfig) pause(run int, state breaker.State, found int) time.Duration {
	switch {
	case cfg.verdict(run) == 0, state == breaker.Recovering:
		return cfg.fastInterval
	case state == breaker.Open:
		pause := cfg.fastInterval
		for ; found > 1 && pause < cfg.interval; found-- {
			pause *= 2
		}
		return min(pause, cfg.interval)
	}
	return cfg.interval
}

// jittered spreads a pause by ± checkJitter.
func jittered(pause time.Duration) time.Duration {
	return time.Duration(float64(pause) * (1 - checkJitter + 2*checkJitter*rand.Float64()))
}

// checks are the checks of an endpoint: their results, which outlive
// configurations, and when the next is due. Guarded by the state's mutex.
type checks struct {
	asked    *checkConfig // nil: the endpoint is not checked
	run      int          // results in a row: passes above 0, failures below
	next     time.Time
	underway bool
	found    int    // checks in a row that found the breaker open
	past     totals // when the latest check was due
	lastAt   time.Time
	lastWhy  string
	sent     uint64
	passed   uint64
	failed   uint64
	skipped  uint64
}

// askLocked makes checks go by a configuration from now on; nil ends them. What
// is known from other questions says nothing about the new one.
func (s *endpointState) askLocked(cfg *checkConfig, now time.Time, first time.Duration) {
	c := &s.checks
	switch {
	case cfg == nil:
		if c.asked != nil {
			c.asked, c.run, c.found = nil, 0, 0
			s.breaker.Unchecked()
		}
		return
	case c.asked == nil || !c.asked.equal(&cfg.ask):
		s.countLocked(now)
		c.run, c.found, c.past = 0, 0, s.totals
		c.next = now.Add(first)
		s.breaker.Unchecked()
	default:
		c.next = earliest(c.next, now.Add(jittered(cfg.pause(c.run, s.breaker.State, c.found))))
	}
	c.asked = cfg
}

// skipLocked tells whether a check that is due can be left out: calls have said
// the same, or the endpoint has asked to be left alone.
func (s *endpointState) skipLocked(now time.Time) bool {
	s.countLocked(now)
	c := &s.checks
	succeeded, failed := s.totals.Successes-c.past.Successes, s.totals.Failures-c.past.Failures
	c.past = s.totals
	if now.Before(s.holdUntil) {
		return true
	}
	return s.breaker.State == breaker.Closed && c.run >= 0 && failed == 0 && succeeded >= skipAfter
}

// hastenLocked lets a check come soon where the breaker has opened.
func (s *endpointState) hastenLocked(now time.Time) {
	c := &s.checks
	if s.breaker.State != breaker.Open && s.breaker.State != breaker.Recovering {
		c.found = 0
		return
	}
	if c.found == 0 || s.breaker.State == breaker.Recovering {
		if soon := now.Add(c.asked.fastInterval * 11 / 10); c.next.After(soon) {
			c.next = now.Add(jittered(c.asked.fastInterval))
		}
	}
}

// checkedLocked takes the result of a check. Alone is set where no other
// endpoint can take this one's calls.
func (s *endpointState) checkedLocked(now time.Time, cfg *breaker.Config, result checkResult, alone bool) (changed bool) {
	c := &s.checks
	c.run = riseAndFall(c.run, result.passed)
	c.lastAt, c.lastWhy = now, result.why
	if result.passed {
		c.passed++
	} else {
		c.failed++
	}
	s.scorer.Check(now, result.passed, result.latency)
	changed = s.breaker.Checked(now, cfg, result.passed, c.asked.verdict(c.run) != 0, alone)
	if s.breaker.State == breaker.Open {
		c.found++
	} else {
		c.found = 0
	}
	c.next = now.Add(jittered(c.asked.pause(c.run, s.breaker.State, c.found)))
	return changed
}

// status copies how the checks stand; nil if there are none.
func (c *checks) status() *api.CheckStatus {
	if c.asked == nil {
		return nil
	}
	state := [...]string{"down", "undecided", "up"}[c.asked.verdict(c.run)+1]
	return &api.CheckStatus{
		State: state, LastAt: c.lastAt, LastResult: c.lastWhy, NextAt: c.next, Sent: c.sent, Skipped: c.skipped,
	}
}
