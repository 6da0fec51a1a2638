package call

import "time"

const (
	// lookAfter is how long it waits before it is looked whether its connection is alive.
	lookAfter = 50 * time.Millisecond
	// restOfBody is how long the client of a call that failed has to send the rest of its
	// body before it is answered.
	restOfBody = 250 * time.Millisecond
)

// mayBeLost tells the watcher whether to look at the attempt's connection: net/http
// tells nobody of its end while the client is waited for.
func (a *Attempt) mayBeLost(now time.Time) bool {
	return a.is(started) && a.sent != nil && a.first.Load() == 0 && a.sent.WaitsFor(now, lookAfter)
}

// clientSlow tells whether an attempt that has ended was waiting for its client then, or had
// been for most of the time.
func (a *Attempt) clientSlow(now time.Time) bool {
	r := a.sent
	if r == nil || r.Whole() != nil {
		return false
	}
	return r.CutIdle() || 2*a.had(now) < now.Sub(a.Began)
}

// leaveBody ends the reading of a client's body that no attempt will need.
func (c *Call) leaveBody() {
	if c.finished && c.body != nil && c.body.Whole() == nil {
		c.body.StopReading(time.Now().Add(restOfBody))
	}
}
