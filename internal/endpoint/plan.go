package endpoint

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
)

// A Plan is the part of a schedule that is in force. It is read-only.
type Plan struct {
	Drain        bool     // no new attempts
	Weight       *float64 // nil: as configured
	Priority     *int     // nil: as configured
	Since, Until time.Time
}

// Equal reports whether two plans are the same. A nil plan equals only nil.
func (p *Plan) Equal(other *Plan) bool {
	if p == nil || other == nil {
		return p == other
	}
	return p.Drain == other.Drain && same(p.Weight, other.Weight) && same(p.Priority, other.Priority) &&
		p.Since.Equal(other.Since) && p.Until.Equal(other.Until)
}

func same[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// Plan puts a plan in force, or none if p is nil, and returns the previous one. An operator's orders
// take precedence over it.
func (s *State) Plan(p *Plan) (before *Plan) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	before = s.planned.Swap(p)
	s.barLocked()
	return before
}

// InPlan returns the plan in force; nil: none.
func (s *State) InPlan() *Plan { return s.planned.Load() }

// barLocked keeps new attempts away or lets them in, by the operator's order or, without one, by the
// plan.
func (s *State) barLocked() {
	p := s.planned.Load()
	switch {
	case s.order != nil:
		s.barred = s.order.Action != api.Enable
	default:
		s.barred = p != nil && p.Drain
	}
}
