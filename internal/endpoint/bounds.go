package endpoint

import (
	"math"
	"slices"
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/quota"
)

// Bounds limit the attempts at an endpoint. Nil: no limit. They are read-only.
type Bounds struct {
	AtOnce int          // the most attempts in flight; 0: no bound
	Rates  []quota.Rate // limits of requests and tokens
}

// Meters reports whether the endpoint's attempts book tokens.
func (b *Bounds) Meters() bool {
	if b != nil {
		for i := range b.Rates {
			if b.Rates[i].Of == quota.Tokens {
				return true
			}
		}
	}
	return false
}

// metered is how much of a limit is in use.
type metered struct {
	quota.Limit
	quota.Bucket
	since time.Time // when the limit, or one of its period, was seen first

	share  share      // the share that scaled is for
	scaled quota.Rate // the rate of this instance's part
}

// Tokens are the tokens of one attempt.
type Tokens struct {
	Asked int64 // how many the call may use, as far as its request says; 0: unknown

	// Guarded by the state's mutex.
	booked int64
	at     time.Time // when they were booked
	known  bool      // the booking has been corrected
}

// mostBuckets bounds the limits of which an endpoint knows what is in use. Configurations that run
// beside each other may have different ones.
const mostBuckets = 16

// bucketLocked returns the bucket of the i-th limit. A limit of another amount or burst keeps what is
// in use; a new one, or one of another period, has an empty bucket.
func (s *State) bucketLocked(i int, r *quota.Rate, now time.Time) *metered {
	for len(s.quotas) <= i {
		s.quotas = append(s.quotas, metered{})
	}
	m := &s.quotas[i]
	if m.Limit == r.Limit {
		return m
	}
	like := slices.IndexFunc(s.quotas, func(m metered) bool { return m.Limit == r.Limit })
	if like < 0 {
		like = slices.IndexFunc(s.quotas, func(m metered) bool { return m.Of == r.Of && m.Per == r.Per })
	}
	switch {
	case like >= 0:
		s.quotas[i], s.quotas[like] = s.quotas[like], s.quotas[i]
		m.adopt(now, r)
	case m.Limit == (quota.Limit{}): // a new bucket
		*m = metered{Limit: r.Limit, since: now}
	default:
		if len(s.quotas) < mostBuckets {
			s.quotas = append(s.quotas, *m)
			m = &s.quotas[i]
		}
		*m = metered{Limit: r.Limit, since: now}
	}
	return m
}

// adopt changes the bucket to a limit with the same period.
func (m *metered) adopt(now time.Time, r *quota.Rate) {
	if m.Limit == r.Limit {
		return
	}
	before := m.Limit.Rate()
	m.Limit = r.Limit
	if m.share != (share{}) {
		before = m.scaled
		m.scaled = r.Part(m.share.part, m.share.of)
		r = &m.scaled
	}
	m.Changed(now, &before, r)
}

// limitLocked returns the bucket of the i-th limit and its rate. If instances share the limit, it is
// the rate of this instance's part.
func (s *State) limitLocked(b *Bounds, i int, now time.Time) (*metered, *quota.Rate) {
	r := &b.Rates[i]
	m := s.bucketLocked(i, r, now)
	if s.share == (share{}) {
		return m, r
	}
	if m.share != s.share {
		before := &m.scaled
		if m.share == (share{}) {
			before = r
		}
		scaled := r.Part(s.share.part, s.share.of)
		m.Changed(now, before, &scaled)
		m.share, m.scaled = s.share, scaled
	}
	return m, &m.scaled
}

// A share is this instance's part of an endpoint's limits. The zero value is the whole limits.
type share struct {
	part float64 // above 0 and at most 1
	of   int     // the number of instances that share the limits
}

// SetPart sets this instance's part of the endpoint's limits, above 0 and at most 1, and how many
// instances share them.
func (s *State) SetPart(part float64, of int) {
	s.Mu.Lock()
	s.share = share{part, of}
	s.Mu.Unlock()
}

// Demand returns how many attempts needed the endpoint's limits since the state was made, including
// refused ones, and how many a second the narrowest of the limits allows to all instances.
func (s *State) Demand(b *Bounds) (asked uint64, whole float64) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	whole = math.Inf(1)
	for i := range b.Rates {
		r := &b.Rates[i]
		whole = min(whole, float64(r.Amount)/r.Per.Seconds()/float64(s.costLocked(r, 0)))
	}
	return s.taken + s.refused, whole
}

// costLocked returns how many units of a limit an attempt takes that may use asked tokens: at most
// the whole limit.
func (s *State) costLocked(r *quota.Rate, asked int64) int64 {
	if r.Of == quota.Tokens {
		return min(s.booking.Tokens(asked), r.Amount)
	}
	return 1
}

// readyLocked returns when the endpoint's limits have room for one more attempt that may use asked
// tokens; now if they have it already.
func (s *State) readyLocked(b *Bounds, now time.Time, asked int64) time.Time {
	at := now
	if b == nil {
		return at
	}
	for i := range b.Rates {
		m, r := s.limitLocked(b, i, now)
		if ready := m.Ready(now, r, s.costLocked(r, asked)); ready.After(at) {
			at = ready
		}
	}
	return at
}

// fitsLocked reports whether the endpoint has room for an attempt. If so, it counts the attempt.
func (s *State) fitsLocked(t *Ticket, b *Bounds, now time.Time) bool {
	if s.fullLocked(b) {
		return false
	}
	asked, at := t.asked(), now.UnixNano()
	for i := range b.Rates {
		m, r := s.limitLocked(b, i, now)
		if !m.Has(at, r, s.costLocked(r, asked)) {
			return false
		}
	}
	s.useLocked(t, b, now)
	return true
}

// useLocked counts an attempt that is let in.
func (s *State) useLocked(t *Ticket, b *Bounds, now time.Time) {
	if b == nil {
		return
	}
	asked, at := t.asked(), now.UnixNano()
	for i := range b.Rates {
		m, r := s.limitLocked(b, i, now)
		m.Use(at, r, s.costLocked(r, asked))
		t.booked = t.booked || r.Of == quota.Requests
	}
	s.taken++
	if t.Tokens != nil {
		t.Tokens.booked, t.Tokens.at = s.booking.Tokens(asked), now
	}
}

// asked returns how many tokens the attempt may use, as far as its request says; 0: unknown.
func (t *Ticket) asked() int64 {
	if t.Tokens == nil {
		return 0
	}
	return t.Tokens.Asked
}

// Used corrects an attempt's booking to the tokens that its answer states. Only the first correction
// of an attempt counts.
func (s *State) Used(f Watched, now time.Time, b *Bounds, tokens int64) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	t := f.own().Tokens
	if t == nil || t.known {
		return
	}
	s.booking.Learn(t.Asked, tokens)
	s.used += uint64(max(0, tokens))
	s.correctLocked(t, now, b, tokens)
}

// UsedAtLeast is Used for an answer that was not read to its end, and may have used more. So it never
// reduces the booking.
func (s *State) UsedAtLeast(f Watched, now time.Time, b *Bounds, tokens int64) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	t := f.own().Tokens
	if t == nil || t.known {
		return
	}
	s.used += uint64(max(0, tokens))
	s.correctLocked(t, now, b, max(tokens, t.booked))
}

// GiveBack gives back what an attempt that was let in at a time has used of the endpoint's limits, because its request was not
// processed. Only the first call for an attempt counts.
func (s *State) GiveBack(f Watched, letIn, now time.Time, b *Bounds) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	t := f.own()
	if tokens := t.Tokens; tokens != nil && !tokens.known {
		s.correctLocked(tokens, now, b, 0)
	}
	if !t.booked {
		return
	}
	t.booked = false
	for i := range b.Rates {
		if b.Rates[i].Of != quota.Requests {
			continue
		}
		if m, r := s.limitLocked(b, i, now); !letIn.Before(m.since) {
			m.GiveBack(now, r, letIn)
		}
	}
	s.makesRoomLocked()
}

// makesRoomLocked tells the owner that attempts that were turned away may be let in now.
func (s *State) makesRoomLocked() {
	if s.turnedAway {
		s.turnedAway = false
		s.Owner.HasRoom()
	}
}

// UsedUnknown is Used for an answer that states no tokens. If the endpoint did not serve the request,
// the attempt used none, else what it has booked.
func (s *State) UsedUnknown(f Watched, now time.Time, b *Bounds, served bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	t := f.own()
	if t.Tokens == nil || t.Tokens.known {
		return
	}
	used := t.Tokens.booked
	if o := t.Outcome; !served || o == outcome.RateLimited || o == outcome.Denied || o == outcome.FailedStatus {
		used = 0
	}
	s.correctLocked(t.Tokens, now, b, used)
}

// correctLocked corrects a booking to the tokens used. It counts at most so many that one attempt
// keeps calls away no longer than outcome.MaxHold, or the limit's period if that is longer.
func (s *State) correctLocked(t *Tokens, now time.Time, b *Bounds, used int64) {
	t.known = true
	for i := range b.Rates {
		if b.Rates[i].Of != quota.Tokens {
			continue
		}
		m, r := s.limitLocked(b, i, now)
		if t.at.Before(m.since) {
			continue // the limit has changed since
		}
		most := float64(r.Amount) * max(1, float64(outcome.MaxHold)/float64(r.Per))
		m.Correct(now, r, t.at, int64(min(float64(used), most))-min(t.booked, r.Amount))
	}
	if used < t.booked {
		s.makesRoomLocked()
	}
}

// Ready returns when the endpoint's limits have room for one more attempt that may use asked tokens;
// now if they have it already.
func (s *State) Ready(b *Bounds, now time.Time, asked int64) time.Time {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.readyLocked(b, now, asked)
}

// Limits returns how much of each limit is left.
func (s *State) Limits(b *Bounds, now time.Time) (list []api.LimitStatus) {
	if b == nil {
		return nil
	}
	s.Mu.Lock()
	defer s.Mu.Unlock()
	for i := range b.Rates {
		m, r := s.limitLocked(b, i, now)
		list = append(list, api.LimitStatus{Amount: b.Rates[i].Amount, Of: r.Of.String(), Per: r.Per.Seconds(), Left: m.Left(now, r)})
	}
	return list
}
