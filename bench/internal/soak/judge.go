package soak

import "time"

const (
	// settling is the time until all counts are complete: the plugin reports folded events
	// within a second, and counts samples at each tick.
	settling = 2500 * time.Millisecond
	// idling is the time until idle connections to endpoints are closed.
	idling = 3 * time.Second
)

// judge looks for problems after the traffic has ended, and then ends the proxy.
func (t *trial) judge(sizes []size) {
	var unexplained []string
	t.Calls, unexplained = t.traffic.counted()
	for _, what := range unexplained {
		t.problem("a client failed: %s", what)
	}
	if c := t.Calls; c.Sent != c.OK+c.SocketsCut+c.Explained+c.Unexplained+c.Cancelled {
		t.problem("clients: %d sent, but %d correct + %d WebSockets cut off + %d explained + %d unexplained + %d cancelled",
			c.Sent, c.OK, c.SocketsCut, c.Explained, c.Unexplained, c.Cancelled)
	}
	time.Sleep(settling)
	if err := t.admin.follow(); err != nil {
		t.problem("reading events: %v", err)
	}
	t.judgeCounts()

	t.traffic.close()
	time.Sleep(idling)
	var err error
	if t.Growth.GoroutinesAfter, t.Growth.HeapAfter, err = t.admin.size(); err != nil {
		t.problem("reading the size of the process: %v", err)
	}
	t.judgeGrowth(sizes)

	t.proxy.Stop()
	log, err := t.proxy.Log()
	if err != nil {
		t.problem("reading the log: %v", err)
	}
	var bad []string
	bad, t.CaddyRaces = judgeLog(log)
	for _, text := range bad {
		t.problem("in the log: %s", text)
	}
}
