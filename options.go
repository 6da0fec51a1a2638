package failover

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/budget"
	"github.com/apifailover/caddy-failover/internal/call"
	"github.com/apifailover/caddy-failover/internal/sla"
)

// Words of options with several modes.
const (
	quotaEndpoint = "endpoint"
	quotaClient   = "client"

	credentialsStrip = "strip"
	credentialsPass  = "pass"

	balanceWeighted      = "weighted"
	balanceLeastLatency  = "least_latency"
	balanceLeastRequests = "least_requests"

	allDownFailFast  = "fail_fast"
	allDownTryAnyway = "try_anyway"
	allDownWait      = "wait"
)

const defaultTimeout = 60 * time.Second

func (b *Breaker) validate() error {
	if b == nil {
		return nil
	}
	if err := offAlone("breaker", b.Off, b, &Breaker{Off: true}); err != nil {
		return err
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

// valueOr returns the value of an option, or a default if it is not set.
func valueOr[T any](option *T, byDefault T) T {
	if option == nil {
		return byDefault
	}
	return *option
}

// outside reports whether a ratio is outside 0 to 1. NaN is outside.
func outside(ratio float64) bool { return !(ratio >= 0 && ratio <= 1) }

// config converts the options. nil means the defaults. timeout is the longest timeout of any attempt.
func (b *Breaker) config(timeout time.Duration) *breaker.Config {
	if b == nil {
		b = &Breaker{}
	}
	cfg := breaker.Defaults(timeout)
	cfg.Off = b.Off
	cfg.ConsecutiveFailures = valueOr(b.ConsecutiveFailures, cfg.ConsecutiveFailures)
	cfg.FailureRatio = valueOr(b.FailureRatio, cfg.FailureRatio)
	cfg.MinRequests = cmp.Or(b.MinRequests, cfg.MinRequests)
	cfg.Window = cmp.Or(time.Duration(b.Window), cfg.Window)
	cfg.SlowRatio = b.SlowRatio
	cfg.SlowAfter = time.Duration(b.SlowAfter)
	cfg.SlowFactor = valueOr(b.SlowFactor, cfg.SlowFactor)
	cfg.OpenFor = cmp.Or(time.Duration(b.OpenFor), cfg.OpenFor)
	cfg.OpenMax = max(cmp.Or(time.Duration(b.OpenMax), cfg.OpenMax), cfg.OpenFor)
	cfg.DeniedMax = max(cmp.Or(time.Duration(b.OpenMax), cfg.DeniedMax), cfg.OpenFor)
	cfg.Start = cmp.Or(b.Start, cfg.Start)
	cfg.Step = cmp.Or(time.Duration(b.Step), cfg.Step)
	return &cfg
}

func (r *Retry) validate() error {
	if r == nil {
		return nil
	}
	if err := offAlone("retry", r.Off, r, &Retry{Off: true}); err != nil {
		return err
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
	case r.Backoff != nil && r.Backoff.Cap > 0 && r.Backoff.Cap < r.Backoff.Base:
		return fmt.Errorf("retry: backoff: the cap (%s) must not be shorter than the base (%s)", time.Duration(r.Backoff.Cap), time.Duration(r.Backoff.Base))
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
			return fmt.Errorf("retry: methods %q cannot be combined with others", m)
		}
	}
	return nil
}

// rules converts the options. nil means the defaults.
func (r *Retry) rules() call.RetryRules {
	if r == nil {
		r = &Retry{}
	}
	rules := call.RetryRules{
		Attempts:     cmp.Or(r.Attempts, defaultAttempts),
		SameEndpoint: r.SameEndpoint,
		Wait:         time.Duration(r.WaitRetryAfter),
		Hedge:        r.Hedge.rules(),
		Base:         100 * time.Millisecond,
		Cap:          2 * time.Second,
		Budget:       budget.Rules{Ratio: 0.2, Floor: 3},
		Deadline:     time.Duration(r.Deadline),
		Buffer:       cmp.Or(r.Buffer, defaultBuffer),
	}
	if r.Off {
		rules.Attempts = 1
	}
	switch {
	case slices.Equal(r.Methods, []string{methodsAny}):
		rules.Any = true
	case len(r.Methods) > 0 && r.Methods[0] != methodsIdempotent:
		rules.Methods = r.Methods
	}
	if r.Backoff != nil {
		rules.Base = cmp.Or(time.Duration(r.Backoff.Base), rules.Base)
		rules.Cap = cmp.Or(time.Duration(r.Backoff.Cap), max(rules.Cap, rules.Base))
	}
	if r.Budget != nil {
		rules.Budget.Ratio = valueOr(r.Budget.Ratio, rules.Budget.Ratio)
		rules.Budget.Floor = valueOr(r.Budget.Floor, rules.Budget.Floor)
	}
	return rules
}

// SLA sets the objectives of a pool, as its clients see it: a request that a failover saved is a
// success. A pool with this block keeps its history in Caddy's storage, even if the block is
// empty.
type SLA struct {
	// The part of the requests that must succeed, 0 to 1. Default: no objective.
	Availability float64 `json:"availability,omitempty"`

	// The part of the successes whose first byte must arrive within `latency_target`, 0 to 1.
	// Default: 0.95.
	LatencyQuantile float64 `json:"latency_quantile,omitempty"`

	// The longest time to the first byte of these successes. Default: no objective.
	LatencyTarget caddy.Duration `json:"latency_target,omitempty"`

	// The period up to now that is compared with the objectives, 1h to 40d. Default: 30d.
	Window caddy.Duration `json:"window,omitempty"`
}

func (s *SLA) validate() error {
	if s == nil {
		return nil
	}
	if s.LatencyQuantile != 0 && s.LatencyTarget == 0 {
		return errors.New("sla: latency_quantile needs a latency_target")
	}
	if err := s.objective().Validate(); err != nil {
		return fmt.Errorf("sla: %w", err)
	}
	return nil
}

// objective converts the options. It returns the zero value, which has no objectives, for nil.
func (s *SLA) objective() sla.Objective {
	if s == nil {
		return sla.Objective{}
	}
	return sla.Objective{
		Availability:    s.Availability,
		LatencyQuantile: cmp.Or(s.LatencyQuantile, sla.DefaultQuantile),
		LatencyTarget:   time.Duration(s.LatencyTarget),
		Window:          cmp.Or(time.Duration(s.Window), sla.DefaultWindow),
	}
}

var slaOptions = map[string]option[*SLA]{
	"availability": ratio(func(s *SLA) *float64 { return &s.Availability }),
	"latency": {read: func(_ *reader, d *caddyfile.Dispenser, s *SLA) error {
		word, err := argument(d)
		if err != nil {
			return err
		}
		digits, ok := strings.CutPrefix(word, "p")
		percent, err := strconv.ParseFloat(digits, 64)
		if !ok || err != nil || !(percent > 0 && percent < 100) {
			return d.Errf("invalid latency quantile %q: want for example p95 or p99.9", word)
		}
		s.LatencyQuantile = percentage(percent)
		s.LatencyTarget, err = durationOf(d, "latency")
		return err
	}},
	"window": duration(func(s *SLA) *caddy.Duration { return &s.Window }),
}

// readSLA reads `sla [{ ... }]`.
func readSLA(r *reader, d *caddyfile.Dispenser, p *Policy) error {
	at := here(d)
	p.SLA = new(SLA)
	if d.NextArg() {
		word := d.Val()
		if _, known := slaOptions[word]; !known {
			word = "availability " + word
		}
		return d.Errf("unexpected argument %q of sla: write sla { %s }, on lines of their own", d.Val(), strings.Join(append([]string{word}, d.RemainingArgs()...), " "))
	}
	if err := readBlock(r, d, "sla", slaOptions, p.SLA); err != nil {
		return err
	}
	return at.wrap(p.SLA.validate())
}
