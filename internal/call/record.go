package call

import (
	"context"
	"time"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

// RecordsCall implements flight.
func (a *Attempt) RecordsCall(firstByte time.Duration) (waited time.Duration, ok bool) {
	if a.Call.recorded.Swap(true) {
		return 0, false
	}
	return a.sinceCall(firstByte), true
}

// sinceCall is how long the client has waited for a first byte that came
// firstByte after the attempt began, 0 if none came.
func (a *Attempt) sinceCall(firstByte time.Duration) time.Duration {
	if firstByte == 0 {
		return 0
	}
	return max(firstByte, a.Began.Sub(a.Call.began())+firstByte)
}

// record notes what the client of a call got, once: what its last attempt came to.
// An attempt whose answer goes to the client is marked final instead, and its call
// is recorded when the attempt is settled.
func (c *Call) record(a *Attempt, o outcome.Outcome) {
	if o != outcome.Cancelled && c.keptAnswer() != nil {
		return // the client gets that answer
	}
	if waited, ok := a.RecordsCall(a.FirstByte()); ok {
		a.Target.State.CountCall(o, waited)
	}
}

// recordAtEnd records the call when this attempt, whose answer goes to the client,
// is settled, or now if it has been.
func (c *Call) recordAtEnd(a *Attempt) {
	if o, final := a.Target.State.Finalize(&a.Ticket); final && o != outcome.Pending {
		c.record(a, o)
	}
}

// recordAfterRequest records the call when its request is over, unless the attempt's
// answer, which the proxy has now, has been thrown away by then: nothing else tells
// that lb_retry_match lets an answer through.
func (c *Call) recordAfterRequest(a *Attempt) {
	context.AfterFunc(c.Request.Context(), func() {
		c.recordAtEnd(a)
		if c.body != nil {
			c.body.Finish()
		}
	})
}

// passOver notes that the proxy has thrown the attempt's answer away; false if the
// request is over, and the call has been recorded with it.
func (a *Attempt) passOver() bool { return a.Target.State.PassOver(&a.Ticket) }
