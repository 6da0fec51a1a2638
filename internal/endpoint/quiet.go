package endpoint

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
)

// An endpoint whose score leaves it less than half of its traffic may get too few calls to
// show that it works again. If it is quiet, it gets the next call that can be sent elsewhere,
// as a recovering one does: quietFor after its latest attempt began, or quietAfterFailure if
// that failed, doubled for each drift in vain.
const (
	quietFor          = 5 * time.Second
	quietAfterFailure = 20 * time.Second
	quietBelow        = 0.5
)

// quiet keeps since when an endpoint has had no attempt, to the precision of ticks. The state's mutex
// guards it.
type quiet struct {
	begun uint64    // attempts that had begun at since
	since time.Time // the latest tick that saw a new attempt
	shown bool      // the routing tables show that the endpoint wants a call
}

// watchQuiet updates quiet, and reports whether wantsCall has changed.
func (c *condition) watchQuiet(now time.Time, cfg *breaker.Config) (changed bool) {
	if c.begun != c.quiet.begun || now.Before(c.quiet.since) {
		c.quiet.begun, c.quiet.since = c.begun, now
	}
	wants := c.wantsCall(now, cfg)
	changed = wants != c.quiet.shown
	c.quiet.shown = wants
	return changed
}

// wantsCall reports whether the endpoint should get the next call that can be sent
// elsewhere, because its score brings it too few.
func (c *condition) wantsCall(now time.Time, cfg *breaker.Config) bool {
	if 1-c.scorer.Lost >= quietBelow || c.begun != c.quiet.begun || c.breaker.Allowed(cfg) < 1 {
		return false
	}
	after := quietFor
	if c.scorer.FailedLast {
		after = quietAfterFailure << c.scorer.Wrong
	}
	return now.Sub(c.quiet.since) >= after
}
