package endpoint

import (
	"cmp"
	"math"
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

const (
	// ReasonQuota is the reason of a hold of an endpoint whose answers say that a quota is used up.
	ReasonQuota = "quota"
	// quotaTold is the shortest time between two events of an endpoint's quotas.
	quotaTold = time.Minute
)

// stated is what an endpoint's answers have said of its quotas. The zero value is nothing.
type stated struct {
	quotas []outcome.Quota
	by     time.Time // when the attempt began whose answer said so
	until  time.Time // when those that are used up are back; zero: none is
	told   time.Time // when an event told of that last
	from   string    // the instance whose answers said so; empty: this one
}

// usedUp reports whether a quota is used up. It keeps calls away while another endpoint can have them.
func (q *stated) usedUp(now time.Time) bool { return now.Before(q.until) }

// Quotas takes what the answer of an attempt states of quotas: those of its scope, if it has one. It reports whether that changes where
// calls may go. What the answer of an earlier attempt says comes too late.
func (s *State) Quotas(f Watched, now time.Time, quotas []outcome.Quota) (changed bool) {
	changed, news := s.update(f.own(), func() bool {
		c := f.own().speaksOf(s, outcome.Success)
		if c != &s.own {
			s.latest.quotas = append(s.latest.quotas[:0], quotas...)
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
	q.quotas = append(q.quotas[:0], quotas...)
	of := ""
	for i := range quotas {
		if one := &quotas[i]; one.UsedUp(now) && one.Back.After(q.until) {
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

// left is which part, 0 to 1, is left of the quota that is nearest to its end; 1 if none is known.
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

// status lists the quotas.
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
	nearEnd  = 0.05 // of a limit or quota, under which an endpoint gets less of its tier's load
	roomStep = 0.1
)

// shownQuotas are the quotas that answers have stated last, whatever their scope.
func (s *State) shownQuotas() *stated {
	if len(s.latest.quotas) > 0 {
		return &s.latest
	}
	return &s.own.stated
}

// roomLocked is which part of its weight the endpoint has in its tier for calls that c is about: 1 until less than nearEnd is
// left of a limit or of a quota, then in proportion to that, in steps, and never nothing.
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

// Room returns which part of its weight the endpoint has in its tier, for a routing table.
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

// RoomChanged reports whether Room would return something else than for the latest tables.
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
