package endpoint

import "github.com/apifailover/caddy-failover/internal/breaker"

// Most endpoints of a large pool are at rest most of the time: nothing happens there, and time alone
// changes nothing soon. The control loop looks at them once in a step of the trend, and at the others
// at each tick. What begins to happen at an endpoint at rest stirs it.

// restAfter is how many ticks in a row must find no attempt before an endpoint rests. So regular calls
// stir nothing.
const restAfter = 8

// rest says whether the endpoint is at rest. The zero value says that it is not. State.Mu guards it.
type rest struct {
	is    bool
	news  bool   // something may have happened since the latest tick
	begun uint64 // attempts that had begun at the latest tick
	quiet int    // ticks in a row without attempts
}

// stirLocked makes the next tick look at the endpoint. Whatever changes the state calls it, but for
// an attempt at an endpoint that is not at rest.
func (s *State) stirLocked() {
	s.rest.news = true
	if s.rest.is {
		s.wakeLocked()
		s.Owner.Stirs(s)
	}
}

func (s *State) wakeLocked() {
	s.rest.is = false
	s.usual.Store(0)
}

// Rest puts the endpoint to rest after a tick, if it can, and reports whether it is at rest.
func (s *State) Rest(cfg *breaker.Config) bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	r, c := &s.rest, &s.own
	r.quiet++
	if c.begun != r.begun || !s.inFlight.empty() {
		r.begun, r.quiet = c.begun, 0
	}
	counted := s.samples.n == 0 && (s.fresh == nil || !s.fresh.some)
	if r.news || r.quiet < restAfter || !counted || len(s.scopes.list) > 0 || !c.settled(cfg) {
		s.wakeLocked()
		return false
	}
	r.is = true
	s.usual.Store(1 + int64(c.scorer.Typical()))
	return true
}

// settled reports whether only an event or a step of the trend can change the condition.
func (c *condition) settled(cfg *breaker.Config) bool {
	for _, flow := range c.flows {
		if flow != nil && !flow.Settled(cfg.SlowFactor) {
			return false
		}
	}
	return c.breaker.Settled() && len(c.doubts) == 0 && c.hold.until.IsZero() && c.stated.until.IsZero() && !c.passing.over() &&
		!c.restless() && c.slowness.Settled(cfg.SlowFactor) && !c.isLeftWaiting()
}
