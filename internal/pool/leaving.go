package pool

import (
	"slices"
	"sync"
	"time"

	"github.com/apifailover/caddy-failover/internal/endpoint"
)

// leaving holds the endpoints that have left the pool but still have attempts in flight. Requests
// outlive the configuration in which they began, so the pool still watches their timeouts and counts
// their results. The zero value is empty.
type leaving struct {
	mu   sync.Mutex // may be taken while an endpoint's mutex is held, but not the other way round
	gone []gone
}

// gone is an endpoint that is no longer in the pool.
type gone struct {
	*endpoint.State
	quiet bool // at the latest look, nothing was in flight and nothing was left to count
}

// take adds an endpoint that leaves the pool.
func (l *leaving) take(s *endpoint.State) {
	s.Leave()
	l.add(s)
}

// BusyOutside implements owner.
func (p *Pool) BusyOutside(s *endpoint.State) { p.leaving.add(s) }

// HasRoom implements owner.
func (p *Pool) HasRoom() { p.Queue.Wake() }

// add keeps an endpoint until nothing is in flight there and everything has been counted.
func (l *leaving) add(s *endpoint.State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.gone {
		if l.gone[i].State == s {
			l.gone[i].quiet = false
			return
		}
	}
	l.gone = append(l.gone, gone{State: s})
}

// busy returns the endpoints where attempts are in flight.
func (l *leaving) busy() (states []*endpoint.State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, g := range l.gone {
		if g.Busy.Load() > 0 {
			states = append(states, g.State)
		}
	}
	return states
}

// all returns all endpoints.
func (l *leaving) all() (states []*endpoint.State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, g := range l.gone {
		states = append(states, g.State)
	}
	return states
}

// lookedAt notes whether an endpoint is quiet, and drops it when it is quiet twice in a row. Once is
// not enough, because a request reports its call a little after its attempt has ended.
func (l *leaving) lookedAt(s *endpoint.State, quiet bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.gone, func(g gone) bool { return g.State == s })
	switch {
	case i < 0:
	case quiet && l.gone[i].quiet && s.Busy.Load() == 0:
		l.gone = slices.Delete(l.gone, i, i+1)
	default:
		l.gone[i].quiet = quiet
	}
}

// foldLeavingLocked takes the counts of endpoints that have left. It needs Pool.Mu.
func (p *Pool) foldLeavingLocked(now time.Time) {
	states := p.leaving.all()
	if len(states) == 0 {
		return
	}
	known := p.History.Endpoints()
	for _, s := range states {
		quiet := s.Busy.Load() == 0
		fresh := s.TakeFresh(now)
		p.leaving.lookedAt(s, quiet && fresh == nil)
		if fresh == nil {
			continue
		}
		if _, has := slices.BinarySearch(known, s.Name); has { // an endpoint that never was in the pool has no history
			p.History.Endpoint(s.Name).RecordBatch(now, &fresh.Attempts)
			for r, n := range fresh.Failovers {
				p.History.RecordFailovers(now, s.Name, r.To, n)
			}
		}
		p.recordCallsLocked(now, &fresh.Calls)
		s.Reuse(fresh)
	}
}
