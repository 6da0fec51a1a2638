package failover

import (
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/apifailover/caddy-failover/internal/slowness"
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
// own latencies.
type hedgeDelay struct {
	at    atomic.Int64 // Unix nanoseconds
	delay atomic.Int64 // 0: not known
}

// latest is the delay as it was worked out no longer ago than every: if it is older, workOut
// is asked, by one of the callers.
func (d *hedgeDelay) latest(now time.Time, every time.Duration, workOut func() time.Duration) time.Duration {
	at := d.at.Load()
	if age := now.UnixNano() - at; age < 0 || age > int64(every) {
		if d.at.CompareAndSwap(at, now.UnixNano()) {
			d.delay.Store(int64(workOut()))
		}
	}
	return time.Duration(d.delay.Load())
}

// delayFor is when an attempt at the target is hedged; 0 if it is not.
func (r *hedgeRules) delayFor(t *target, now time.Time) time.Duration {
	if r.after > 0 {
		return r.after
	}
	return t.hedge.latest(now, slowness.RefreshEvery, func() time.Duration { return t.state.typically(now, r.quantile) })
}

// typically is how long a part q of the endpoint's answers took to begin at most; 0
// if too few are known.
func (s *endpointState) typically(now time.Time, q float64) time.Duration {
	s.mu.Lock()
	s.countLocked(now)
	known := s.slowness.Known
	s.mu.Unlock()
	total := known.Total()
	if total < slowness.MinKnown {
		return 0
	}
	return max(hedgeAtLeast, known.Quantile(float32(q), total))
}
