package endpoint

import (
	"cmp"
	"math"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// What the result of an attempt changes.

// BeganAnswer takes the beginning of a good response. It ignores an attempt that is settled
// already, as one whose response was held back until its end.
func (s *State) BeganAnswer(f Watched, now time.Time, cfg *breaker.Config) {
	t, latency := f.own(), f.FirstByte()
	s.tell(s.update(func() (changed bool) {
		if t.Outcome != outcome.Pending {
			return false
		}
		s.countLocked(now)
		changed = s.judgeLocked(f, now, outcome.Success, latency)
		if s.breaker.Opened == breaker.ReasonSlower && s.isSlowerLocked(t, now) {
			return s.reportSlowLocked(t, now, cfg) || changed
		}
		return s.breaker.Answered(now, cfg, &t.Permit, isSlow(f, now, cfg)) || changed
	}))
}

// Settle takes the outcome of an attempt; further calls for it change no counts. release says
// that the attempt is no longer in flight.
func (s *State) Settle(f Watched, now time.Time, cfg *breaker.Config, o outcome.Outcome, release bool, doubt DoubtStage) {
	s.settle(f, now, cfg, end{outcome: o, release: release, doubt: doubt})
}

// SettleFor is Settle with what went wrong in a few words: a status, or outcome.Short of an error.
func (s *State) SettleFor(what string, f Watched, now time.Time, cfg *breaker.Config, o outcome.Outcome, release bool, doubt DoubtStage) {
	s.settle(f, now, cfg, end{outcome: o, release: release, doubt: doubt, what: what})
}

// SettleAnswer settles an attempt whose response has ended, and releases it. final says that
// the response went to the client; then the call is recorded too.
func (s *State) SettleAnswer(f Watched, now time.Time, cfg *breaker.Config, o outcome.Outcome, final bool) {
	s.settle(f, now, cfg, end{outcome: o, release: true, final: final})
}

// SettleAnswerFor is SettleAnswer with what went wrong in a few words.
func (s *State) SettleAnswerFor(what string, f Watched, now time.Time, cfg *breaker.Config, o outcome.Outcome, final bool) {
	s.settle(f, now, cfg, end{outcome: o, release: true, final: final, what: what})
}

// An end is how an attempt ends.
type end struct {
	outcome        outcome.Outcome
	release, final bool
	doubt          DoubtStage
	what           string // what went wrong; empty: the outcome's name
}

func (s *State) settle(f Watched, now time.Time, cfg *breaker.Config, end end) {
	t, latency := f.own(), f.FirstByte()
	var cause Cause
	if end.outcome.Failed() {
		cause = causeOf(f, cmp.Or(end.what, end.outcome.String()))
	}
	s.tell(s.update(func() bool {
		if end.release {
			s.unlinkLocked(t)
		}
		if t.Outcome != outcome.Pending {
			return false
		}
		if end.outcome.Failed() {
			s.noteFailureLocked(end.outcome, cause, now)
		}
		changed := s.settleLocked(f, now, cfg, end, latency)
		s.recordLocked(f, now, end, latency)
		return changed
	}))
}

func (s *State) settleLocked(f Watched, now time.Time, cfg *breaker.Config, end end, latency time.Duration) (changed bool) {
	t, o := f.own(), end.outcome
	s.countLocked(now)
	t.Outcome, t.doubt = o, end.doubt
	s.last.add(o)
	changed = s.judgeLocked(f, now, o, latency)
	switch {
	case o == outcome.Cancelled || o == outcome.Unsent:
		s.totals.Cancelled++
		changed = s.cancelledLocked(f, now, cfg) || changed
	case o == outcome.RateLimited:
		s.totals.Failures++
		s.breaker.Cancel(now, t.Permit)
		if end.doubt == NoDoubt {
			s.holdLocked(t, now, t.RetryAfter, false)
			changed = true
		} else {
			s.doubts = append(s.doubts, failure{t, now, breaker.Result{}})
		}
	case o.Failed() && t.RefusedAlone && !s.refusedAgainLocked():
		s.totals.Failures++
		t.doubt = cleared
		changed = s.breaker.Cancel(now, t.Permit) || changed
	default:
		r := breaker.Result{Failed: o.Failed(), Denied: o == outcome.Denied, Slow: isSlow(f, now, cfg), Slower: s.isSlowerLocked(t, now)}
		if r.Slow {
			s.slowest = slowerThan(f, cfg.SlowAfter)
		}
		changed = s.decideLocked(t, now, cfg, r) || changed
	}
	return s.trialOverLocked(t, o) || changed
}

// OutcomeSoFar returns the outcome of a settled attempt, Success while a good response is
// under way, else Pending.
func (s *State) OutcomeSoFar(f Watched) outcome.Outcome {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if o := f.own().Outcome; o != outcome.Pending || f.FirstByte() == 0 {
		return o
	}
	return outcome.Success
}

// decideLocked takes a success, or a failure that may be the endpoint's.
func (s *State) decideLocked(t *Ticket, now time.Time, cfg *breaker.Config, r breaker.Result) (changed bool) {
	if s.breaker.State != breaker.Closed {
		s.breaker.AttemptEnded(r.Failed)
	}
	if r.Failed {
		s.totals.Failures++
		if t.doubt != NoDoubt {
			return s.doubtLocked(t, now, cfg, r)
		}
		s.tally.Failures++
	} else {
		s.totals.Successes++
		s.holdStep, s.refused, s.served = 0, 0, now
		s.inVain.answer(now)
		if !t.MovedOn {
			changed = s.answeredLocked(t)
		}
		if s.holdSoft {
			s.endHoldLocked()
			changed = true
		}
	}
	s.tally.Calls++
	if t.reported && !r.Failed {
		return changed // it has been reported as slow
	}
	return s.breaker.Report(now, cfg, t.Permit, r) || changed
}

// refusedAgainLocked counts a request that the peer's HTTP/2 layer refused alone, perhaps
// because of the request. It reports whether an earlier one was refused since the latest
// success.
func (s *State) refusedAgainLocked() bool {
	s.refused++
	return s.refused > 1
}

// isSlow reports whether the first byte took, or has taken by now, longer than the pool's SlowAfter.
func isSlow(f Watched, now time.Time, cfg *breaker.Config) bool {
	return cfg.SlowRatio > 0 && taken(f, now) > cfg.SlowAfter
}

// Beaten takes the latency of an attempt that lost a race to its hedge: its response took at
// least until now to begin. It says nothing else about the endpoint.
func (s *State) Beaten(f Watched, now time.Time) {
	took := max(1, taken(f, now))
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if f.own().Outcome == outcome.Pending {
		s.countLocked(now)
		s.tally.Latencies++
		s.tally.LogLatency += math.Log(took.Seconds())
		s.peakLocked(now, took)
	}
}
