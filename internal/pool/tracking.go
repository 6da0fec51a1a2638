package pool

import (
	"maps"
	"net/http"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/sla"
	"github.com/apifailover/caddy-failover/internal/target"
)

// A Refusal says why a call got no endpoint.
type Refusal uint8

const (
	AllDown Refusal = iota // every endpoint was out
	AllHeld                // every endpoint was on hold, or its limit was used up
	Full                   // the endpoints that take calls were full
)

var refusalNames = [...]string{"all_down", "all_held", "full"}

// String returns the refusal's word in placeholders and answers.
func (r Refusal) String() string { return refusalNames[r] }

// Refused counts a call that got no endpoint.
func (p *Pool) Refused(why Refusal) {
	switch why {
	case AllHeld:
		p.Refusals.held.Add(1)
	case Full:
		p.Refusals.full.Add(1)
	default:
		p.Refusals.down.Add(1)
	}
}

// Poisoned counts and logs a call whose request fails in the same way at every endpoint.
func (p *Pool) Poisoned(r *http.Request, o outcome.Outcome) {
	p.poison.Add(1)
	p.Outbox.Note(event.Event{
		At: time.Now(), Kind: endpoint.NotePoison, Pool: p.Name, Reason: o.String(), Count: 1,
		Details: map[string]any{"method": target.ShownMethod(r.Method), "path": target.ShownPath(r.URL)},
	})
}

// fold adds the counts since the latest fold to the totals and the history.
func (p *Pool) fold(now time.Time) {
	p.Mu.Lock()
	p.foldLocked(now)
	p.Mu.Unlock()
}

func (p *Pool) foldLocked(now time.Time) {
	for _, m := range p.awakeLocked() {
		p.foldMemberLocked(m, now)
	}
	p.foldLeavingLocked(now)
	var refused sla.Batch
	refused.AddMany(sla.AllDown, p.Refusals.down.Swap(0))
	refused.AddMany(sla.RateLimited, p.Refusals.held.Swap(0))
	refused.AddMany(sla.Full, p.Refusals.full.Swap(0))
	refused.AddMany(sla.Cancelled, p.Refusals.Gone.Swap(0))
	p.recordCallsLocked(now, &refused)
	p.forgetRoutesLocked()
}

// foldMemberLocked takes the counts of an endpoint. It holds the endpoint's mutex only to take them.
func (p *Pool) foldMemberLocked(s *PoolMember, now time.Time) {
	fresh := s.TakeFresh(now)
	if fresh == nil {
		return
	}
	p.Keeping.dirty.Store(true)
	s.total.Merge(fresh)
	s.series.RecordBatch(now, &fresh.Attempts)
	for r, n := range fresh.Failovers {
		p.History.RecordFailovers(now, s.Name, r.To, n)
	}
	p.recordCallsLocked(now, &fresh.Calls)
	s.Reuse(fresh)
}

func (p *Pool) recordCallsLocked(now time.Time, calls *sla.Batch) {
	if !calls.Empty() {
		p.Keeping.dirty.Store(true)
		p.calls.Merge(calls)
		p.History.Pool().RecordBatch(now, calls)
	}
}

// trackLocked records when an endpoint goes down and comes back.
func (p *Pool) trackLocked(s *PoolMember, now time.Time, cfg *breaker.Config) {
	down, cause := s.Down(cfg, s.wasDown)
	if down != s.wasDown {
		s.wasDown = down
		p.Keeping.dirty.Store(true)
		s.series.SetDown(now, down, cause)
	}
}

// forgetRoutesLocked drops the counts of failovers to endpoints that have left the pool. With dynamic
// upstreams their number would grow without bound.
func (p *Pool) forgetRoutesLocked() {
	if !p.staleRoutes {
		return
	}
	p.staleRoutes = false
	names := make(map[string]bool, len(p.Members))
	for key := range p.Members {
		names[key.Name] = true
	}
	for _, s := range p.Members {
		maps.DeleteFunc(s.total.Failovers, func(r endpoint.Route, _ uint64) bool { return !names[r.To] })
	}
}
