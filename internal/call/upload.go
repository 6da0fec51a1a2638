package call

import "time"

const (
	// lookAfter is how long an attempt waits for its client before the watcher checks its connection.
	lookAfter = 50 * time.Millisecond
	// bodyPatience is how long the client of an answered or failed call has to send the rest of its
	// body.
	bodyPatience = 250 * time.Millisecond
)

// restOfBody returns how long the client has to send the rest of its body once it has an answer; 0: no
// bound, because with lb_retry_match the proxy may drop the answer, and the next attempt needs the body.
func (c *Call) restOfBody() time.Duration {
	if c.Handler.Rematches {
		return 0
	}
	return bodyPatience
}

// mayBeLost reports whether the watcher has to check the attempt's connection. It has to while the
// attempt waits for the client, because net/http does not report the connection's end then.
func (a *Attempt) mayBeLost(now time.Time) bool {
	return a.is(started) && a.sent != nil && a.first.Load() == 0 && a.sent.WaitsFor(now, lookAfter)
}

// clientSlow reports whether an attempt that has ended was waiting for its client at its end, or for
// more than half of the time.
func (a *Attempt) clientSlow(now time.Time) bool {
	r := a.sent
	if r == nil || r.Whole() != nil {
		return false
	}
	return r.CutIdle() || 2*a.had(now) < now.Sub(a.Began)
}

// leaveBody stops reading the client's body if no attempt will need it.
func (c *Call) leaveBody() {
	if c.finished && c.body != nil && c.body.Whole() == nil {
		c.body.StopReading(time.Now().Add(bodyPatience))
	}
}
