package endpoint

import (
	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
)

// turned returns the event of the breaker's change since the latest call; nil if there is none.
// checks are those of the endpoint.
func (c *condition) turned(checks *checks) *event.Event {
	b := &c.breaker
	if b.Told.Turn == c.told {
		return nil
	}
	c.told = b.Told.Turn
	e := &event.Event{At: b.Told.Since, Reason: b.Told.Reason}
	switch b.Told.State {
	case breaker.Open:
		e.Kind = event.BreakerOpened
		e.Details = map[string]any{"until": b.Until, "relapses": b.Relapses}
		c.faults.opens(b.Told.Reason, b.Told.Since, checks)
		c.faults.opened.AddTo(e.Details)
		if c.faults.often > 0 {
			e.Details["failures"] = c.faults.often
		}
		if since := b.FailingSince(); !since.IsZero() && since.Before(e.At) {
			e.Details[event.FailingSince] = since
		}
	case breaker.ForcedOpen:
		e.Kind = event.BreakerOpened
		c.faults.opened = Cause{}
	case breaker.Recovering:
		e.Kind = event.BreakerRecovering
		e.Details = map[string]any{"opened": b.Opened}
	default:
		e.Kind = event.BreakerClosed
		c.faults.opened = Cause{}
		c.faults.kinds.forget()
	}
	return e
}

// newsOfLocked adds the events of a condition to news. The caller emits them after it has unlocked
// the mutex.
func (s *State) newsOfLocked(news []event.Event, c *condition) []event.Event {
	fresh := c.news
	c.news = nil
	if e := c.turned(&s.checks); e != nil {
		fresh = append(fresh, *e)
	}
	if c.left {
		return news // a forgotten scope has no events
	}
	for i := range fresh {
		fresh[i].Endpoint, fresh[i].Scope = s.Name, c.scope
	}
	if news == nil {
		return fresh
	}
	return append(news, fresh...)
}

// ChangeBreaker calls change on the breaker, and emits the events that follow.
func (s *State) ChangeBreaker(change func(*breaker.Breaker)) {
	s.tell(s.update(nil, func() bool {
		before := s.own.breaker.Generation
		change(&s.own.breaker)
		return s.own.breaker.Generation != before
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
