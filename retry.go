package failover

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/apifailover/caddy-failover/internal/call"
	"github.com/apifailover/caddy-failover/internal/spelling"
)

// Hedge sends a second attempt to the next endpoint if the first one has no response after a while.
// The first good response wins. The plugin ends the other attempt, and counts only its time. A
// request is hedged if it may be retried and its whole body has arrived and is kept. Upgrades are
// never hedged.
//
// See Dean and Barroso, The Tail at Scale, https://doi.org/10.1145/2408776.2408794.
type Hedge struct {
	// How long the first attempt may take to the first byte that `commit` waits for. Either this or
	// `quantile` is required. Default: none.
	After caddy.Duration `json:"after,omitempty"`

	// The same time as a quantile of the endpoint's own latency of the last hour, between 0 and
	// 1; the time is at least 10ms. While the latency is unknown there are no hedges.
	// Default: none.
	Quantile float64 `json:"quantile,omitempty"`

	// The largest number of hedges, as a part of the requests, 0 to 1. Each hedge also takes from
	// the retry budget. Default: 0.05.
	Max *float64 `json:"max,omitempty"`
}

const defaultHedgeMax = 0.05

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

// parseQuantile parses a quantile such as p95 or p99.9.
func parseQuantile(word string) (float64, error) {
	digits, ok := strings.CutPrefix(word, "p")
	percent, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || !(percent > 0 && percent < 100) {
		return 0, errors.New("want a quantile such as p95 or p99.9")
	}
	return percent / 100, nil
}

func (h *Hedge) rules() *call.HedgeRules {
	if h == nil {
		return nil
	}
	rules := &call.HedgeRules{After: time.Duration(h.After), Quantile: h.Quantile, Max: defaultHedgeMax}
	if h.Max != nil {
		rules.Max = *h.Max
	}
	return rules
}

const (
	methodsIdempotent = "idempotent"
	methodsAny        = "any"
)

const (
	defaultAttempts = 3
	defaultBuffer   = 1 << 20
)

// Retry configures how failed requests are retried. 0 means the default, unless a field says
// otherwise.
type Retry struct {
	// Whether retries are off, so that each request is one attempt. Default: false.
	Off bool `json:"off,omitempty"`

	// The largest number of attempts of one request, over all endpoints, from 1. Default: 3, plus
	// one for each further key of an endpoint.
	Attempts int `json:"attempts,omitempty"`

	// The requests that may be retried after any failure: `idempotent` (the idempotent methods of
	// RFC 9110, and requests with an Idempotency-Key), `any`, or method names. Other requests are
	// retried only if the endpoint cannot have acted on them. Default: what `api` sets, else
	// `idempotent`.
	Methods []string `json:"methods,omitempty"`

	// The number of retries at the endpoint that failed, before another endpoint is tried. They
	// follow a reset connection, a failure status, or a 429 without a time, never a timeout.
	// Default: 0.
	SameEndpoint int `json:"same_endpoint,omitempty"`

	// If the Retry-After of a 429 or 503 is at most this, the request waits and asks the same
	// endpoint again. If it is longer, the request moves on at once. Default: 0.
	WaitRetryAfter caddy.Duration `json:"wait_retry_after,omitempty"`

	// The pause before the same endpoint is tried again. Default: as its fields say.
	Backoff *Backoff `json:"backoff,omitempty"`

	// A second attempt for requests whose first attempt is slow to respond. Default: none.
	Hedge *Hedge `json:"hedge,omitempty"`

	// The largest number of retries in the pool. Default: as its fields say.
	Budget *Budget `json:"budget,omitempty"`

	// The longest time from the start of a request (a body of up to 4 KiB arrives first) to the
	// start of its response, over all attempts. After it a request that waits for its client's body
	// gets a 408, and any other a 504. Default: no limit.
	Deadline caddy.Duration `json:"deadline,omitempty"`

	// The largest part of a request's body, in bytes, that is kept for another attempt. A request
	// that has sent more is not retried. Default: 1048576 (1 MiB).
	Buffer int64 `json:"buffer,omitempty"`
}

// Backoff is exponential backoff with full jitter: the n-th pause lasts between
// 0 and min(cap, base·2ⁿ).
// See https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
type Backoff struct {
	// The base of the pause. Default: 100ms.
	Base caddy.Duration `json:"base,omitempty"`

	// The longest pause, at least `base`. Default: 2s, or `base` if that is longer.
	Cap caddy.Duration `json:"cap,omitempty"`
}

// Budget limits the retries of a pool over the last 10 seconds.
type Budget struct {
	// The largest number of retries, as a part of the requests, 0 to 1. Default: 0.2.
	Ratio *float64 `json:"ratio,omitempty"`

	// The number of retries per second that are allowed on top of `ratio`. Default: 3.
	Floor *float64 `json:"floor,omitempty"`
}

// validateMethod checks that a word is a method name, `any` or `idempotent`.
func validateMethod(m string) error {
	if m == methodsAny || m == methodsIdempotent {
		return nil
	}
	if _, err := http.NewRequest(m, "/", nil); err != nil || m == "" {
		if strings.Contains(m, ",") {
			return fmt.Errorf("invalid method %q: separate methods by spaces", m)
		}
		return fmt.Errorf("invalid method %q", m)
	}
	for _, c := range m {
		if c >= 'a' && c <= 'z' {
			return fmt.Errorf("unknown method %q: want idempotent, any, or method names in upper case%s", m, suggest(m, methodsIdempotent, methodsAny))
		}
	}
	usual := strings.Fields("get head post put patch delete options")
	if near := spelling.Nearest(m, usual); near != "" && !slices.Contains(otherMethods, m) && near != strings.ToLower(m) {
		return fmt.Errorf("unknown method %q; did you mean %s?", m, strings.ToUpper(near))
	}
	return nil
}

// otherMethods are methods that are like usual ones.
var otherMethods = strings.Fields("COPY LOCK MOVE PURGE SEARCH LINK BIND LABEL PRI")

// Wait configures how requests that find no endpoint wait. They leave the queue in the order of their
// arrival: one at a time while endpoints are on trial, then as fast as the endpoints respond. A
// retryable request whose attempt fails waits as well.
type Wait struct {
	// The longest wait, from the start of the request. Required.
	For caddy.Duration `json:"for,omitempty"`

	// The largest number of requests that wait in the pool. Others are refused at once. Default: 1000.
	Most int `json:"most,omitempty"`
}

const (
	defaultMostWaiting = 1000
	// defaultTryInterval is the proxy's default pause between tries.
	defaultTryInterval = 250 * time.Millisecond
)

var errNoWait = errors.New("all_down wait needs a duration: all_down wait <duration> [<most>]")

func (p *Policy) validateWait() error {
	switch w := p.Wait; {
	case w == nil && p.AllDown == allDownWait:
		return errNoWait
	case w == nil:
		return nil
	case p.AllDown != allDownWait:
		return errors.New(`wait needs "all_down": "wait"`)
	case w.For <= 0:
		return errors.New("all_down wait: the duration must be longer than 0")
	case w.Most < 0:
		return errors.New("all_down wait: the number of requests must be 1 or more")
	}
	return nil
}

// readAllDown reads `all_down fail_fast|try_anyway` and `all_down wait <duration> [<most>]`.
func readAllDown(_ *reader, d *caddyfile.Dispenser, p *Policy) error {
	word, err := argument(d)
	if err != nil {
		return err
	}
	p.AllDown = word
	if _, bad := caddy.ParseDuration(word); bad == nil {
		return d.Errf("all_down %s: write all_down wait %[1]s, or fail_fast or try_anyway", word)
	}
	if err := wrap(d, oneOf("all_down", word, allDownFailFast, allDownTryAnyway, allDownWait)); err != nil || word != allDownWait {
		return err
	}
	p.Wait = new(Wait)
	if !d.NextArg() {
		return wrap(d, errNoWait)
	}
	if p.Wait.For, err = parseDuration(d, "all_down wait"); err != nil {
		return err
	}
	if d.NextArg() {
		if p.Wait.Most, err = strconv.Atoi(d.Val()); err != nil || p.Wait.Most < 1 {
			return d.Errf("invalid all_down wait %q: want how many requests may wait, 1 or more", d.Val())
		}
	}
	return wrap(d, p.validateWait())
}

// takeOver converts the proxy's lb_retries, lb_try_duration, lb_try_interval and lb_retry_match
// to the handler's rules. Options of the policy override them. Afterwards only the policy ends the
// proxy's loop.
func (p *Policy) takeOver(lb *reverseproxy.LoadBalancing, ctx caddy.Context) error {
	rules, retry := &p.handler.Wait, &p.handler.Retry
	interval := cmp.Or(time.Duration(lb.TryInterval), defaultTryInterval)
	off := p.Retry != nil && p.Retry.Off
	if p.Wait != nil {
		*rules = call.WaitRules{For: time.Duration(p.Wait.For), Most: cmp.Or(p.Wait.Most, defaultMostWaiting), Interval: interval}
	}
	if lb.TryDuration > 0 {
		tried := time.Duration(lb.TryDuration)
		switch {
		case p.AllDown != "":
			if p.Wait == nil || p.Wait.For != lb.TryDuration {
				p.warnOverridden("all_down "+p.AllDown, "lb_try_duration")
			}
		case off:
			p.warnOverridden("retry off", "lb_try_duration")
			fallthrough
		default:
			*rules = call.WaitRules{For: tried, Most: defaultMostWaiting, Interval: interval}
		}
		switch {
		case retry.Deadline == 0:
			retry.NoneAfter = tried
		case retry.Deadline < tried:
			p.warnOverridden("retry deadline", "lb_try_duration")
		}
		if lb.Retries == 0 && (p.Retry == nil || p.Retry.Attempts == 0 && !off) {
			retry.Attempts = max(retry.Attempts, len(p.handler.Targets))
		}
	}
	if lb.Retries > 0 {
		switch {
		case off:
			p.warnOverridden("retry off", "lb_retries")
		case p.Retry != nil && p.Retry.Attempts > 0:
			if p.Retry.Attempts != lb.Retries+1 {
				p.warnOverridden("retry attempts", "lb_retries")
			}
		default:
			retry.Attempts = lb.Retries + 1
			if p.Wait == nil {
				rules.Tries, rules.Most = lb.Retries, defaultMostWaiting
				if rules.For == 0 {
					rules.Interval = time.Duration(lb.TryInterval)
				}
			}
		}
	}
	retry.Attempts = min(retry.Attempts, call.MaxAttempts)
	if err := p.takeOverMatchers(lb, ctx); err != nil {
		return err
	}
	lb.Retries, lb.TryDuration, lb.TryInterval = maxLoops, 0, 0
	return nil
}

// maxLoops is the largest number of times that the proxy asks for an upstream for one request.
// Requests end long before, because the policy's errors tell the proxy whether to ask again.
const maxLoops = 1 << 20

// warnOverridden warns that an option of the policy overrides one of the proxy.
func (p *Policy) warnOverridden(own, proxys string) {
	p.handler.Logger.Warn("an option of the proxy has no effect: an option of the policy overrides it",
		zap.String("pool", p.Name), zap.String("in_force", own), zap.String("ignored", proxys))
}

// retryMatch has the proxy's own matchers, for loading.
type retryMatch struct {
	Raw caddyhttp.RawMatcherSets `json:"retry_match,omitempty" caddy:"namespace=http.matchers"`
}

// takeOverMatchers makes the policy use lb_retry_match for transport errors, unless `retry
// methods` is set. The proxy still uses it for responses.
func (p *Policy) takeOverMatchers(lb *reverseproxy.LoadBalancing, ctx caddy.Context) error {
	own := lb.RetryMatchRaw
	p.handler.Rematches = len(own) > 0
	lb.RetryMatchRaw = call.WithVerdict(own)
	switch {
	case len(own) == 0:
		return nil
	case p.Retry != nil && len(p.Retry.Methods) > 0:
		p.warnOverridden("retry methods", "lb_retry_match")
		return nil
	}
	loaded, err := ctx.LoadModule(&retryMatch{own}, "Raw")
	if err != nil {
		return fmt.Errorf("loading lb_retry_match: %w", err)
	}
	var sets caddyhttp.MatcherSets
	if err := sets.FromInterface(loaded); err != nil {
		return fmt.Errorf("loading lb_retry_match: %w", err)
	}
	p.handler.RetryMatch = func(r *http.Request) bool {
		matches, err := call.MatchesError(sets, r)
		if err != nil {
			p.handler.Logger.Error("matching a request for lb_retry_match", zap.String("pool", p.Name), zap.Error(err))
		}
		return matches && err == nil
	}
	return nil
}

func init() { caddy.RegisterModule(call.Verdict{}) }
