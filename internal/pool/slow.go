package pool

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/event"
)

// openSlowLocked opens the breakers of suspects for which another endpoint can take the calls. A
// suspect is an endpoint, or a scope of one, that is much slower than usual or whose clients give up
// waiting. It needs Pool.Mu.
func (p *Pool) openSlowLocked(g *Generation, now time.Time, collected []event.Event) (changed bool, _ []event.Event) {
	cfg := g.Breaker.Load()
	for _, m := range p.awakeLocked() {
		for _, scope := range m.Suspects(now) {
			if !p.canDoWithout(g, m.State, scope, now) {
				continue
			}
			moved, news := m.For(scope).OpenSlow(now, cfg)
			changed = moved || changed
			collected = append(collected, news...)
		}
	}
	return changed, collected
}

// enough is the least Available of another endpoint that can take the calls of a suspect.
const enough = 0.5

// canDoWithout reports whether every handler that uses an endpoint has another one that can
// take its calls of a scope. It needs Pool.Mu.
func (p *Pool) canDoWithout(g *Generation, s *endpoint.State, scope string, now time.Time) bool {
	cfg := g.Breaker.Load()
	for _, h := range g.handlers {
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
				other = target.State.For(scope).Available(now, cfg) >= enough
			}
		}
		if uses && !other {
			return false
		}
	}
	return true
}
