package call

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/slowness"
	"github.com/apifailover/caddy-failover/internal/target"
)

// HedgeRules are the resolved options of the hedge block.
type HedgeRules struct {
	After    time.Duration
	Quantile float64
	Max      float64
}

// delayFor returns how long after its start an attempt at the target, of a scope, is hedged; 0: not at all.
func (r *HedgeRules) delayFor(t *target.Target, scope string, now time.Time) time.Duration {
	if r.After > 0 {
		return r.After
	}
	if scope != "" {
		return t.State.For(scope).Typically(now, r.Quantile)
	}
	return t.Hedge.Latest(now, slowness.RefreshEvery, func() time.Duration { return t.State.For("").Typically(now, r.Quantile) })
}
