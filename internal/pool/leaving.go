package pool

import (
	"slices"
	"sync"

	"github.com/apifailover/caddy-failover/internal/endpoint"
)

// leaving are the endpoints that are no longer in the pool but have attempts in
// flight: requests outlive the configuration they began in, and so must their
// timeouts. The zero value is empty.
type leaving struct {
	mu     sync.Mutex // taken while an endpoint's is held, never the other way round
	states []*endpoint.State
}

// take keeps an endpoint that leaves the pool in sight.
func (l *leaving) take(s *endpoint.State) {
	if s.Leave() {
		l.add(s)
	}
}

// BusyOutside implements owner.
func (p *Pool) BusyOutside(s *endpoint.State) { p.leaving.add(s) }

// HasRoom implements owner.
func (p *Pool) HasRoom() { p.Queue.Wake() }

// add watches over an endpoint until nothing is in flight there.
func (l *leaving) add(s *endpoint.State) {
	l.mu.Lock()
	if !slices.Contains(l.states, s) {
		l.states = append(l.states, s)
	}
	l.mu.Unlock()
}

// busy returns the endpoints where attempts are in flight.
func (l *leaving) busy() []*endpoint.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.states = slices.DeleteFunc(l.states, func(s *endpoint.State) bool { return s.Busy.Load() == 0 })
	return slices.Clone(l.states)
}
