package failover

import (
	"math"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// judgeLocked gives an attempt that has its first byte, or has ended without
// one, its verdict. It returns true if the control loop should look at the
// endpoint.
func (s *endpointState) judgeLocked(f flight, now time.Time, o outcome.Outcome, latency time.Duration) bool {
	t := f.own()
	if t.judged || o == outcome.RateLimited || latency == 0 && !f.hasStarted() {
		return false
	}
	slow := s.slowness.IsSlow(taken(f, now))
	if o == outcome.Cancelled && !slow {
		return false
	}
	t.judged, t.slower = true, slow && !t.doubtful
	switch {
	case slow && t.doubtful:
		return false // it may be the call's own
	case slow:
		s.slowness.Episode.SlowOne(f.startedAt())
	}
	if o == outcome.Success && latency > 0 {
		s.learnLocked(now, latency, slow)
	}
	return t.permit.Generation == s.breaker.Generation && s.slowness.Judged(slow)
}

// learnLocked takes the latency to the first byte of a good answer.
func (s *endpointState) learnLocked(now time.Time, latency time.Duration, slow bool) {
	s.tally.Latencies++
	s.tally.LogLatency += math.Log(latency.Seconds())
	s.peakLocked(now, latency)
	s.slowness.Learn(latency, slow, s.breaker.State == breaker.Closed)
}

// reportSlowLocked tells a breaker that slowness opened of another slow call,
// which may still be waiting.
func (s *endpointState) reportSlowLocked(t *ticket, now time.Time, cfg *breaker.Config) (changed bool) {
	if t.reported {
		return false
	}
	t.reported = true
	return s.breaker.Report(now, cfg, t.permit, breaker.Result{Slower: true})
}

// watchLocked gives the attempts in flight their verdicts: those whose answer
// has begun, and those that have been waiting for too long. It returns true if
// the control loop should look at the endpoint.
func (s *endpointState) watchLocked(now time.Time, cfg *breaker.Config) (changed bool) {
	s.countLocked(now)
	changed = s.doubtsOverLocked(now, cfg)
	slow, inTime := 0, 0
	for f := range s.inFlight.all() {
		t := f.own()
		if t.judged || t.outcome != outcome.Pending || !f.hasStarted() {
			continue
		}
		latency := f.firstByte()
		t.slower = s.slowness.IsSlow(taken(f, now))
		if latency == 0 && !t.slower {
			continue
		}
		t.judged = true
		if t.slower && t.doubtful {
			t.slower = false // it may be the call's own
			continue
		}
		if latency > 0 {
			s.learnLocked(now, latency, t.slower)
		}
		if t.permit.Generation != s.breaker.Generation {
			continue
		}
		if !t.slower {
			inTime++
			continue
		}
		slow++
		s.slowness.Episode.SlowOne(f.startedAt())
		if s.breaker.State == breaker.Recovering && s.breaker.Opened == breaker.ReasonSlower {
			changed = s.reportSlowLocked(t, now, cfg) || changed
		}
	}
	if slow+inTime > 0 {
		changed = s.slowness.JudgedMany(slow, inTime) || changed
	}
	return changed
}

// openSlowLocked opens the breakers of endpoints that have become much slower
// than usual, where another endpoint can take their calls. It needs pool.mu.
func (p *pool) openSlowLocked(g *generation, now time.Time, collected []event.Event) (changed bool, _ []event.Event) {
	cfg := g.breaker.Load()
	for _, s := range p.members {
		s.mu.Lock()
		suspect := s.slowness.Suspect() && s.slowness.Episode.IsTheEndpoints(now, s.slowness.Limit)
		s.mu.Unlock()
		if !suspect || !p.canDoWithout(g, s.endpointState, now) {
			continue
		}
		s.mu.Lock()
		before := s.breaker.Generation
		changed = s.breaker.Slower(now, cfg) || changed
		if e := s.transitionLocked(before); e != nil {
			e.Details["limit_seconds"] = s.slowness.Limit.Seconds()
			collected = append(collected, *e)
		}
		s.mu.Unlock()
	}
	return changed, collected
}

// enough is how available another endpoint must be to take over from one that
// answers, but badly.
const enough = 0.5

// canDoWithout tells whether every handler that uses an endpoint has another one
// that can take its calls. It needs pool.mu.
func (p *pool) canDoWithout(g *generation, s *endpointState, now time.Time) bool {
	cfg := g.breaker.Load()
	for _, h := range g.handlers {
		t := h.currentTable()
		if t == nil {
			continue
		}
		uses, other := false, false
		for _, target := range t.targets {
			switch {
			case target.state == s:
				uses = true
			case !other && target.weight > 0:
				other = target.state.available(now, cfg) >= enough
			}
		}
		if uses && !other {
			return false
		}
	}
	return true
}
