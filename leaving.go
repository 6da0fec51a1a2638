package failover

import (
	"slices"
	"sync"
)

// leaving are the endpoints that are no longer in the pool but have attempts in
// flight: requests outlive the configuration they began in, and so must their
// timeouts. The zero value is empty.
type leaving struct {
	mu     sync.Mutex // taken while an endpoint's is held, never the other way round
	states []*endpointState
}

// take keeps an endpoint that leaves the pool in sight.
func (l *leaving) take(s *endpointState) {
	s.mu.Lock()
	s.left = true
	if !s.inFlight.empty() {
		l.add(s)
	}
	s.mu.Unlock()
}

// busyOutside implements owner.
func (p *pool) busyOutside(s *endpointState) { p.leaving.add(s) }

// add watches over an endpoint until nothing is in flight there.
func (l *leaving) add(s *endpointState) {
	l.mu.Lock()
	if !slices.Contains(l.states, s) {
		l.states = append(l.states, s)
	}
	l.mu.Unlock()
}

// busy returns the endpoints where attempts are in flight.
func (l *leaving) busy() []*endpointState {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.states = slices.DeleteFunc(l.states, func(s *endpointState) bool { return s.busy.Load() == 0 })
	return slices.Clone(l.states)
}
