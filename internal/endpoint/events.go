package endpoint

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// transitionLocked is the event of a breaker that is no longer in generation
// before; nil if it is.
func (s *State) transitionLocked(before uint64) *event.Event {
	b := &s.Breaker
	if b.Generation == before {
		return nil
	}
	e := &event.Event{At: b.Changed, Endpoint: s.Name, Reason: b.Reason}
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

// heldLocked is the event of a hold that begins or goes on for longer.
func (s *State) heldLocked(now time.Time) *event.Event {
	return &event.Event{
		At:       now,
		Kind:     event.EndpointHeld,
		Endpoint: s.Name,
		Reason:   outcome.RateLimited.String(),
		Details:  map[string]any{"until": s.HoldUntil, "seconds": s.HoldUntil.Sub(now).Seconds()},
	}
}

// ChangeBreaker lets change work on the breaker, and emits what that brings
// about.
func (s *State) ChangeBreaker(change func(*breaker.Breaker)) {
	s.tell(s.update(func() bool {
		before := s.Breaker.Generation
		change(&s.Breaker)
		return s.Breaker.Generation != before
	}))
}

// explain adds to the event of a transition, if there is one, what brought that about.
func explain(news []event.Event, name string, value any) {
	if len(news) == 0 {
		return
	}
	if last := &news[len(news)-1]; last.Kind != event.EndpointHeld && last.Details != nil {
		last.Details[name] = value
	}
}

// newsLocked takes the events that are to be emitted when the lock is free, with that of
// a breaker which is no longer in generation before.
func (s *State) newsLocked(before uint64) []event.Event {
	news := s.news
	s.news = nil
	if e := s.transitionLocked(before); e != nil {
		news = append(news, *e)
	}
	return news
}
