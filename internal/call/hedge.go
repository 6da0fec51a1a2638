package call

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/slowness"
	"github.com/apifailover/caddy-failover/internal/target"
)

// HedgeRules are Hedge, ready for use.
type HedgeRules struct {
	After    time.Duration
	Quantile float64
	Max      float64
}

// delayFor is when an attempt at the target is hedged; 0 if it is not.
func (r *HedgeRules) delayFor(t *target.Target, now time.Time) time.Duration {
	if r.After > 0 {
		return r.After
	}
	return t.Hedge.Latest(now, slowness.RefreshEvery, func() time.Duration { return t.State.Typically(now, r.Quantile) })
}
