package soak

import (
	"context"
	"time"
)

const (
	killEvery = 15 * time.Second
	deadFor   = 2 * time.Second // from a kill to the next start
)

// kill keeps killing one of the instances but the first, in turn, and starts it again, until quit.
// Every second kill is under load: its clients see it, and nothing can be read of that process
// any more. The other kills are of a process without requests, whose counts are judged before.
func (t *trial) kill(ctx context.Context, quit chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-quit:
			return
		case <-time.After(killEvery):
		}
		i := t.instances[1+n/2%(len(t.instances)-1)]
		i.control.Lock()
		err := i.killOnce(ctx, n%2 == 1)
		i.control.Unlock()
		if err != nil {
			i.problem("starting again after a kill: %v", err)
			return
		}
	}
}

// killOnce kills the instance and starts it again. i.control is held.
func (i *instance) killOnce(ctx context.Context, underLoad bool) error {
	l := i.now.Load()
	t := i.trial
	if underLoad {
		l.killed.Store(true)
		i.proxy.Kill()
		l.close()
		l.stopWatching()
		t.lose(l)
	} else {
		l.close()
		l.judge()
		i.proxy.Kill()
	}
	i.judgeLog()
	i.closeIdle()
	t.mu.Lock()
	t.Kills++
	t.mu.Unlock()
	select {
	case <-time.After(deadFor):
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := t.launcher.Restart(ctx, i.proxy); err != nil {
		return err
	}
	return i.begin(0)
}

// lose adds what clients saw of a process that was killed under load.
func (t *trial) lose(l *life) {
	for pool, tally := range l.tallies {
		calls, unexplained := tally.counted()
		for _, what := range unexplained {
			l.problem("pool %s: a client failed: %s", pool, what)
		}
		t.mu.Lock()
		t.Lost.Calls += calls.Sent
		t.Lost.Cut += calls.Killed
		t.mu.Unlock()
	}
}
