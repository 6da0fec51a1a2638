package endpoint

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
)

// An attempt is unanswered if its client ended it before the first byte of an answer, after
// at least unansweredAfter and unansweredTimes the endpoint's usual first byte, and the
// endpoint has begun no good answer since the attempt began. Where all clients give up before
// the timeout, nothing else shows that an endpoint hangs. One that is left sooner, or beside
// others that are answered, says nothing.
//
// Where it is known what is slow, an unanswered attempt is a slow one. Else
// unansweredRun in a row make a suspect.
const (
	unansweredAfter = time.Second
	unansweredTimes = 3
	unansweredRun   = 5
	// unansweredAgain in a row are enough where the endpoint recovers and has calls besides a
	// trial.
	unansweredAgain = 2
)

// unanswered is what attempts have said that nobody waited for any longer. The zero value
// has seen none. The state's mutex guards it.
type unanswered struct {
	run      int           // in a row
	answered time.Time     // when a good answer was seen to begin last
	patience time.Duration // how long a trial may wait where clients have given up before; 0: as long as any
}

// answer notes that a good answer has begun, by now.
func (u *unanswered) answer(now time.Time) {
	u.run, u.answered, u.patience = 0, now, 0
}

// inVainLocked is how long an attempt has to wait for its client's leaving to say something.
func (s *State) inVainLocked() time.Duration {
	known := &s.slowness.Known
	total := known.Total()
	if total <= 0 {
		return unansweredAfter
	}
	return max(unansweredAfter, unansweredTimes*known.Quantile(0.5, total))
}

// waitedLocked tells whether an attempt of the breaker's generation has waited that long for
// an answer, while the endpoint has answered nobody else.
func (s *State) waitedLocked(f Watched, now time.Time, atLeast time.Duration) bool {
	t := f.own()
	return !t.Doubtful && t.Permit.Generation == s.breaker.Generation && f.HasStarted() && f.FirstByte() == 0 &&
		f.WaitedFor(now) >= atLeast && !f.StartedAt().Before(s.inVain.answered)
}

// isUnansweredLocked tells whether an attempt that has been cancelled is unanswered.
func (s *State) isUnansweredLocked(f Watched, now time.Time) bool {
	return s.waitedLocked(f, now, s.inVainLocked()) && f.own().ClientLeft // which only then nobody writes any longer
}

// cancelledLocked takes an attempt that has been cancelled. It returns true if the control
// loop should look at the endpoint.
func (s *State) cancelledLocked(f Watched, now time.Time, cfg *breaker.Config) (changed bool) {
	t := f.own()
	if t.reported || !s.isUnansweredLocked(f, now) {
		return s.breaker.Cancel(now, t.Permit)
	}
	t.reported = true
	s.slowest = causeOf(f, "client left after "+rounded(f.WaitedFor(now)).String())
	if s.breaker.OnTrial(cfg) {
		s.inVain.patience = f.WaitedFor(now) / 2 // so that the next client is still there
	}
	return s.leftWaitingLocked(t, now, cfg)
}

// leftWaitingLocked takes an attempt that is unanswered.
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

// isLeftWaitingLocked tells whether so many attempts in a row were unanswered that the
// endpoint is a suspect.
func (s *State) isLeftWaitingLocked() bool {
	if s.breaker.State == breaker.Recovering {
		return s.inVain.run >= unansweredAgain
	}
	return s.inVain.run >= unansweredRun
}

// watchTrialLocked looks at an attempt that has no answer yet, at an endpoint that recovers
// after clients have given up there. It is not kept waiting until its client does: it counts
// as unanswered, and a trial moves on. A trial may wait for twice as long as the last one did,
// since an endpoint that answers slowly must come back, too.
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

// suspectedLocked is the reason why calls should be kept from the endpoint, as far as it is
// known how long they wait there; empty if there is none.
func (s *State) suspectedLocked(now time.Time) string {
	switch {
	case s.slowness.Suspect() && s.slowness.Episode.IsTheEndpoints(now, s.slowness.Limit):
		return breaker.ReasonSlower
	case s.isLeftWaitingLocked():
		return breaker.ReasonUnanswered
	}
	return ""
}
