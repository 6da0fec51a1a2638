package pool

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/event"
)

// openSlowLocked opens the breakers of endpoints that have become much slower
// than usual, or whose clients give up waiting, where another endpoint can take their
// calls. It needs Pool.Mu.
func (p *Pool) openSlowLocked(g *Generation, now time.Time, collected []event.Event) (changed bool, _ []event.Event) {
	cfg := g.Breaker.Load()
	for _, s := range p.Members {
		s.Mu.Lock()
		reason := s.SuspectedLocked(now)
		s.Mu.Unlock()
		if reason == "" || !p.canDoWithout(g, s.State, now) {
			continue
		}
		s.Mu.Lock()
		before := s.Breaker.Generation
		changed = s.Breaker.Suspected(now, cfg, reason) || changed
		if e := s.TransitionLocked(before); e != nil {
			if reason == breaker.ReasonSlower {
				e.Details["limit_seconds"] = s.Slowness.Limit.Seconds()
			}
			collected = append(collected, *e)
		}
		s.Mu.Unlock()
	}
	return changed, collected
}

// enough is how available another endpoint must be to take over from one that
// answers, but badly.
const enough = 0.5

// canDoWithout tells whether every handler that uses an endpoint has another one
// that can take its calls. It needs Pool.Mu.
func (p *Pool) canDoWithout(g *Generation, s *endpoint.State, now time.Time) bool {
	cfg := g.Breaker.Load()
	for _, h := range g.Handlers {
		t := h.currentTable()
		if t == nil {
			continue
		}
		uses, other := false, false
		for _, target := range t.Targets {
			switch {
			case target.State == s:
				uses = true
			case !other && target.Weight > 0:
				other = target.State.Available(now, cfg) >= enough
			}
		}
		if uses && !other {
			return false
		}
	}
	return true
}
