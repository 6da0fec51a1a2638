package failover

import (
	"maps"
	"slices"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/sla"
)

// measures are what a pool has counted and how it stands, at one moment. They are a
// copy: nothing changes them.
type measures struct {
	calls     outcomeCounts
	denied    int64  // retries, by the budget
	poison    uint64 // calls whose requests fail wherever they go
	notKept   uint64 // bodies, for want of memory
	down      bool   // every endpoint is out
	endpoints []endpointMeasures
	standing  *standing // nil: not known
}

// endpointMeasures are those of one endpoint.
type endpointMeasures struct {
	name                    string
	attempts                outcomeCounts
	unsent                  uint64 // attempts that did not leave this process; not in attempts
	durations               durationCounts
	failovers               map[route]uint64
	state                   breaker.State
	share, score, traffic   float64
	inFlight                int64
	held                    bool
	passed, failed, skipped uint64 // checks
}

// outcomeCounts are counts by outcome.
type outcomeCounts struct {
	successes uint64
	sla.Counts
}

func countsOf(b *sla.Batch) outcomeCounts { return outcomeCounts{b.Successes(), b.Counts()} }

// measure returns the pool's measures as the configuration config knows it: those of the
// endpoints that it has, one of each name; nil if it does not use the pool.
func (p *pool) measure(config any, now time.Time) *measures {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.attached, func(g *generation) bool { return g.config == config })
	if i < 0 {
		return nil
	}
	g := p.attached[i]
	p.foldLocked(now)
	all := &measures{
		calls:    countsOf(&p.calls),
		denied:   p.budget.Denied.Load(),
		poison:   p.poison.Load(),
		notKept:  p.notKept.Load(),
		down:     g.allOutLocked(),
		standing: p.keeping.standing.Load(),
	}
	seen := make(map[string]bool)
	for _, v := range p.viewsLocked(g) {
		if !seen[v.name] {
			seen[v.name] = true
			all.endpoints = append(all.endpoints, p.measureLocked(v, now, g.breaker.Load()))
		}
	}
	return all
}

// measureLocked measures an endpoint. It needs pool.mu.
func (p *pool) measureLocked(v view, now time.Time, cfg *breaker.Config) endpointMeasures {
	e := endpointMeasures{name: v.name, traffic: v.traffic, inFlight: v.state.busy.Load()}
	if m := p.memberLocked(v.state); m != nil {
		e.attempts, e.unsent = countsOf(&m.total.attempts), m.total.unsent
		e.durations, e.failovers = m.total.durations, maps.Clone(m.total.failovers)
	}
	s := v.state
	s.mu.Lock()
	defer s.mu.Unlock()
	e.state, e.share, e.score = s.breaker.State, s.breaker.Allowed(cfg), 1-s.scorer.Lost
	e.held = now.Before(s.holdUntil)
	e.passed, e.failed, e.skipped = s.checks.passed, s.checks.failed, s.checks.skipped
	return e
}
