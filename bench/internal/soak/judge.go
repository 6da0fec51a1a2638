package soak

import "time"

const (
	// settling is the time until all counts are complete: the plugin reports folded events
	// within a second, and counts samples at each tick.
	settling = 2500 * time.Millisecond
	// idling is the time until idle connections to endpoints are closed.
	idling = 3 * time.Second
)

// judge looks for problems after the traffic has ended, and then ends the instances.
func (t *trial) judge() {
	first := t.instances[0].now.Load()
	for _, i := range t.instances {
		l := i.now.Load()
		l.close()
		l.judge()
		i.closeIdle()
	}
	time.Sleep(idling)
	var err error
	if t.Growth.GoroutinesAfter, t.Growth.HeapAfter, err = first.admin.size(); err != nil {
		t.problem("reading the size of the process: %v", err)
	}
	t.judgeGrowth(first.sizes)
	for _, i := range t.instances {
		i.proxy.Stop()
		i.judgeLog()
	}
}

// judge compares what clients saw of the process with its own counts. It takes no more requests.
func (l *life) judge() {
	time.Sleep(settling)
	l.stopWatching()
	if err := l.admin.follow(); err != nil {
		l.problem("reading events: %v", err)
	}
	for _, pool := range pools {
		v := verdict{pool: pool, moves: *l.admin.moves[pool], problem: func(format string, args ...any) {
			l.problem("pool "+pool+": "+format, args...)
		}}
		var unexplained []string
		v.calls, unexplained = l.tallies[pool].counted()
		for _, what := range unexplained {
			v.problem("a client failed: %s", what)
		}
		v.judge(l.admin, l.before[pool])
		l.trial.add(v)
	}
}

// add adds what was judged of a process to the result.
func (t *trial) add(v verdict) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Calls.add(v.calls)
	t.Counts.add(v.counts)
}
