package endpoint

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/quota"
)

// Bounds are how many attempts an endpoint gets. Nil is no bounds. They are read-only.
type Bounds struct {
	AtOnce int          // attempts in flight; 0: no bound
	Rates  []quota.Rate // of requests
}

// metered is how much of a limit is in use.
type metered struct {
	quota.Limit
	quota.Bucket
}

// bucketLocked is the bucket of the i-th limit. A limit that is new, or has changed, has an
// empty one.
func (s *State) bucketLocked(i int, r *quota.Rate) *quota.Bucket {
	for len(s.quotas) <= i {
		s.quotas = append(s.quotas, metered{})
	}
	if m := &s.quotas[i]; m.Limit != r.Limit {
		*m = metered{Limit: r.Limit}
	}
	return &s.quotas[i].Bucket
}

// readyLocked is when the endpoint's limits have room for one more attempt; now if they do.
func (s *State) readyLocked(b *Bounds, now time.Time) time.Time {
	at := now
	if b == nil {
		return at
	}
	for i := range b.Rates {
		r := &b.Rates[i]
		if ready := s.bucketLocked(i, r).Ready(now, r, 1); ready.After(at) {
			at = ready
		}
	}
	return at
}

// useLocked counts an attempt that is let in.
func (s *State) useLocked(b *Bounds, now time.Time) {
	if b == nil {
		return
	}
	for i := range b.Rates {
		r := &b.Rates[i]
		s.bucketLocked(i, r).Use(now, r, 1)
	}
}

// Ready is when the endpoint's limits have room for one more attempt; now if they do.
func (s *State) Ready(b *Bounds, now time.Time) time.Time {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.readyLocked(b, now)
}

// Limits are how much of each limit is left.
func (s *State) Limits(b *Bounds, now time.Time) (list []api.LimitStatus) {
	if b == nil {
		return nil
	}
	s.Mu.Lock()
	defer s.Mu.Unlock()
	for i := range b.Rates {
		r := &b.Rates[i]
		list = append(list, api.LimitStatus{Amount: r.Amount, Of: "requests", Per: r.Per.Seconds(), Left: s.bucketLocked(i, r).Left(now, r)})
	}
	return list
}
