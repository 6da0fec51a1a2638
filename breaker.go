package failover

import (
	"math"

	"github.com/caddyserver/caddy/v2"
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

	// The longest it stays open, at most 24h. Default: 10s, or 5m where the endpoint
	// refused its own credentials; `open_for` where that is longer.
	OpenMax caddy.Duration `json:"open_max,omitempty"`

	// The first share of traffic of a recovering endpoint, 0 to 1. Default: 0.05.
	Start float64 `json:"start,omitempty"`

	// How often the share grows, by 1 % of the traffic for each success or by
	// 2.5 % if that is more, at most to the double, or halves after a failure.
	// Default: 500ms.
	Step caddy.Duration `json:"step,omitempty"`
}

func validSlowFactor(f float64) bool { return f == 0 || f >= 1 && f <= math.MaxFloat32 }
