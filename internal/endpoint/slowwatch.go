package endpoint

import (
	"math"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// judgeLocked gives an attempt that has its first byte, or has ended without
// one, its verdict. It returns true if the control loop should look at the
// endpoint.
func (s *State) judgeLocked(f Watched, now time.Time, o outcome.Outcome, latency time.Duration) bool {
	t := f.own()
	if t.judged || o == outcome.RateLimited || latency == 0 && !f.HasStarted() {
		return false
	}
	took := taken(f, now)
	slow := s.Slowness.IsSlow(took)
	if o == outcome.Cancelled && !slow {
		if slow = s.Slowness.Limit > 0 && s.isUnansweredLocked(f, now); !slow {
			return false
		}
	}
	t.judged, t.slower = true, slow && !t.Doubtful
	switch {
	case slow && t.Doubtful:
		return false // it may be the call's own
	case slow:
		s.Slowness.Episode.SlowAfter(f.StartedAt(), took)
	}
	if o == outcome.Success && latency > 0 {
		s.learnLocked(now, latency, slow)
	}
	return t.Permit.Generation == s.Breaker.Generation && s.Slowness.Judged(slow)
}

// learnLocked takes the latency to the first byte of a good answer.
func (s *State) learnLocked(now time.Time, latency time.Duration, slow bool) {
	s.Tally.Latencies++
	s.Tally.LogLatency += math.Log(latency.Seconds())
	s.peakLocked(now, latency)
	s.inVain.answer(now)
	s.Slowness.Learn(latency, slow, s.Breaker.State == breaker.Closed)
}

// isSlowerLocked tells whether a slow attempt speaks of the endpoint, rather than of a
// request that would be slow anywhere while others are answered in time.
func (s *State) isSlowerLocked(t *Ticket, now time.Time) bool {
	return t.slower && s.Slowness.Episode.IsTheEndpoints(now, s.Slowness.Limit)
}

// reportSlowLocked tells a breaker that slowness opened of another slow call,
// which may still be waiting.
func (s *State) reportSlowLocked(t *Ticket, now time.Time, cfg *breaker.Config) (changed bool) {
	if t.reported {
		return false
	}
	t.reported = true
	return s.Breaker.Report(now, cfg, t.Permit, breaker.Result{Slower: true})
}

// WatchLocked gives the attempts in flight their verdicts: those whose answer
// has begun, and those that have been waiting for too long. It returns true if
// the control loop should look at the endpoint.
func (s *State) WatchLocked(now time.Time, cfg *breaker.Config) (changed bool) {
	s.CountLocked(now)
	changed = s.doubtsOverLocked(now, cfg)
	slow, inTime := 0, 0
	for f := range s.InFlight.All() {
		t := f.own()
		if t.Outcome != outcome.Pending || !f.HasStarted() {
			continue
		}
		changed = s.watchTrialLocked(f, now, cfg) || changed
		if t.judged {
			continue
		}
		latency := f.FirstByte()
		t.slower = s.Slowness.IsSlow(taken(f, now))
		if latency == 0 && !t.slower {
			continue
		}
		t.judged = true
		if t.slower && t.Doubtful {
			t.slower = false // it may be the call's own
			continue
		}
		if latency > 0 {
			s.learnLocked(now, latency, t.slower)
		}
		if t.Permit.Generation != s.Breaker.Generation {
			continue
		}
		if !t.slower {
			inTime++
			continue
		}
		slow++
		s.Slowness.Episode.SlowOne(f.StartedAt())
		if s.Breaker.State == breaker.Recovering && s.Breaker.Opened == breaker.ReasonSlower && s.isSlowerLocked(t, now) {
			changed = s.reportSlowLocked(t, now, cfg) || changed
		}
	}
	if slow+inTime > 0 {
		changed = s.Slowness.JudgedMany(slow, inTime) || changed
	}
	return changed
}
