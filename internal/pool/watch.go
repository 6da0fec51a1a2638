package pool

import (
	"math"
	"time"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/event"
)

// endOverdue ends the attempts that are overdue. It returns how many are in flight, and the
// shortest time after which something may have to be done about one of them.
func (p *Pool) endOverdue(now time.Time) (inFlight int, shortest time.Duration) {
	shortest = math.MaxInt64
	var verdicts []verdict
	var collected []event.Event
	looked := false
	p.Mu.Lock()
	cfg := p.breakerConfig()
	for _, s := range p.awakeLocked() {
		if s.Busy.Load() == 0 {
			continue
		}
		if cfg != nil {
			changed, news := s.Watch(now, cfg)
			looked = looked || changed
			collected = append(collected, news...)
		}
		inFlight += p.overdue(s.State, now, &verdicts, &shortest)
	}
	p.Mu.Unlock()
	p.emitAll(collected)
	if looked {
		p.Poke()
	}
	for _, s := range p.leaving.busy() {
		inFlight += p.overdue(s, now, &verdicts, &shortest)
	}
	for _, v := range verdicts {
		v.watched.Act(v.why, now)
	}
	return inFlight, shortest
}

// A watched is an attempt as the watcher sees it. Its methods may be called from any
// goroutine.
type watched interface {
	// Look returns what to do about the attempt; NotEnded: nothing. open says that its
	// endpoint's breaker is open. It runs under the endpoint's mutex.
	Look(now time.Time, open bool) endpoint.Ending
	// Act does what Look returned. No lock is held.
	Act(why endpoint.Ending, now time.Time)
	// PatienceLeft returns the shortest time after which something may have to be done.
	PatienceLeft() time.Duration
}

// A verdict says what to do about an attempt.
type verdict struct {
	watched watched
	why     endpoint.Ending
}

// overdue adds verdicts for the attempts at an endpoint, and returns how many are in flight.
// It lowers shortest to their PatienceLeft.
func (p *Pool) overdue(s *endpoint.State, now time.Time, verdicts *[]verdict, shortest *time.Duration) (inFlight int) {
	s.LookOver(now, func(f endpoint.Watched, open bool) {
		a := f.(watched)
		inFlight++
		*shortest = min(*shortest, a.PatienceLeft())
		if why := a.Look(now, open); why != endpoint.NotEnded {
			*verdicts = append(*verdicts, verdict{a, why})
		}
	})
	return inFlight
}
