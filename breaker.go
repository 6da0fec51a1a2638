package failover

import (
	"math"

	"github.com/caddyserver/caddy/v2"
)

// Breaker configures the circuit breaker of each endpoint. 0 means the default, unless a field
// says otherwise.
type Breaker struct {
	// Whether the breaker is off. Default: false.
	Off bool `json:"off,omitempty"`

	// The number of failures in a row that opens the breaker. It rises for endpoints with a usual
	// rate of failures. 0 turns this rule off. Default: 5.
	ConsecutiveFailures *int `json:"consecutive_failures,omitempty"`

	// The part of the attempts in `window`, 0 to 1, that must fail to open the breaker. It counts
	// from `min_requests` attempts on. 0 turns this rule off. Default: 0.5.
	FailureRatio *float64 `json:"failure_ratio,omitempty"`

	// The number of attempts in `window` that the ratios need. Default: 20.
	MinRequests int `json:"min_requests,omitempty"`

	// The period of the ratios. Default: 10s.
	Window caddy.Duration `json:"window,omitempty"`

	// The part of the attempts in `window`, 0 to 1, that must take longer than `slow_after` to
	// open the breaker. Default: off.
	SlowRatio float64 `json:"slow_ratio,omitempty"`

	// The time from which an attempt is slow. `slow_ratio` needs it. Default: off.
	SlowAfter caddy.Duration `json:"slow_after,omitempty"`

	// An attempt is slow if it takes longer than max(100 ms, `slow_factor` × median, 3 × p99) of
	// the endpoint's last hour. If half of the last 20 attempts are slow, the breaker opens, unless
	// the endpoint is the last one available. It also opens if bodies arrive at less than the median
	// rate divided by `slow_factor`. 0 turns both rules off. Default: 10.
	SlowFactor *float64 `json:"slow_factor,omitempty"`

	// How long the breaker stays open, ± 20 %. The time doubles with each relapse. After a trial
	// that cost its client nothing it is half of this, or a little more if there are few
	// requests. Default: 5s.
	OpenFor caddy.Duration `json:"open_for,omitempty"`

	// The longest open period, at most 24h. Default: 10s, or 5m if the endpoint refused its own
	// credentials; `open_for` if that is longer.
	OpenMax caddy.Duration `json:"open_max,omitempty"`

	// The share of its traffic with which a recovering endpoint starts, 0 to 1. Default: 0.05.
	Start float64 `json:"start,omitempty"`

	// The time between changes of the share. A step adds 1 % of the traffic for each success, or
	// 2.5 % if that is more, but at most doubles the share. A step with a failure halves it.
	// Default: 500ms.
	Step caddy.Duration `json:"step,omitempty"`
}

// validSlowFactor reports whether a factor is 0 or a number from 1.
func validSlowFactor(f float64) bool { return f == 0 || f >= 1 && f <= math.MaxFloat32 }
