package endpoint

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// OverSuffix ends the reason of the event for an order whose time is over.
const OverSuffix = "_over"

// An Order is an operator's order in force. It is read-only; its address identifies it.
type Order struct {
	Action string // drain, trip, enable; weight, priority
	Reason string
	since  time.Time
	until  time.Time // zero: until it is undone
	timer  *time.Timer
}

// stop stops the timer of an order; o may be nil.
func (o *Order) stop() {
	if o != nil && o.timer != nil {
		o.timer.Stop()
	}
}

// A setting replaces a configured value.
type setting[T any] struct {
	*Order
	value T
}

// settings are the operator's settings of an endpoint; nil: as configured. They are read-only.
type settings struct {
	weight   *setting[float64]
	priority *setting[int]
}

// Obey carries out an order. It returns how many attempts are in flight, and the events.
func (s *State) Obey(c api.Order, now time.Time, cfg *breaker.Config) (inFlight int64, news []event.Event) {
	_, news = s.update(nil, func() bool {
		s.obeyLocked(c, now, cfg)
		inFlight = s.Busy.Load()
		return true
	})
	return inFlight, news
}

// Overrides returns the weight and priority that an operator or, if not, a schedule has set; nil: as
// configured.
func (s *State) Overrides() (weight *float64, priority *int) {
	if p := s.planned.Load(); p != nil {
		weight, priority = p.Weight, p.Priority
	}
	if in := s.settings.Load(); in != nil {
		if in.weight != nil {
			weight = &in.weight.value
		}
		if in.priority != nil {
			priority = &in.priority.value
		}
	}
	return weight, priority
}

func (s *State) obeyLocked(c api.Order, now time.Time, cfg *breaker.Config) {
	if c.Action == api.Set {
		s.set(c, now)
		return
	}
	s.order.stop()
	s.order = nil
	s.countLocked(now)
	switch {
	case c.Action == api.Trip:
		s.own.breaker.Force(now, breaker.ForcedOpen)
	case c.Action == api.Enable && c.Lasts > 0:
		s.own.breaker.Force(now, breaker.ForcedClosed)
	default:
		s.own.breaker.Release(now, cfg)
	}
	switch {
	case c.Action == api.Reset:
		s.own.reset(now)
		s.scopes.drop(now, breaker.ReasonOperator)
	case c.Action != api.Enable || c.Lasts > 0:
		s.order = s.newOrder(c.Action, c, now)
	}
	s.barLocked()
}

// set puts settings in force, or removes them.
func (s *State) set(c api.Order, now time.Time) {
	var next settings
	if old := s.settings.Load(); old != nil {
		next = *old
	}
	if c.Weight.Made {
		if next.weight != nil {
			next.weight.stop()
			next.weight = nil
		}
		if value := c.Weight.Value; value != nil {
			next.weight = &setting[float64]{s.newOrder(api.Weight, c, now), *value}
		}
	}
	if c.Priority.Made {
		if next.priority != nil {
			next.priority.stop()
			next.priority = nil
		}
		if value := c.Priority.Value; value != nil {
			next.priority = &setting[int]{s.newOrder(api.Priority, c, now), *value}
		}
	}
	s.putInForce(next)
}

func (s *State) putInForce(next settings) {
	if next == (settings{}) {
		s.settings.Store(nil)
		return
	}
	s.settings.Store(&next)
}

// newOrder returns an order. When its time is over, it calls Owner.OrderOver.
func (s *State) newOrder(action string, c api.Order, now time.Time) *Order {
	o := &Order{Action: action, Reason: c.Reason, since: now}
	if c.Lasts > 0 {
		o.until = now.Add(c.Lasts)
		o.timer = time.AfterFunc(c.Lasts, func() { s.Owner.OrderOver(s, o, time.Now()) })
	}
	return o
}

// EndOrder ends an order. It returns whether the order was still in force, and the events.
func (s *State) EndOrder(o *Order, now time.Time, cfg *breaker.Config) (ended bool, news []event.Event) {
	return s.update(nil, func() bool { return s.endOrderLocked(o, now, cfg) })
}

func (s *State) endOrderLocked(o *Order, now time.Time, cfg *breaker.Config) bool {
	if s.order == o {
		s.order = nil
		s.barLocked()
		s.own.breaker.Release(now, cfg)
		return true
	}
	in := s.settings.Load()
	if in == nil {
		return false
	}
	next := *in
	switch {
	case next.weight != nil && next.weight.Order == o:
		next.weight = nil
	case next.priority != nil && next.priority.Order == o:
		next.priority = nil
	default:
		return false
	}
	s.putInForce(next)
	return true
}

// ForgetOrders stops the timers of the orders of an endpoint that is no longer used.
func (s *State) ForgetOrders() {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	s.order.stop()
	if in := s.settings.Load(); in != nil {
		if in.weight != nil {
			in.weight.stop()
		}
		if in.priority != nil {
			in.priority.stop()
		}
	}
}

// Steered reports whether an operator's order is in force.
func (s *State) Steered() bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.order != nil || s.settings.Load() != nil
}

// BarredUntil reports whether an operator or a schedule keeps attempts away, and until when;
// without an end it returns the end of the longest possible hold.
func (s *State) BarredUntil(now time.Time) (until time.Time, barred bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if !s.barred {
		return time.Time{}, false
	}
	if s.order != nil {
		until = s.order.until
	} else {
		until = s.planned.Load().Until
	}
	if until.IsZero() {
		return now.Add(outcome.MaxHold), true
	}
	return until, true
}
