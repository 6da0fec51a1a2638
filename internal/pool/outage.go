package pool

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
)

// When a pool is down: no endpoint serves anything. Either every endpoint is out, or no endpoint takes
// calls of the scopes that have calls, and nothing else is served.

// reasonScopes is the reason of an outage in which each endpoint is in service, but for no scope that
// has calls.
const reasonScopes = breaker.ReasonScopes

// isDownLocked reports whether the generation's handlers serve nothing. scopes are those that no
// endpoint takes, if the pool is down for them and not for all endpoints. It needs Pool.Mu.
func (g *Generation) isDownLocked(now time.Time) (down bool, scopes []string) {
	tables := 0
	for _, h := range g.handlers {
		t := h.currentTable()
		if t == nil || len(t.Targets) == 0 {
			continue
		}
		tables++
		if t.Total == 0 {
			continue
		}
		refused := t.refused()
		if len(refused) == 0 || t.serves(refused, now, g.Breaker.Load().Window) {
			return false, nil
		}
		scopes = append(scopes, refused...)
	}
	slices.Sort(scopes)
	return tables > 0, slices.Compact(scopes)
}

// refused returns the scopes whose calls no endpoint takes.
func (r *Routes) refused() (scopes []string) {
	for scope, own := range r.scoped {
		if own.Total == 0 {
			scopes = append(scopes, scope)
		}
	}
	return scopes
}

// serves reports whether calls of other scopes than the refused ones, or without one, are served, as
// far as known, or no refused scope has had calls.
func (r *Routes) serves(refused []string, now time.Time, window time.Duration) bool {
	asked := false
	for _, t := range r.Targets {
		some, serves := t.State.Serves(func(scope string) bool { return slices.Contains(refused, scope) }, now, window)
		if serves {
			return true
		}
		asked = asked || some
	}
	return !asked
}

// downLocked notes whether the pool is down. If that has changed, it returns the event. It needs
// Pool.Mu.
func (p *Pool) downLocked(g *Generation, now time.Time) *event.Event {
	down, scopes := g.isDownLocked(now)
	if p.down.Swap(down) == down {
		return nil
	}
	for _, m := range p.Members {
		m.For("").SetAllOut(down)
	}
	p.Keeping.dirty.Store(true)
	if !down {
		return p.upLocked(g, now)
	}
	e := &event.Event{At: now, Kind: event.AllDown, Reason: "breaker"}
	held, barred := 0, 0
	for _, s := range p.Members {
		switch isBarred, isHeld := s.KeptAway(now); {
		case isBarred:
			barred++
		case isHeld:
			held++
		}
	}
	switch {
	case len(scopes) > 0:
		e.Reason = reasonScopes
	case barred == len(p.Members):
		e.Reason = breaker.ReasonOperator
	case held == len(p.Members):
		e.Reason = "hold"
	case held > 0:
		e.Reason = "breaker_and_hold"
	}
	e.Details = map[string]any{"endpoints": len(p.Members)}
	if causes := p.causesLocked(now); causes != "" {
		e.Details["causes"] = causes
	}
	if len(scopes) > 0 {
		e.Details["scopes"] = listed(scopes, ", ")
	}
	p.outage.began, p.outage.failed, p.outage.scopes = now, p.totalsLocked().Failed, scopes
	p.History.Pool().SetDown(now, true, e.Reason)
	return e
}

// scopesDownLocked tells the states for which scopes every endpoint is out. It needs Pool.Mu.
func (p *Pool) scopesDownLocked(g *Generation) {
	for _, h := range g.handlers {
		t := h.currentTable()
		if t == nil {
			continue
		}
		refused := t.refused()
		for _, target := range t.Targets {
			target.State.SetScopesOut(func(scope string) bool { return slices.Contains(refused, scope) })
		}
	}
}

// upLocked returns the event of a pool with an endpoint back. It needs Pool.Mu.
func (p *Pool) upLocked(g *Generation, now time.Time) *event.Event {
	p.History.Pool().SetDown(now, false, "")
	p.foldLocked(now)
	details := map[string]any{
		"down_seconds": max(0, now.Sub(p.outage.began).Seconds()),
		"calls_failed": p.totalsLocked().Failed - p.outage.failed,
	}
	var back []string
	for _, m := range p.Members {
		if m.For("").Available(now, g.Breaker.Load()) > 0 && p.takesAgainLocked(g, m, now) {
			back = append(back, m.Name)
		}
	}
	slices.Sort(back)
	if text := listed(slices.Compact(back), ", "); text != "" {
		details["by"] = text
	}
	return &event.Event{At: now, Kind: event.PoolUp, Details: details}
}

// takesAgainLocked reports whether an endpoint that is available now was out in the outage, or takes a scope again for
// which the pool was down, or serves others. It needs Pool.Mu.
func (p *Pool) takesAgainLocked(g *Generation, m *PoolMember, now time.Time) bool {
	if len(p.outage.scopes) == 0 {
		return true
	}
	_, serves := m.Serves(func(string) bool { return true }, now, 0)
	return serves || slices.ContainsFunc(p.outage.scopes, func(scope string) bool { return m.For(scope).Available(now, g.Breaker.Load()) > 0 })
}

// mostListed is how many endpoints an event names.
const mostListed = 10

// listed joins at most mostListed texts and says how many more there are.
func listed(texts []string, separator string) string {
	if more := len(texts) - mostListed; more > 0 {
		return strings.Join(texts[:mostListed], separator) + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(texts, separator)
}

// causesLocked returns why each endpoint gets no calls, as one text. It needs Pool.Mu.
func (p *Pool) causesLocked(now time.Time) string {
	var causes []string
	for _, m := range p.Members {
		if cause := m.LastCause(now); cause != "" {
			causes = append(causes, m.Name+": "+cause)
		}
	}
	slices.Sort(causes)
	return listed(causes, "; ")
}
