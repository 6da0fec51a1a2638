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

// quiet says since when an endpoint has had no attempt, to the precision of ticks. The
// state's mutex guards it.
type quiet struct {
	begun uint64    // attempts that had begun at since
	since time.Time // the latest tick that saw a new attempt
	shown bool      // the routing tables show that the endpoint wants a call
}

// watchQuietLocked updates quiet, and reports whether wantsCallLocked has changed.
func (s *State) watchQuietLocked(now time.Time, cfg *breaker.Config) (changed bool) {
	if s.begun != s.quiet.begun || now.Before(s.quiet.since) {
		s.quiet.begun, s.quiet.since = s.begun, now
	}
	wants := s.wantsCallLocked(now, cfg)
	changed = wants != s.quiet.shown
	s.quiet.shown = wants
	return changed
}

// wantsCallLocked reports whether the endpoint should get the next call that can be sent
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
