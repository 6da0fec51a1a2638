package endpoint

import (
	"math"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// judge decides whether an attempt was slow, at its first byte or, without one, at its end. It
// reports whether the control loop should look at the endpoint.
func (c *condition) judge(f Watched, now time.Time, o outcome.Outcome, latency time.Duration) bool {
	t := f.own()
	if t.judged || o == outcome.RateLimited || latency == 0 && !f.HasStarted() {
		return false
	}
	if t.Untimed && o == outcome.Success {
		return false
	}
	if t.Unhurried && (o == outcome.Success && !t.Single || o == outcome.Cancelled && (latency > 0 || !t.ClientLeft)) {
		return false
	}
	took := taken(f, now)
	slow := c.slowness.IsSlow(took)
	if o == outcome.Cancelled && !slow {
		if slow = c.slowness.Limit > 0 && c.isUnanswered(f, now); !slow {
			return false
		}
	}
	t.judged, t.slower = true, slow && !t.Doubtful
	switch {
	case slow && t.Doubtful:
		return false // the call itself may be slow
	case slow:
		c.slowness.Episode.SlowAfter(f.StartedAt(), took)
		c.faults.slowest = slowerThan(f, c.slowness.Limit)
	}
	if o == outcome.Success && latency > 0 {
		c.learn(now, latency, slow)
	}
	return t.Permit.Generation == c.breaker.Generation && c.slowness.Judged(slow)
}

// learn takes the latency to the first byte of a good response.
func (c *condition) learn(now time.Time, latency time.Duration, slow bool) {
	c.tally.Latencies++
	c.tally.LogLatency += math.Log(latency.Seconds())
	c.notePeak(now, latency)
	c.inVain.answer(now)
	c.slowness.Learn(latency, slow, c.breaker.State == breaker.Closed)
}

// isSlower reports whether an attempt was slow because of the endpoint, not because of a request that
// would be slow anywhere.
func (c *condition) isSlower(t *Ticket, now time.Time) bool {
	return t.slower && c.slowness.Episode.EndpointIsSlow(now, c.slowness.Limit)
}

// reportSlow reports a slow attempt to the breaker, once. The attempt need not have ended.
func (c *condition) reportSlow(t *Ticket, now time.Time, cfg *breaker.Config) (changed bool) {
	if t.reported {
		return false
	}
	t.reported = true
	return c.breaker.Report(now, cfg, t.Permit, breaker.Result{Slower: true})
}

// Watch decides which attempts in flight are slow, among those whose response has begun or which have
// waited too long. It returns whether the control loop should look at the endpoint, and the events.
func (s *State) Watch(now time.Time, cfg *breaker.Config) (changed bool, news []event.Event) {
	return s.update(nil, func() bool { return s.watchLocked(now, cfg) })
}

// LookOver calls look for each attempt in flight, under the state's mutex, and notes which of them
// wait for their clients. open says that the breaker of the endpoint or of the attempt's scope is
// open.
func (s *State) LookOver(now time.Time, look func(f Watched, open bool)) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	open := s.own.breaker.IsOpen()
	for f := range s.inFlight.all() {
		c := f.own().about()
		look(f, open || c != nil && c.breaker.IsOpen())
		s.paceLocked(f, now)
	}
}

func (s *State) watchLocked(now time.Time, cfg *breaker.Config) (changed bool) {
	s.countLocked(now)
	changed = s.doubtsOver(&s.own, now, cfg)
	for _, c := range s.scopes.list {
		if len(c.doubts) > 0 && s.doubtsOver(c, now, cfg) {
			changed = true
			s.spreadLocked(c, now, cfg)
		}
	}
	for f := range s.inFlight.all() {
		t := f.own()
		if t.Outcome != outcome.Pending || !f.HasStarted() {
			continue
		}
		c := t.speaksOf(s, outcome.Success)
		verdict, moved := c.watch(f, now, cfg)
		changed = moved || changed
		changed = c.watchFlow(f, now, cfg) || changed
		switch verdict {
		case slowVerdict:
			c.seen.slow++
		case inTimeVerdict:
			c.seen.inTime++
		}
	}
	changed = s.own.judgeSeen() || changed
	for _, c := range s.scopes.list {
		changed = c.judgeSeen() || changed
	}
	return changed
}

// judgeSeen takes the verdicts of one look at the attempts in flight.
func (c *condition) judgeSeen() (changed bool) {
	if c.seen.slow+c.seen.inTime > 0 {
		changed = c.slowness.JudgedMany(c.seen.slow, c.seen.inTime)
		c.seen.slow, c.seen.inTime = 0, 0
	}
	return changed
}

// A verdict says whether an attempt in flight is slow.
type verdict uint8

const (
	noVerdict verdict = iota
	inTimeVerdict
	slowVerdict
)

// watch decides whether an attempt in flight is slow. It reports whether the control loop should look
// at the endpoint.
func (c *condition) watch(f Watched, now time.Time, cfg *breaker.Config) (v verdict, changed bool) {
	t := f.own()
	changed = c.watchTrial(f, now, cfg)
	if t.judged || t.Unhurried {
		return noVerdict, changed
	}
	latency := f.FirstByte()
	if latency > 0 && t.Untimed {
		return noVerdict, changed
	}
	t.slower = c.slowness.IsSlow(taken(f, now))
	if latency == 0 && !t.slower {
		return noVerdict, changed
	}
	t.judged = true
	if t.slower && t.Doubtful {
		t.slower = false // the call itself may be slow
		return noVerdict, changed
	}
	if latency > 0 {
		c.learn(now, latency, t.slower)
	}
	if t.Permit.Generation != c.breaker.Generation {
		return noVerdict, changed
	}
	if !t.slower {
		return inTimeVerdict, changed
	}
	c.slowness.Episode.SlowOne(f.StartedAt())
	c.faults.slowest = slowerThan(f, c.slowness.Limit)
	if c.breaker.State == breaker.Recovering && c.breaker.Opened == breaker.ReasonSlower && c.isSlower(t, now) {
		changed = c.reportSlow(t, now, cfg) || changed
	}
	return slowVerdict, changed
}
