package endpoint

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
)

// An attempt is unanswered if its client ended it before the first byte of an answer, after
// at least unansweredAfter and unansweredTimes the endpoint's usual first byte, and the
// endpoint has begun no good answer since the attempt began. If all clients give up before
// the timeout, nothing else shows that an endpoint hangs. A client that leaves sooner, or while
// others get answers, says nothing.
//
// If the usual latency is known, an unanswered attempt is a slow one. Else unansweredRun in a
// row make the endpoint a suspect.
const (
	unansweredAfter = time.Second
	unansweredTimes = 3
	unansweredRun   = 5
	// unansweredAgain is the same for a recovering endpoint that is not on trial.
	unansweredAgain = 2
)

// unanswered keeps what unanswered attempts say. The zero value has seen none. The state's
// mutex guards it.
type unanswered struct {
	run      int           // unanswered attempts in a row
	answered time.Time     // when a good answer last began, as far as known
	patience time.Duration // how long a trial may wait after clients gave up; 0: no such limit
}

// answer notes that a good answer has begun at now or before.
func (u *unanswered) answer(now time.Time) {
	u.run, u.answered, u.patience = 0, now, 0
}

// inVainLocked returns how long a client must have waited so that its leaving counts.
func (s *State) inVainLocked() time.Duration {
	known := &s.slowness.Known
	total := known.Total()
	if total <= 0 {
		return unansweredAfter
	}
	return max(unansweredAfter, unansweredTimes*known.Quantile(0.5, total))
}

// waitedLocked reports whether an attempt of the breaker's generation has waited at least
// atLeast for an answer while the endpoint answered no other call.
func (s *State) waitedLocked(f Watched, now time.Time, atLeast time.Duration) bool {
	t := f.own()
	return !t.Doubtful && t.Permit.Generation == s.breaker.Generation && f.HasStarted() && f.FirstByte() == 0 &&
		f.WaitedFor(now) >= atLeast && !f.StartedAt().Before(s.inVain.answered)
}

// isUnansweredLocked reports whether a cancelled attempt is unanswered. It reads ClientLeft
// last: only then does the attempt's goroutine no longer write it.
func (s *State) isUnansweredLocked(f Watched, now time.Time) bool {
	return s.waitedLocked(f, now, s.inVainLocked()) && f.own().ClientLeft
}

// cancelledLocked takes a cancelled attempt. It reports whether the control loop should look
// at the endpoint.
func (s *State) cancelledLocked(f Watched, now time.Time, cfg *breaker.Config) (changed bool) {
	t := f.own()
	if t.reported || !s.isUnansweredLocked(f, now) {
		return s.breaker.Cancel(now, t.Permit)
	}
	t.reported = true
	s.slowest = causeOf(f, "client left after "+rounded(f.WaitedFor(now)).String())
	if s.breaker.OnTrial(cfg) {
		s.inVain.patience = f.WaitedFor(now) / 2 // the next trial should move on before its client leaves
	}
	return s.leftWaitingLocked(t, now, cfg)
}

// leftWaitingLocked counts an unanswered attempt. It reports whether the control loop should
// look at the endpoint.
func (s *State) leftWaitingLocked(t *Ticket, now time.Time, cfg *breaker.Config) (changed bool) {
	switch {
	case s.breaker.OnTrial(cfg):
		s.breaker.AttemptEnded(true)
		return s.breaker.Unanswered(now, cfg, t.Permit)
	case s.breaker.State == breaker.Closed && s.slowness.Limit == 0, s.breaker.State == breaker.Recovering:
		s.inVain.run++
	}
	return s.isLeftWaitingLocked()
}

// isLeftWaitingLocked reports whether enough attempts in a row were unanswered to make the
// endpoint a suspect.
func (s *State) isLeftWaitingLocked() bool {
	if s.breaker.State == breaker.Recovering {
		return s.inVain.run >= unansweredAgain
	}
	return s.inVain.run >= unansweredRun
}

// watchTrialLocked looks at an attempt without an answer at an endpoint that recovers after
// its clients gave up. The attempt counts as unanswered before its client gives up, and a
// trial moves on. Each trial may wait twice as long as the one before, so that an endpoint
// that answers slowly comes back too.
func (s *State) watchTrialLocked(f Watched, now time.Time, cfg *breaker.Config) (changed bool) {
	t := f.own()
	if t.reported || s.breaker.State != breaker.Recovering || s.breaker.Opened != breaker.ReasonUnanswered {
		return false
	}
	most := max(s.inVainLocked(), s.inVain.patience)
	if !s.waitedLocked(f, now, most) {
		return false
	}
	t.reported = true
	s.slowest = slowerThan(f, most)
	if s.breaker.OnTrial(cfg) {
		s.inVain.patience = 2 * most
	}
	return s.leftWaitingLocked(t, now, cfg)
}

// suspectedLocked returns the breaker's reason for a suspect: ReasonSlower or
// ReasonUnanswered; empty if the endpoint is none.
func (s *State) suspectedLocked(now time.Time) string {
	switch {
	case s.slowness.Suspect() && s.slowness.Episode.IsTheEndpoints(now, s.slowness.Limit):
		return breaker.ReasonSlower
	case s.isLeftWaitingLocked():
		return breaker.ReasonUnanswered
	}
	return ""
}
