package failover

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/budget"
)

// The words of options that choose between ways.
const (
	quotaEndpoint = "endpoint"
	quotaClient   = "client"

	credentialsStrip = "strip"
	credentialsPass  = "pass"

	balanceWeighted     = "weighted"
	balanceLeastLatency = "least_latency"

	allDownFailFast  = "fail_fast"
	allDownTryAnyway = "try_anyway"

	methodsIdempotent = "idempotent"
	methodsAny        = "any"
)

const (
	defaultTimeout  = 60 * time.Second
	defaultAttempts = 3
	defaultBuffer   = 1 << 20
)

// Breaker configures the circuit breaker that each endpoint has. Where nothing
// else is said, 0 is the same as leaving the field out.
type Breaker struct {
	// Turns the breaker off. Default: false.
	Off bool `json:"off,omitempty"`

	// Failures in a row that open it. 0: no number does. Default: 5.
	ConsecutiveFailures *int `json:"consecutive_failures,omitempty"`

	// Part of the attempts in `window` that must fail to open it, 0 to 1, once
	// there are `min_requests`. 0: no part does. Default: 0.5.
	FailureRatio *float64 `json:"failure_ratio,omitempty"`

	// Attempts in `window` from which ratios count. Default: 20.
	MinRequests int `json:"min_requests,omitempty"`

	// How far back ratios look. Default: 10s.
	Window caddy.Duration `json:"window,omitempty"`

	// Part of the attempts in `window` slower than `slow_after` that opens it,
	// 0 to 1. Default: off.
	SlowRatio float64 `json:"slow_ratio,omitempty"`

	// What a slow attempt is; required with `slow_ratio`. Default: off.
	SlowAfter caddy.Duration `json:"slow_after,omitempty"`

	// How many times the median of the last hour an attempt must take to be slow;
	// it must also take 100 ms and 3 times the 99th percentile. Half of 20
	// attempts being slow opens it, unless it is the last endpoint available.
	// 0 turns this off. Default: 10.
	SlowFactor *float64 `json:"slow_factor,omitempty"`

	// How long it stays open, doubled for each relapse. Default: 5s.
	OpenFor caddy.Duration `json:"open_for,omitempty"`

	// The longest it stays open, at most 24h. Default: 5m.
	OpenMax caddy.Duration `json:"open_max,omitempty"`

	// The first share of traffic of a recovering endpoint, 0 to 1. Default: 0.05.
	Start float64 `json:"start,omitempty"`

	// How often the share grows, by 1 % of the traffic for each success or by
	// 2.5 % if that is more, at most to the double, or halves after a failure.
	// Default: 500ms.
	Step caddy.Duration `json:"step,omitempty"`
}

func (b *Breaker) validate() error {
	if b == nil {
		return nil
	}
	switch {
	case b.ConsecutiveFailures != nil && *b.ConsecutiveFailures < 0:
		return errors.New("breaker: consecutive_failures must not be negative")
	case b.MinRequests < 0:
		return errors.New("breaker: min_requests must not be negative")
	case b.FailureRatio != nil && outside(*b.FailureRatio):
		return errors.New("breaker: failure_ratio must be between 0 and 1")
	case outside(b.SlowRatio):
		return errors.New("breaker: slow_ratio must be between 0 and 1")
	case b.SlowFactor != nil && !validSlowFactor(*b.SlowFactor):
		return errors.New("breaker: slow_factor must be 0 or at least 1")
	case outside(b.Start):
		return errors.New("breaker: start must be between 0 and 1")
	case b.Window < 0 || b.SlowAfter < 0 || b.OpenFor < 0 || b.OpenMax < 0 || b.Step < 0:
		return errors.New("breaker: durations must not be negative")
	case (b.SlowRatio > 0) != (b.SlowAfter > 0):
		return errors.New("breaker: slow_ratio and slow_after need each other")
	case b.OpenMax > caddy.Duration(24*time.Hour):
		return errors.New("breaker: open_max must be at most 24h")
	case b.OpenMax > 0 && b.OpenMax < cmp.Or(b.OpenFor, caddy.Duration(5*time.Second)):
		return fmt.Errorf("breaker: open_max (%v) must not be shorter than open_for (%v)",
			time.Duration(b.OpenMax), time.Duration(cmp.Or(b.OpenFor, caddy.Duration(5*time.Second))))
	case b.OpenFor > caddy.Duration(24*time.Hour):
		return errors.New("breaker: open_for must be at most 24h")
	}
	return nil
}

func validSlowFactor(f float64) bool { return f == 0 || f >= 1 && f <= math.MaxFloat32 }

// or is what an option is set to, else its default.
func or[T any](option *T, otherwise T) T {
	if option == nil {
		return otherwise
	}
	return *option
}

// outside tells whether a ratio is none; NaN is outside as well.
func outside(ratio float64) bool { return !(ratio >= 0 && ratio <= 1) }

// config is what breakers run by; the timeout is that of the slowest attempt.
func (b *Breaker) config(timeout time.Duration) *breaker.Config {
	if b == nil {
		b = &Breaker{}
	}
	cfg := breaker.Defaults(timeout)
	cfg.Off = b.Off
	cfg.ConsecutiveFailures = or(b.ConsecutiveFailures, cfg.ConsecutiveFailures)
	cfg.FailureRatio = or(b.FailureRatio, cfg.FailureRatio)
	cfg.MinRequests = cmp.Or(b.MinRequests, cfg.MinRequests)
	cfg.Window = cmp.Or(time.Duration(b.Window), cfg.Window)
	cfg.SlowRatio = b.SlowRatio
	cfg.SlowAfter = time.Duration(b.SlowAfter)
	cfg.SlowFactor = or(b.SlowFactor, cfg.SlowFactor)
	cfg.OpenFor = cmp.Or(time.Duration(b.OpenFor), cfg.OpenFor)
	cfg.OpenMax = max(cmp.Or(time.Duration(b.OpenMax), cfg.OpenMax), time.Duration(b.OpenFor))
	cfg.Start = cmp.Or(b.Start, cfg.Start)
	cfg.Step = cmp.Or(time.Duration(b.Step), cfg.Step)
	return &cfg
}

// Retry configures what happens to a call whose attempt failed. Where nothing
// else is said, 0 is the same as leaving the field out.
type Retry struct {
	// Turns retries off: each call is one attempt. Default: false.
	Off bool `json:"off,omitempty"`

	// Attempts of one call, over all endpoints, 1 or more. Default: 3.
	Attempts int `json:"attempts,omitempty"`

	// Methods that may be retried after any failure: `idempotent` (RFC 9110, and
	// requests with an Idempotency-Key), `any`, or method names. Others are
	// retried only when the endpoint cannot have acted on the request. Default:
	// `idempotent`.
	Methods []string `json:"methods,omitempty"`

	// How often the endpoint that failed is asked again before the next one,
	// after a reset connection, a failure status, or a 429 that does not say when
	// to come back. Default: 0.
	SameEndpoint int `json:"same_endpoint,omitempty"`

	// The longest Retry-After of a 429 or 503 that is waited for, at the endpoint
	// that said it; past that the next one is asked at once. Default: 0.
	WaitRetryAfter caddy.Duration `json:"wait_retry_after,omitempty"`

	// The pause before the same endpoint is asked again.
	Backoff *Backoff `json:"backoff,omitempty"`

	// A second attempt for calls whose first has not begun to answer for a while.
	// Default: none.
	Hedge *Hedge `json:"hedge,omitempty"`

	// How many retries the pool may make.
	Budget *Budget `json:"budget,omitempty"`

	// The time within which attempts may begin and must answer, from the start of
	// the call, or from when its body is in, if that is small. Default: none.
	Deadline caddy.Duration `json:"deadline,omitempty"`

	// Bytes of a request's body that are kept for another attempt. Past that, a
	// request is not sent again. Default: 1048576 (1 MiB).
	Buffer int64 `json:"buffer,omitempty"`
}

// Backoff is exponential backoff with full jitter: the n-th pause lasts between
// 0 and min(cap, base·2ⁿ).
// See https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
type Backoff struct {
	// Default: 100ms.
	Base caddy.Duration `json:"base,omitempty"`

	// Default: 2s.
	Cap caddy.Duration `json:"cap,omitempty"`
}

// Budget bounds the retries of a pool over the last 10 seconds.
type Budget struct {
	// Retries as a part of calls, 0 to 1. Default: 0.2.
	Ratio *float64 `json:"ratio,omitempty"`

	// Retries a second that are always allowed. Default: 3.
	Floor *float64 `json:"floor,omitempty"`
}

func (r *Retry) validate() error {
	if r == nil {
		return nil
	}
	switch {
	case r.Attempts < 0:
		return errors.New("retry: attempts must be 1 or more")
	case r.SameEndpoint < 0:
		return errors.New("retry: same_endpoint must not be negative")
	case r.WaitRetryAfter < 0:
		return errors.New("retry: wait_retry_after must not be negative")
	case r.Deadline < 0:
		return errors.New("retry: deadline must not be negative")
	case r.Buffer < 0:
		return errors.New("retry: buffer must not be negative")
	case r.Backoff != nil && (r.Backoff.Base < 0 || r.Backoff.Cap < 0):
		return errors.New("retry: backoff must not be negative")
	case r.Budget != nil && r.Budget.Ratio != nil && outside(*r.Budget.Ratio):
		return errors.New("retry: the budget's ratio must be between 0 and 1")
	case r.Budget != nil && r.Budget.Floor != nil && !(*r.Budget.Floor >= 0):
		return errors.New("retry: the budget's floor must not be negative")
	}
	if err := r.Hedge.validate(); err != nil {
		return fmt.Errorf("retry: %w", err)
	}
	for _, m := range r.Methods {
		if err := validateMethod(m); err != nil {
			return fmt.Errorf("retry: %w", err)
		}
		if (m == methodsAny || m == methodsIdempotent) && len(r.Methods) > 1 {
			return fmt.Errorf("retry: methods %q stands alone", m)
		}
	}
	return nil
}

// validateMethod tells whether a word is a method name or stands for several.
func validateMethod(m string) error {
	if m == methodsAny || m == methodsIdempotent {
		return nil
	}
	if _, err := http.NewRequest(m, "/", nil); err != nil || m == "" {
		return fmt.Errorf("invalid method %q", m)
	}
	for _, c := range m {
		if c >= 'a' && c <= 'z' {
			return fmt.Errorf("unknown method %q: want idempotent, any, or method names in upper case", m)
		}
	}
	return nil
}

// retryRules are Retry, ready for use.
type retryRules struct {
	attempts int
	any      bool
	methods  []string    // nil: idempotent ones
	hedge    *hedgeRules // nil: no hedges
	deadline time.Duration

	sameEndpoint int
	wait         time.Duration // the longest Retry-After to wait for
	base, cap    time.Duration
	budget       budget.Rules
	noneAfter    time.Duration // no attempt begins later than that after the call; 0: no bound
	buffer       int64
}

func (r *Retry) rules() retryRules {
	if r == nil {
		r = &Retry{}
	}
	rules := retryRules{
		attempts:     cmp.Or(r.Attempts, defaultAttempts),
		sameEndpoint: r.SameEndpoint,
		wait:         time.Duration(r.WaitRetryAfter),
		hedge:        r.Hedge.rules(),
		base:         100 * time.Millisecond,
		cap:          2 * time.Second,
		budget:       budget.Rules{Ratio: 0.2, Floor: 3},
		deadline:     time.Duration(r.Deadline),
		buffer:       cmp.Or(r.Buffer, defaultBuffer),
	}
	if r.Off {
		rules.attempts = 1
	}
	switch {
	case slices.Equal(r.Methods, []string{methodsAny}):
		rules.any = true
	case len(r.Methods) > 0 && r.Methods[0] != methodsIdempotent:
		rules.methods = r.Methods
	}
	if r.Backoff != nil {
		rules.base = cmp.Or(time.Duration(r.Backoff.Base), rules.base)
		rules.cap = cmp.Or(time.Duration(r.Backoff.Cap), rules.cap)
	}
	if r.Budget != nil {
		rules.budget.Ratio = or(r.Budget.Ratio, rules.budget.Ratio)
		rules.budget.Floor = or(r.Budget.Floor, rules.budget.Floor)
	}
	return rules
}
