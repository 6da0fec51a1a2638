package endpoint

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

const (
	// ReasonQuota is the reason of a hold of an endpoint whose answers state that a quota is used up.
	ReasonQuota = "quota"
	// quotaTold is the shortest time between two events of an endpoint's quotas.
	quotaTold = time.Minute
)

// stated are the quotas that an endpoint's answers have stated. The zero value has none.
type stated struct {
	quotas []outcome.Quota
	by     time.Time // when the attempt of the latest such answer began
	until  time.Time // when used up quotas will be back; zero: none is used up
	told   time.Time // time of the latest event of a used up quota
	from   string    // the instance that got the answers; empty: this one
}

// usedUp reports whether a quota is used up. That keeps calls away while another endpoint can take
// them.
func (q *stated) usedUp(now time.Time) bool { return now.Before(q.until) }

// Quotas takes the quotas that the answer of an attempt states. They are its scope's, if it has one. It
// reports whether a quota is newly used up or back. It ignores answers of attempts that began before
// the latest one taken.
func (s *State) Quotas(f Watched, now time.Time, quotas []outcome.Quota) (changed bool) {
	changed, news := s.update(f.own(), func() bool {
		c := f.own().speaksOf(s, outcome.Success)
		if c != &s.own {
			s.latest.take(quotas, now)
		}
		return c.quotasStated(f.StartedAt(), now, quotas)
	})
	s.tell(changed, news)
	return changed
}

func (c *condition) quotasStated(began, now time.Time, quotas []outcome.Quota) (changed bool) {
	q := &c.stated
	if began.Before(q.by) {
		return false
	}
	was := q.usedUp(now)
	q.by, q.until, q.from = began, time.Time{}, ""
	q.take(quotas, now)
	of := ""
	for i := range q.quotas {
		if one := &q.quotas[i]; one.UsedUp(now) && one.Back.After(q.until) {
			q.until, of = one.Back, one.Of
		}
	}
	if of != "" && !was && now.Sub(q.told) >= quotaTold {
		q.told = now
		c.news = append(c.news, event.Event{
			At:      now,
			Kind:    event.EndpointHeld,
			Reason:  ReasonQuota,
			Details: map[string]any{"until": q.until, "seconds": q.until.Sub(now).Seconds(), "of": of},
		})
	}
	return was != q.usedUp(now)
}

// take replaces the known quotas by those that an answer states. Used up quotas of which it says
// nothing stay: an API may state others for other calls.
func (q *stated) take(quotas []outcome.Quota, now time.Time) {
	q.quotas = slices.DeleteFunc(q.quotas, func(old outcome.Quota) bool {
		return !old.UsedUp(now) || slices.ContainsFunc(quotas, func(one outcome.Quota) bool { return one.Of == old.Of })
	})
	q.quotas = append(q.quotas, quotas...)
}

// left returns the part, 0 to 1, that is left of the quota nearest to its end; 1 if none is known.
func (q *stated) left(now time.Time) float64 {
	least := 1.0
	for i := range q.quotas {
		one := &q.quotas[i]
		switch {
		case one.Left == 0 && !one.UsedUp(now): // it is back
		case one.Left == 0:
			least = 0
		case one.Limit > 0:
			least = min(least, float64(one.Left)/float64(one.Limit))
		}
	}
	return least
}

// status returns the quotas for the API.
func (q *stated) status(now time.Time) (list []api.QuotaStatus) {
	for i := range q.quotas {
		one := &q.quotas[i]
		if one.Left == 0 && !one.UsedUp(now) {
			continue // it is back
		}
		list = append(list, api.QuotaStatus{Of: one.Of, Amount: one.Limit, Left: one.Left, BackAt: one.Back})
	}
	return list
}

const (
	nearEnd  = 0.05 // below this part of a limit or quota, an endpoint gets less of its tier's load
	roomStep = 0.1  // the steps of Room
)

// shownQuotas returns the quotas that answers have stated last, of any scope.
func (s *State) shownQuotas() *stated {
	if len(s.latest.quotas) > 0 {
		return &s.latest
	}
	return &s.own.stated
}

// roomLocked returns the part of its weight that the endpoint has in its tier, for calls of c. It is 1
// until less than nearEnd is left of a limit or quota. Then it shrinks in proportion, in steps of
// roomStep, to at least roomStep.
func (s *State) roomLocked(b *Bounds, c *condition, now time.Time) float64 {
	left := min(s.own.stated.left(now), c.stated.left(now))
	if b != nil {
		for i := range b.Rates {
			m, r := s.limitLocked(b, i, now)
			left = min(left, float64(m.Left(now, r))/float64(r.Amount))
		}
	}
	if left >= nearEnd {
		return 1
	}
	return max(roomStep, math.Ceil(left/nearEnd/roomStep)*roomStep)
}

// Room returns the part of its weight that the endpoint has in its tier, for a routing table.
func (v Scoped) Room(b *Bounds, now time.Time) float64 {
	v.Mu.Lock()
	defer v.Mu.Unlock()
	c := v.about()
	if c == nil {
		c = &v.own
	}
	c.room = v.roomLocked(b, c, now)
	return c.room
}

// RoomChanged reports whether Room would now return another value than for the latest tables.
func (s *State) RoomChanged(b *Bounds, now time.Time) bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.own.room != 0 && s.roomLocked(b, &s.own, now) != s.own.room {
		return true
	}
	for _, c := range s.scopes.list {
		if len(c.stated.quotas) > 0 && s.roomLocked(b, c, now) != cmp.Or(c.room, s.own.room, 1) {
			return true
		}
	}
	return false
}
