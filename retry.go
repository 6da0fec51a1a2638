package failover

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/apifailover/caddy-failover/internal/call"
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

// parseQuantile reads p95 or p99.9.
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

// Retry configures what happens to a call whose attempt failed. Where nothing
// else is said, 0 is the same as leaving the field out.
type Retry struct {
	// Turns retries off: each call is one attempt. Default: false.
	Off bool `json:"off,omitempty"`

	// Attempts of one call, over all endpoints, 1 or more. Default: 3, and one for each
	// further key of an endpoint.
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
			return fmt.Errorf("unknown method %q: want idempotent, any, or method names in upper case%s", m, meant(m, methodsIdempotent, methodsAny))
		}
	}
	return nil
}
