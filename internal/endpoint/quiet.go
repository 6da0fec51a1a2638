package endpoint

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
)

// An endpoint whose score leaves it less than half of its traffic may get too few calls to
// show that it is well again. Where it is quiet, it is offered the next call that can be sent
// elsewhere, as one that recovers is: quietFor after an attempt began there, or where the
// latest failed quietAfterFailure, doubled each time that was in vain.
const (
	quietFor          = 5 * time.Second
	quietAfterFailure = 20 * time.Second
	quietBelow        = 0.5
)

// quiet is how long an endpoint has had no attempt, as ticks see it. The state's mutex
// guards it.
type quiet struct {
	begun uint64    // attempts at the latest tick
	since time.Time // no later attempt than at that tick
	shown bool      // in the routing tables
}

// watchQuietLocked looks whether attempts have begun, and tells whether the endpoint wants a call
// since now, or no longer.
func (s *State) watchQuietLocked(now time.Time, cfg *breaker.Config) (changed bool) {
	if s.begun != s.quiet.begun || now.Before(s.quiet.since) {
		s.quiet.begun, s.quiet.since = s.begun, now
	}
	wants := s.wantsCallLocked(now, cfg)
	changed = wants != s.quiet.shown
	s.quiet.shown = wants
	return changed
}

// wantsCallLocked tells whether the endpoint should get the next call that can be sent
// elsewhere, because its score brings it too few.
func (s *State) wantsCallLocked(now time.Time, cfg *breaker.Config) bool {
	if 1-s.Scorer.Lost >= quietBelow || s.begun != s.quiet.begun || s.breaker.Allowed(cfg) < 1 {
		return false
	}
	after := quietFor
	if s.Scorer.FailedLast {
		after = quietAfterFailure << s.Scorer.Wrong
	}
	return now.Sub(s.quiet.since) >= after
}
