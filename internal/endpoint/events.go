package endpoint

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// transitionLocked returns the event of the breaker's change since the turn before; nil if
// there is none.
func (s *State) transitionLocked(before uint64) *event.Event {
	b := &s.breaker
	if b.Told.Turn == before {
		return nil
	}
	e := &event.Event{At: b.Told.Since, Endpoint: s.Name, Reason: b.Told.Reason}
	switch b.Told.State {
	case breaker.Open:
		e.Kind = event.BreakerOpened
		e.Details = map[string]any{"until": b.Until, "relapses": b.Relapses}
		if cause, often := s.blamedOn(b.Told.Reason); cause.What != "" {
			s.cause, s.caused, s.causedAt = cause, often, b.Told.Since
		}
		s.cause.AddTo(e.Details)
		if s.caused > 0 {
			e.Details["failures"] = s.caused
		}
	case breaker.ForcedOpen:
		e.Kind = event.BreakerOpened
		s.cause = Cause{}
	case breaker.Recovering:
		e.Kind = event.BreakerRecovering
		e.Details = map[string]any{"opened": b.Opened}
	default:
		e.Kind = event.BreakerClosed
		s.cause = Cause{}
		s.failures.forget()
	}
	return e
}

// heldLocked returns the event of a hold that begins or becomes longer.
func (s *State) heldLocked(now time.Time) *event.Event {
	e := &event.Event{
		At:       now,
		Kind:     event.EndpointHeld,
		Endpoint: s.Name,
		Reason:   outcome.RateLimited.String(),
		Details:  map[string]any{"until": s.holdUntil, "seconds": s.holdUntil.Sub(now).Seconds()},
	}
	s.heldFor.AddTo(e.Details)
	return e
}

// ChangeBreaker calls change on the breaker, and emits the events that follow.
func (s *State) ChangeBreaker(change func(*breaker.Breaker)) {
	s.tell(s.update(func() bool {
		before := s.breaker.Generation
		change(&s.breaker)
		return s.breaker.Generation != before
	}))
}

// explain adds a detail to the event of a transition, if the last event is one.
func explain(news []event.Event, name string, value any) {
	if len(news) == 0 {
		return
	}
	if last := &news[len(news)-1]; last.Kind != event.EndpointHeld && last.Details != nil {
		last.Details[name] = value
	}
}

// newsLocked returns the events to emit once the mutex is free, including that of the
// breaker's change since the turn before.
func (s *State) newsLocked(before uint64) []event.Event {
	news := s.news
	s.news = nil
	if e := s.transitionLocked(before); e != nil {
		news = append(news, *e)
	}
	return news
}
