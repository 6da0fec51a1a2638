package call

import (
	"context"
	"time"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

// RecordsCall implements endpoint.Watched.
func (a *Attempt) RecordsCall(firstByte time.Duration) (waited time.Duration, ok bool) {
	if a.Call.recorded.Swap(true) {
		return 0, false
	}
	return a.sinceCall(firstByte), true
}

// sinceCall returns how long the client waited for a first byte that came firstByte after the
// attempt began; 0 if none came.
func (a *Attempt) sinceCall(firstByte time.Duration) time.Duration {
	if firstByte == 0 {
		return 0
	}
	return max(firstByte, a.Began.Sub(a.Call.began())+firstByte)
}

// record counts a call once, with the outcome of its last attempt. An attempt whose answer goes
// to the client is marked final instead, and records its call when it is settled.
func (c *Call) record(a *Attempt, o outcome.Outcome) {
	if o != outcome.Cancelled && c.keptAnswer() != nil {
		return // the client gets that answer
	}
	if waited, ok := a.RecordsCall(a.FirstByte()); ok {
		a.Target.State.CountCall(o, waited)
	}
}

// recordAtEnd records the call when the attempt, whose answer goes to the client, is settled, or
// now if it is settled already.
func (c *Call) recordAtEnd(a *Attempt) {
	if o, final := a.Target.State.Finalize(&a.Ticket); final && o != outcome.Pending {
		c.record(a, o)
	}
}

// recordAfterRequest records the call when its request is over, unless the proxy has dropped the
// attempt's answer by then. Only then is it known that lb_retry_match did not match the answer.
func (c *Call) recordAfterRequest(a *Attempt) {
	context.AfterFunc(c.Request.Context(), func() {
		c.recordAtEnd(a)
		if c.body != nil {
			c.body.Finish()
		}
	})
}

// passOver notes that the proxy has dropped the attempt's answer. It returns false if the call has
// been recorded already.
func (a *Attempt) passOver() bool { return a.Target.State.PassOver(&a.Ticket) }
