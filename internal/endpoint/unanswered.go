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
// If the usual latency is known, an unanswered attempt counts as a slow one. Otherwise unansweredRun in
// a row make the endpoint a suspect.
const (
	unansweredAfter = time.Second
	unansweredTimes = 3
	unansweredRun   = 5
	// unansweredAgain is the same for a recovering endpoint that is not on trial.
	unansweredAgain = 2
)

// unanswered counts unanswered attempts. The zero value has seen none. The state's mutex guards it.
type unanswered struct {
	run      int           // unanswered attempts in a row
	answered time.Time     // when a good answer last began, as far as known
	patience time.Duration // how long a trial may wait after clients gave up; 0: no such limit
}

// answer notes that a good answer has begun at now or before.
func (u *unanswered) answer(now time.Time) {
	u.run, u.answered, u.patience = 0, now, 0
}

// patience returns how long a client must have waited so that its leaving counts.
func (c *condition) patience() time.Duration {
	known := &c.slowness.Known
	total := known.Total()
	if total <= 0 {
		return unansweredAfter
	}
	return max(unansweredAfter, unansweredTimes*known.Quantile(0.5, total))
}

// hasWaited reports whether an attempt of the breaker's generation has waited at least
// atLeast for an answer while the endpoint answered no other call.
func (c *condition) hasWaited(f Watched, now time.Time, atLeast time.Duration) bool {
	t := f.own()
	return !t.Doubtful && t.Permit.Generation == c.breaker.Generation && f.HasStarted() && f.FirstByte() == 0 &&
		f.WaitedFor(now) >= atLeast && !f.StartedAt().Before(c.inVain.answered)
}

// isUnanswered reports whether a cancelled attempt is unanswered. It reads ClientLeft last, because
// before that the attempt's goroutine may still write it.
func (c *condition) isUnanswered(f Watched, now time.Time) bool {
	return c.hasWaited(f, now, c.patience()) && f.own().ClientLeft
}

// cancelled takes a cancelled attempt. It reports whether the control loop should look at the
// endpoint.
func (c *condition) cancelled(f Watched, now time.Time, cfg *breaker.Config) (changed bool) {
	t := f.own()
	if silent := f.Flow().silence(now); silent > 0 && !t.reported {
		return c.leftInSilence(f, silent, now, cfg)
	}
	if t.reported || !c.isUnanswered(f, now) {
		return c.breaker.Cancel(now, t.Permit)
	}
	t.reported = true
	c.faults.slowest = causeOf(f, "client left after "+rounded(f.WaitedFor(now)).String())
	if c.breaker.OnTrial(cfg) {
		c.inVain.patience = f.WaitedFor(now) / 2 // the next trial should move on before its client leaves
	}
	return c.leftWaiting(t, now, cfg)
}

// leftWaiting counts an unanswered attempt. It reports whether the control loop should
// look at the endpoint.
func (c *condition) leftWaiting(t *Ticket, now time.Time, cfg *breaker.Config) (changed bool) {
	switch {
	case c.breaker.OnTrial(cfg):
		c.breaker.AttemptEnded(true)
		return c.breaker.Unanswered(now, cfg, t.Permit)
	case c.breaker.State == breaker.Closed && c.slowness.Limit == 0, c.breaker.State == breaker.Recovering:
		c.inVain.run++
	}
	return c.isLeftWaiting()
}

// isLeftWaiting reports whether enough attempts in a row were unanswered, or left in silence, to make
// the endpoint a suspect.
func (c *condition) isLeftWaiting() bool {
	enough := unansweredRun
	if c.breaker.State == breaker.Recovering {
		enough = unansweredAgain
	}
	return max(c.inVain.run, c.silence.run) >= enough
}

// watchTrial looks at an attempt without an answer, at an endpoint that recovers after its clients
// gave up. It counts the attempt as unanswered before its client gives up, so that a trial moves on.
// Each trial may wait twice as long as the one before. So an endpoint that answers slowly comes back,
// too.
func (c *condition) watchTrial(f Watched, now time.Time, cfg *breaker.Config) (changed bool) {
	t := f.own()
	if t.reported || c.breaker.State != breaker.Recovering || c.breaker.Opened != breaker.ReasonUnanswered {
		return false
	}
	most := max(c.patience(), c.inVain.patience)
	if !c.hasWaited(f, now, most) {
		return false
	}
	t.reported = true
	c.faults.slowest = slowerThan(f, most)
	if c.breaker.OnTrial(cfg) {
		c.inVain.patience = 2 * most
	}
	return c.leftWaiting(t, now, cfg)
}

// suspected returns the breaker's reason for a suspect: ReasonSlower or
// ReasonUnanswered; empty if the endpoint is none.
func (c *condition) suspected(now time.Time) string {
	switch {
	case c.slowness.Suspect() && c.slowness.Episode.EndpointIsSlow(now, c.slowness.Limit):
		return breaker.ReasonSlower
	case c.flows.suspect(now) != nil:
		return breaker.ReasonSlower
	case c.isLeftWaiting():
		return breaker.ReasonUnanswered
	}
	return ""
}
