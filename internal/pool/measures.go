package pool

import (
	"maps"
	"slices"
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/sla"
)

// Measures are the counts and the state of a pool at one moment. They are a copy.
type Measures struct {
	Calls     OutcomeCounts
	Denied    int64  // retries that the budget denied
	Poison    uint64 // calls whose requests fail at every endpoint
	NotKept   uint64 // bodies not kept, because memory was used up
	Down      bool   // no endpoint serves anything
	Waits     WaitMeasures
	Endpoints []EndpointMeasures
	Standing  *Standing // nil: not known
}

// EndpointMeasures are the measures of one endpoint.
type EndpointMeasures struct {
	Name      string
	Attempts  OutcomeCounts
	Unsent    uint64 // attempts that did not leave this process; Attempts excludes them
	Durations endpoint.DurationCounts
	Failovers map[endpoint.Route]uint64
	Traffic   float64 // its part of the calls, 0 to 1
	InFlight  int64
	Limits    []api.LimitStatus
	Meters    bool // it has a limit of tokens
	endpoint.Standing
}

// OutcomeCounts are counts by outcome.
type OutcomeCounts struct {
	Successes uint64
	sla.Counts
}

func countsOf(b *sla.Batch) OutcomeCounts { return OutcomeCounts{b.Successes(), b.Counts()} }

// Measure returns the pool's measures with the endpoints of the configuration config, one for each
// name; nil if config does not use the pool.
func (p *Pool) Measure(config any, now time.Time) *Measures {
	waits := p.Queue.Measure(now) // before Pool.Mu
	p.Mu.Lock()
	defer p.Mu.Unlock()
	i := slices.IndexFunc(p.attached, func(g *Generation) bool { return g.config == config })
	if i < 0 {
		return nil
	}
	g := p.attached[i]
	p.foldLocked(now)
	down, _ := g.isDownLocked(now)
	all := &Measures{
		Calls:    countsOf(&p.calls),
		Denied:   p.Budget.Denied.Load(),
		Poison:   p.poison.Load(),
		NotKept:  p.NotKept.Load(),
		Down:     down,
		Waits:    waits,
		Standing: p.Keeping.standing.Load(),
	}
	seen := make(map[string]bool)
	for _, v := range p.viewsLocked(g) {
		if !seen[v.Name] {
			seen[v.Name] = true
			all.Endpoints = append(all.Endpoints, p.measureLocked(v, now, g.Breaker.Load()))
		}
	}
	return all
}

// measureLocked measures an endpoint. It needs Pool.Mu.
func (p *Pool) measureLocked(v view, now time.Time, cfg *breaker.Config) EndpointMeasures {
	e := EndpointMeasures{Name: v.Name, Traffic: v.traffic, InFlight: v.State.Busy.Load(), Limits: v.State.Limits(v.Bounds, now), Meters: v.Bounds.Meters(), Standing: v.State.Stands(now, cfg)}
	if m := p.memberLocked(v.State); m != nil {
		e.Attempts, e.Unsent = countsOf(&m.total.Attempts), m.total.Unsent
		e.Durations, e.Failovers = m.total.Durations, maps.Clone(m.total.Failovers)
	}
	return e
}
