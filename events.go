package failover

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// emit lets an event out of the pool. It never blocks and calls nothing, so it
// may be used on the request path; not under a lock. At and Count may be left
// out, ID and Pool are filled in. Details must not be changed afterwards.
func (p *pool) emit(e event.Event) {
	e.Pool = p.name
	if e.At.IsZero() {
		e.At = time.Now()
	}
	e.Count = max(1, e.Count)
	p.outbox.Post(e)
}

// emitAll emits what was collected under a lock.
func (p *pool) emitAll(collected []event.Event) {
	for _, e := range collected {
		p.emit(e)
	}
}

// transitionLocked is the event of a breaker that is no longer in generation
// before; nil if it is.
func (s *endpointState) transitionLocked(before uint64) *event.Event {
	b := &s.breaker
	if b.Generation == before {
		return nil
	}
	e := &event.Event{At: b.Changed, Endpoint: s.name, Reason: b.Reason}
	switch b.State {
	case breaker.Open:
		e.Kind = event.BreakerOpened
		e.Details = map[string]any{"until": b.Until, "relapses": b.Relapses}
	case breaker.ForcedOpen:
		e.Kind = event.BreakerOpened
	case breaker.Recovering:
		e.Kind = event.BreakerRecovering
		e.Details = map[string]any{"opened": b.Opened}
	default:
		e.Kind = event.BreakerClosed
	}
	return e
}

// newsLocked takes the events that are to be emitted when the lock is free, with that of
// a breaker which is no longer in generation before.
func (s *endpointState) newsLocked(before uint64) []event.Event {
	news := s.news
	s.news = nil
	if e := s.transitionLocked(before); e != nil {
		news = append(news, *e)
	}
	return news
}

// heldLocked is the event of a hold that begins or goes on for longer.
func (s *endpointState) heldLocked(now time.Time) *event.Event {
	return &event.Event{
		At:       now,
		Kind:     event.EndpointHeld,
		Endpoint: s.name,
		Reason:   outcome.RateLimited.String(),
		Details:  map[string]any{"until": s.holdUntil, "seconds": s.holdUntil.Sub(now).Seconds()},
	}
}

// changeBreaker lets change work on the breaker, and emits what that brings
// about.
func (s *endpointState) changeBreaker(change func(*breaker.Breaker)) {
	s.mu.Lock()
	before := s.breaker.Generation
	change(&s.breaker)
	s.unlockAndTell(before, s.breaker.Generation != before)
}

// allOutLocked tells whether every endpoint is out for every handler that has any. It
// needs pool.mu.
func (g *generation) allOutLocked() bool {
	tables := 0
	for _, h := range g.handlers {
		if t := h.currentTable(); t != nil && len(t.targets) > 0 {
			if t.total > 0 {
				return false
			}
			tables++
		}
	}
	return tables > 0
}

// downLocked notes whether every endpoint is out, and returns the event that says so
// where that is new. It needs pool.mu.
func (p *pool) downLocked(g *generation, now time.Time) *event.Event {
	down := g.allOutLocked()
	if p.down.Swap(down) == down {
		return nil
	}
	if !down {
		p.history.Pool().SetDown(now, false, "")
		p.keeping.dirty.Store(true)
		return nil
	}
	e := &event.Event{At: now, Kind: event.AllDown, Reason: "breaker"}
	held, barred := 0, 0
	for _, s := range p.members {
		s.mu.Lock()
		if s.barred {
			barred++
		} else if now.Before(s.holdUntil) {
			held++
		}
		s.mu.Unlock()
	}
	switch {
	case barred == len(p.members):
		e.Reason = breaker.ReasonOperator
	case held == len(p.members):
		e.Reason = "hold"
	case held > 0:
		e.Reason = "breaker_and_hold"
	}
	e.Details = map[string]any{"endpoints": len(p.members)}
	p.history.Pool().SetDown(now, true, e.Reason)
	p.keeping.dirty.Store(true)
	return e
}
