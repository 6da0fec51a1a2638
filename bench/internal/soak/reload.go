package soak

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/peers"
)

const (
	reloadEvery = 5 * time.Second
	brokenEvery = 5 // one load in brokenEvery is invalid
)

// reload keeps loading new configurations until quit. Caddy must refuse an invalid one.
func (i *instance) reload(quit chan struct{}) {
	for load := 1; ; load++ {
		select {
		case <-quit:
			return
		case <-time.After(reloadEvery):
		}
		i.control.Lock()
		i.reloadOnce(load)
		i.control.Unlock()
	}
}

// reloadOnce loads a configuration. i.control is held.
func (i *instance) reloadOnce(load int) {
	l := i.now.Load()
	if l == nil {
		return // it could not be started again
	}
	config := peers.InDir(i.config(load), i.proxy.Dir)
	broken := load%brokenEvery == 0
	if broken {
		config = breakConfig(config)
	}
	began := time.Now()
	l.reloads.begin()
	status, err := l.admin.load(config)
	l.reloads.end()
	switch {
	case err != nil:
		i.problem("reload %d: %v", load, err)
	case broken && status == http.StatusOK:
		i.problem("reload %d: a broken configuration was accepted", load)
	case !broken && status != http.StatusOK:
		i.problem("reload %d: status %d", load, status)
	default:
		i.trial.mu.Lock()
		i.trial.Reloads++
		i.trial.Slowest = max(i.trial.Slowest, time.Since(began).Seconds())
		i.trial.mu.Unlock()
	}
}

// reloads tracks whether a configuration is being replaced. The zero value has no reload.
// It is safe for concurrent use.
type reloads struct {
	loading atomic.Bool
	ended   atomic.Int64 // end of the last load in Unix nanoseconds
}

func (r *reloads) begin() { r.loading.Store(true) }

func (r *reloads) end() {
	r.ended.Store(time.Now().UnixNano())
	r.loading.Store(false)
}

// closing is how long after a load the previous servers may close idle connections.
const closing = 3 * time.Second

// underWay reports whether a configuration is being replaced, or was so recently that the
// previous servers still close connections.
func (r *reloads) underWay() bool {
	return r.loading.Load() || time.Since(time.Unix(0, r.ended.Load())) < closing
}
