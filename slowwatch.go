package failover

import (
	"math"
	"time"
)

// judgeLocked gives an attempt that has its first byte, or has ended without
// one, its verdict. It returns true if the control loop should look at the
// endpoint.
func (s *endpointState) judgeLocked(a *attempt, now time.Time, o outcome, latency time.Duration) bool {
	if a.judged || o == rateLimited {
		return false
	}
	taken := latency
	if taken == 0 {
		if !a.is(started) {
			return false
		}
		taken = a.waitedFor(now)
	}
	slow := s.slowness.isSlow(taken)
	if o == cancelled && !slow {
		return false
	}
	a.judged, a.slower = true, slow && !a.doubtful
	switch {
	case slow && a.doubtful:
		return false // it may be the call's own
	case slow:
		s.slowness.episode.slowOne(a.began)
	}
	if o == success && latency > 0 {
		s.learnLocked(now, latency, slow)
	}
	return a.permit.generation == s.breaker.generation && s.slowness.judged(slow)
}

// learnLocked takes the latency to the first byte of a good answer.
func (s *endpointState) learnLocked(now time.Time, latency time.Duration, slow bool) {
	s.tally.latencies++
	s.tally.logLatency += math.Log(latency.Seconds())
	s.peakLocked(now, latency)
	s.slowness.learn(latency, slow, s.breaker.state == stateClosed)
}

// reportSlowLocked tells a breaker that slowness opened of another slow call,
// which may still be waiting.
func (s *endpointState) reportSlowLocked(a *attempt, now time.Time, cfg *breakerConfig) (changed bool) {
	if a.reported {
		return false
	}
	a.reported = true
	return s.breaker.report(now, cfg, a.permit, result{slower: true})
}

// watchLocked gives the attempts in flight their verdicts: those whose answer
// has begun, and those that have been waiting for too long. It returns true if
// the control loop should look at the endpoint.
func (s *endpointState) watchLocked(now time.Time, cfg *breakerConfig) (changed bool) {
	s.countLocked(now)
	changed = s.doubtsOverLocked(now, cfg)
	slow, inTime := 0, 0
	for a := range s.inFlight.all() {
		if a.judged || a.outcome != pending || !a.is(started) {
			continue
		}
		latency := a.firstByte()
		taken := latency
		if taken == 0 {
			taken = a.waitedFor(now)
		}
		a.slower = s.slowness.isSlow(taken)
		if latency == 0 && !a.slower {
			continue
		}
		a.judged = true
		if a.slower && a.doubtful {
			a.slower = false // it may be the call's own
			continue
		}
		if latency > 0 {
			s.learnLocked(now, latency, a.slower)
		}
		if a.permit.generation != s.breaker.generation {
			continue
		}
		if !a.slower {
			inTime++
			continue
		}
		slow++
		s.slowness.episode.slowOne(a.began)
		if s.breaker.state == stateRecovering && s.breaker.opened == reasonSlower {
			changed = s.reportSlowLocked(a, now, cfg) || changed
		}
	}
	if slow+inTime > 0 {
		changed = s.slowness.judgedMany(slow, inTime) || changed
	}
	s.slowness.episode.mark(now, s.slowness.limit)
	return changed
}

// openSlowLocked opens the breakers of endpoints that have become much slower
// than usual, where another endpoint can take their calls. It needs pool.mu.
func (p *pool) openSlowLocked(g *generation, now time.Time, collected []Event) (changed bool, _ []Event) {
	cfg := g.breaker.Load()
	for _, s := range p.states {
		s.mu.Lock()
		suspect := s.slowness.suspect() && s.slowness.episode.isTheEndpoints(now, s.slowness.limit)
		s.mu.Unlock()
		if !suspect || !p.canDoWithout(g, s, now) {
			continue
		}
		s.mu.Lock()
		before := s.breaker.generation
		changed = s.breaker.slower(now, cfg) || changed
		if e := s.transitionLocked(before); e != nil {
			e.Details["limit_seconds"] = s.slowness.limit.Seconds()
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
	for _, policy := range g.policies {
		t := policy.currentTable()
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
