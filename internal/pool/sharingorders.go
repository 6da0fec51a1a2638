package pool

// How operator actions reach the fleet, and those of the fleet this instance.

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/fleet"
)

// obeyLocked carries out another instance's order, unless a newer one of its slot has been carried
// out. It needs Pool.Mu.
func (p *Pool) obeyLocked(m *PoolMember, f *fleet.Fact, live bool, now time.Time, cfg *breaker.Config) (changed bool, news []event.Event) {
	s := &m.shared
	if !f.Stamp().After(s.orders[f.Slot]) {
		return false, nil
	}
	s.noteOrder(f)
	order, ok := orderOf(f)
	if !ok || f.Undone && !m.Obeys(f.Slot) && !(live && f.State == api.Reset) {
		return false, nil
	}
	inFlight, news := m.Obey(order, now, cfg)
	told := order.Event(m.Name, inFlight, now)
	told.Details["from"] = f.Instance
	return true, append(news, told)
}

// noteOrder notes the latest order of a slot.
func (s *shared) noteOrder(f *fleet.Fact) {
	if s.orders == nil {
		s.orders = make(map[string]fleet.Stamp)
	}
	s.orders[f.Slot] = f.Stamp()
}

// orderOf returns the order in a fact; ok is false if there is none.
func orderOf(f *fleet.Fact) (o api.Order, ok bool) {
	o = api.Order{Action: f.State, Reason: f.Reason, Lasts: f.Lasts}
	switch f.Slot {
	case fleet.Steering:
		switch {
		case f.Undone && f.State != api.Reset:
			o.Action, o.Lasts = api.Enable, 0
			return o, true
		case o.Action == api.Enable:
			return o, o.Lasts > 0
		}
		return o, o.Action == api.Drain || o.Action == api.Trip || o.Action == api.Reset
	case fleet.Weight:
		o.Action, o.Weight.Made = api.Set, true
		if !f.Undone {
			o.Weight.Value = &f.Value
		}
	case fleet.Priority:
		o.Action, o.Priority.Made = api.Set, true
		if priority := int(f.Value); !f.Undone {
			o.Priority.Value = &priority
		}
	}
	return o, o.Action == api.Set
}

// tellOrderLocked tells the fleet an operator's order for a member, and reports whether there is a
// fleet. It needs Pool.Mu.
func (p *Pool) tellOrderLocked(m *PoolMember, o *api.Order, now time.Time) bool {
	f, s := p.fleet(), &m.shared
	if f == nil || s.with != f {
		return false
	}
	tell := func(slot, action string, value float64, undone bool) {
		fact := fleet.Fact{
			Kind: fleet.Order, Instance: f.Instance(), Endpoint: s.id, Pool: p.Name, Name: m.Name, Slot: slot, State: action, Reason: o.Reason,
			Version: f.NextVersion(s.id, slot, now), Value: value, Undone: undone, Lasts: o.Lasts,
		}
		switch {
		case undone:
			fact.Left, fact.Lasts = undoneLasts, 0
		case o.Lasts > 0:
			fact.Left = min(fleet.MaxOrder, o.Lasts+restLasts)
		default:
			fact.Left = fleet.MaxOrder
		}
		s.noteOrder(&fact)
		f.Tell(fact, now)
	}
	if o.Action != api.Set {
		tell(fleet.Steering, o.Action, 0, o.Action == api.Reset || o.Action == api.Enable && o.Lasts == 0)
		return true
	}
	if o.Weight.Made {
		if v := o.Weight.Value; v != nil {
			tell(fleet.Weight, "", *v, false)
		} else {
			tell(fleet.Weight, "", 0, true)
		}
	}
	if o.Priority.Made {
		if v := o.Priority.Value; v != nil {
			tell(fleet.Priority, "", float64(*v), false)
		} else {
			tell(fleet.Priority, "", 0, true)
		}
	}
	return true
}
