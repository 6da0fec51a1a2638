package endpoint

import (
	"math"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// judgeLocked decides whether an attempt was slow, at its first byte or at its end without
// one. It reports whether the control loop should look at the endpoint.
func (s *State) judgeLocked(f Watched, now time.Time, o outcome.Outcome, latency time.Duration) bool {
	t := f.own()
	if t.judged || o == outcome.RateLimited || latency == 0 && !f.HasStarted() {
		return false
	}
	took := taken(f, now)
	slow := s.slowness.IsSlow(took)
	if o == outcome.Cancelled && !slow {
		if slow = s.slowness.Limit > 0 && s.isUnansweredLocked(f, now); !slow {
			return false
		}
	}
	t.judged, t.slower = true, slow && !t.Doubtful
	switch {
	case slow && t.Doubtful:
		return false // the call itself may be slow
	case slow:
		s.slowness.Episode.SlowAfter(f.StartedAt(), took)
		s.slowest = slowerThan(f, s.slowness.Limit)
	}
	if o == outcome.Success && latency > 0 {
		s.learnLocked(now, latency, slow)
	}
	return t.Permit.Generation == s.breaker.Generation && s.slowness.Judged(slow)
}

// learnLocked takes the latency to the first byte of a good response.
func (s *State) learnLocked(now time.Time, latency time.Duration, slow bool) {
	s.tally.Latencies++
	s.tally.LogLatency += math.Log(latency.Seconds())
	s.peakLocked(now, latency)
	s.inVain.answer(now)
	s.slowness.Learn(latency, slow, s.breaker.State == breaker.Closed)
}

// isSlowerLocked reports whether the endpoint caused a slow attempt, rather than a request
// that would be slow anywhere.
func (s *State) isSlowerLocked(t *Ticket, now time.Time) bool {
	return t.slower && s.slowness.Episode.IsTheEndpoints(now, s.slowness.Limit)
}

// reportSlowLocked reports a slow attempt to the breaker, once. The attempt may still wait.
func (s *State) reportSlowLocked(t *Ticket, now time.Time, cfg *breaker.Config) (changed bool) {
	if t.reported {
		return false
	}
	t.reported = true
	return s.breaker.Report(now, cfg, t.Permit, breaker.Result{Slower: true})
}

// Watch decides which attempts in flight are slow: among those whose response has begun, and
// those that have waited too long. It returns whether the control loop should look at the
// endpoint, and the events.
func (s *State) Watch(now time.Time, cfg *breaker.Config) (changed bool, news []event.Event) {
	return s.update(func() bool { return s.watchLocked(now, cfg) })
}

// Suspect reports whether the endpoint seems much slower than usual, or its clients give up
// waiting.
func (s *State) Suspect(now time.Time) bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.suspectedLocked(now) != ""
}

// OpenSlow opens the breaker if Suspect holds. It returns whether it did, and the events.
func (s *State) OpenSlow(now time.Time, cfg *breaker.Config) (changed bool, news []event.Event) {
	var limit time.Duration
	changed, news = s.update(func() bool {
		reason := s.suspectedLocked(now)
		if reason == breaker.ReasonSlower {
			limit = s.slowness.Limit
		}
		return reason != "" && s.breaker.Suspect(now, cfg, reason)
	})
	if limit > 0 {
		explain(news, "limit_seconds", limit.Seconds())
	}
	return changed, news
}

// LookOver calls look for each attempt in flight, under the state's mutex, and notes which of
// them wait for their clients. open says that the breaker is open.
func (s *State) LookOver(now time.Time, look func(f Watched, open bool)) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	open := s.breaker.IsOpen()
	for f := range s.inFlight.all() {
		look(f, open)
		s.paceLocked(f, now)
	}
}

func (s *State) watchLocked(now time.Time, cfg *breaker.Config) (changed bool) {
	s.countLocked(now)
	changed = s.doubtsOverLocked(now, cfg)
	slow, inTime := 0, 0
	for f := range s.inFlight.all() {
		t := f.own()
		if t.Outcome != outcome.Pending || !f.HasStarted() {
			continue
		}
		changed = s.watchTrialLocked(f, now, cfg) || changed
		if t.judged {
			continue
		}
		latency := f.FirstByte()
		t.slower = s.slowness.IsSlow(taken(f, now))
		if latency == 0 && !t.slower {
			continue
		}
		t.judged = true
		if t.slower && t.Doubtful {
			t.slower = false // the call itself may be slow
			continue
		}
		if latency > 0 {
			s.learnLocked(now, latency, t.slower)
		}
		if t.Permit.Generation != s.breaker.Generation {
			continue
		}
		if !t.slower {
			inTime++
			continue
		}
		slow++
		s.slowness.Episode.SlowOne(f.StartedAt())
		s.slowest = slowerThan(f, s.slowness.Limit)
		if s.breaker.State == breaker.Recovering && s.breaker.Opened == breaker.ReasonSlower && s.isSlowerLocked(t, now) {
			changed = s.reportSlowLocked(t, now, cfg) || changed
		}
	}
	if slow+inTime > 0 {
		changed = s.slowness.JudgedMany(slow, inTime) || changed
	}
	return changed
}
