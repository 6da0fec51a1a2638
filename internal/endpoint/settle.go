package endpoint

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// How results of attempts change the state.

// BeganAnswer takes the beginning of a good response. It ignores an attempt that is settled
// already, such as one whose response was held back until its end.
func (s *State) BeganAnswer(f Watched, now time.Time, cfg *breaker.Config) {
	t, latency := f.own(), f.FirstByte()
	s.tell(s.update(t, func() (changed bool) {
		if t.Outcome != outcome.Pending {
			return false
		}
		s.countLocked(now)
		c := t.speaksOf(s, outcome.Success)
		changed = c.judge(f, now, outcome.Success, latency)
		if c.breaker.Opened == breaker.ReasonSlower && c.isSlower(t, now) {
			return c.reportSlow(t, now, cfg) || changed
		}
		if c != &s.own && !s.own.awaitsEnd(cfg) {
			changed = s.own.breaker.Answered(now, cfg, &t.rare.whole, false) || changed
		}
		if c.awaitsFlow() || c.awaitsEnd(cfg) {
			return changed
		}
		return c.breaker.Answered(now, cfg, &t.Permit, isSlow(f, now, cfg)) || changed
	}))
}

// awaitsEnd reports whether the beginning of a trial's response shows nothing, because responses began
// well and were not completed.
func (c *condition) awaitsEnd(cfg *breaker.Config) bool {
	cut := c.faults.last == outcome.Truncated || c.faults.last == outcome.Stalled
	silent := c.silence.opened && c.breaker.Opened == breaker.ReasonUnanswered
	return (cut && c.faults.openedBy != outcome.Pending || silent) && c.breaker.OnTrial(cfg)
}

// Settle takes the outcome of an attempt; further calls for it change no counts. release says
// that the attempt is no longer in flight.
func (s *State) Settle(f Watched, now time.Time, cfg *breaker.Config, o outcome.Outcome, release bool, doubt DoubtStage) {
	s.settle(f, now, cfg, end{outcome: o, release: release, doubt: doubt})
}

// SettleFor is Settle with the cause in a few words: a status, or outcome.Short of an error.
func (s *State) SettleFor(what string, f Watched, now time.Time, cfg *breaker.Config, o outcome.Outcome, release bool, doubt DoubtStage) {
	s.settle(f, now, cfg, end{outcome: o, release: release, doubt: doubt, what: what})
}

// SettleAnswer settles an attempt whose response has ended, and releases it. final says that
// the response went to the client; then the call is recorded too.
func (s *State) SettleAnswer(f Watched, now time.Time, cfg *breaker.Config, o outcome.Outcome, final bool) {
	s.settle(f, now, cfg, end{outcome: o, release: true, final: final})
}

// SettleAnswerFor is SettleAnswer with the cause in a few words.
func (s *State) SettleAnswerFor(what string, f Watched, now time.Time, cfg *breaker.Config, o outcome.Outcome, final bool) {
	s.settle(f, now, cfg, end{outcome: o, release: true, final: final, what: what})
}

// An end has the arguments of the methods that settle an attempt.
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
	s.tell(s.update(t, func() bool {
		if end.release {
			s.unlinkLocked(t)
		}
		if t.Outcome != outcome.Pending {
			return false
		}
		if end.outcome.Failed() {
			cause.Scope = t.scope()
			s.own.fails(end.outcome, cause, now)
			if c := t.about(); c != nil {
				c.fails(end.outcome, cause, now)
			}
			s.failures.add(end.outcome, cause, now)
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
	s.totals.add(o)
	c := t.speaksOf(s, o)
	if o == outcome.Success {
		s.worksSince(c, f.StartedAt())
	}
	changed = c.settle(f, now, cfg, latency)
	if o.Failed() {
		changed = s.openAfterRun(c, now, cfg) || changed
	}
	switch about := t.about(); {
	case about == nil && o == outcome.Success:
		s.unscoped.served = now
	case about == nil && o.Failed():
		s.unscoped.failed = now
	case about == nil:
	case about != c: // the outcome says nothing about the scope
		changed = about.breaker.Cancel(now, t.Permit) || changed
		changed = about.trialOver(t, o) || changed
	case o == outcome.Success:
		changed = s.own.passes(t, now, cfg) || changed
		s.scopes.succeeded(s.own.begun)
	case o.Failed() && o != outcome.RateLimited && t.doubt != cleared:
		changed = s.scopeFailedLocked(t, now, cfg) || changed
	default:
		changed = s.own.breaker.Cancel(now, t.rare.whole) || changed
	}
	return s.spreadLocked(c, now, cfg) || changed
}

// passes takes a success of a scope for the endpoint's own condition.
func (c *condition) passes(t *Ticket, now time.Time, cfg *breaker.Config) (changed bool) {
	if c.breaker.State != breaker.Closed {
		c.breaker.AttemptEnded(false)
	}
	c.refused, c.served = 0, now
	c.passed++
	return c.breaker.Report(now, cfg, t.rare.whole, breaker.Result{})
}

// scopeFailedLocked takes a failure of a scope for the endpoint's own breaker. While the whole
// endpoint is on trial, the failure of one scope only leaves the trial to another scope; the failure
// of a second one fails the trial.
func (s *State) scopeFailedLocked(t *Ticket, now time.Time, cfg *breaker.Config) (changed bool) {
	x, b := &s.scopes, &s.own.breaker
	if t.rare.whole.Generation != b.Generation || !b.OnTrial(cfg) {
		return b.Cancel(now, t.rare.whole)
	}
	if x.tried != b.Generation || x.triedBy == nil || x.triedBy == t.rare.about {
		x.tried, x.triedBy = b.Generation, t.rare.about
		return b.Cancel(now, t.rare.whole)
	}
	return b.Report(now, cfg, t.rare.whole, breaker.Result{Failed: true})
}

// spreadLocked opens the endpoint's own breaker if the scope c has failed and now most scopes have
// begun to fail. It reports whether it did.
func (s *State) spreadLocked(c *condition, now time.Time, cfg *breaker.Config) (changed bool) {
	b := &c.breaker
	if c.scope == "" {
		return false
	}
	opened := b.OpenedAfresh() && b.Generation != c.spread
	failed := c.toBlame || opened
	c.toBlame, c.spread = false, b.Generation
	if !failed {
		return false
	}
	s.scopes.failed(c)
	return s.scopes.wide(now, cfg) && s.own.breaker.Widen(now, cfg, s.scopes.failSince(now, cfg))
}

// settle takes the outcome of an attempt.
func (c *condition) settle(f Watched, now time.Time, cfg *breaker.Config, latency time.Duration) (changed bool) {
	t := f.own()
	o := t.Outcome
	changed = c.judge(f, now, o, latency)
	switch {
	case o == outcome.Cancelled || o == outcome.Unsent:
		changed = c.cancelled(f, now, cfg) || changed
	case o == outcome.RateLimited:
		c.breaker.Cancel(now, *t.permit(c))
		c.only429.add(f.StartedAt(), c.served, now)
		if t.doubt == NoDoubt {
			c.holdFor(t, now, t.RetryAfter, false)
			changed = true
		} else {
			c.doubts = append(c.doubts, failure{ticket: t, since: now})
		}
	case o.Failed() && t.DiedWith && c.lost.isOne(t, c.served, now), o.Failed() && t.RefusedAlone && !c.refusedAgain():
		t.doubt = cleared
		changed = c.breaker.Cancel(now, *t.permit(c)) || changed
	default:
		r := breaker.Result{Failed: o.Failed(), Denied: o == outcome.Denied, Slow: isSlow(f, now, cfg), Slower: c.isSlower(t, now)}
		if r.Slow {
			c.faults.slowest = slowerThan(f, cfg.SlowAfter)
		}
		changed = c.decide(t, taken(f, now), now, cfg, r) || changed
	}
	return c.trialOver(t, o) || changed
}

// MovedOn takes the news that the call of an attempt has moved on: from its failure, or because it
// was slow. rate is how many calls a second the pool has.
func (s *State) MovedOn(f Watched, now time.Time, cfg *breaker.Config, slow bool, rate float64) {
	t := f.own()
	s.tell(s.update(t, func() (changed bool) {
		moved := breaker.Moved{On: true, Slow: slow, After: now.Sub(f.StartedAt()), Rate: rate}
		c := t.speaksOf(s, t.Outcome)
		if i := slices.IndexFunc(c.doubts, func(f failure) bool { return f.ticket == t }); i >= 0 {
			c.doubts[i].result.Moved = moved
			return false
		}
		return c.breaker.MovedOn(now, cfg, *t.permit(c), moved)
	}))
}

// OutcomeSoFar returns the outcome of a settled attempt. For others it returns Success if a response
// has begun, else Pending.
func (s *State) OutcomeSoFar(f Watched) outcome.Outcome {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if o := f.own().Outcome; o != outcome.Pending || f.FirstByte() == 0 {
		return o
	}
	return outcome.Success
}

// decide takes a success, or a failure that may be the endpoint's, of an attempt that took a time.
func (c *condition) decide(t *Ticket, took time.Duration, now time.Time, cfg *breaker.Config, r breaker.Result) (changed bool) {
	if c.breaker.State != breaker.Closed {
		c.breaker.AttemptEnded(r.Failed)
	}
	if r.Failed {
		c.toBlame = c.toBlame || t.doubt == NoDoubt && c.breaker.State == breaker.Closed
		if t.doubt != NoDoubt {
			c.doubt(t, took, now, cfg, r)
			return false
		}
		c.failedAfter = took
		c.tally.Failures++
	} else {
		c.hold.step, c.refused, c.served = 0, 0, now
		c.inVain.answer(now)
		c.silence.end(now, 1)
		if !t.MovedOn {
			changed = c.answered(t)
		}
		if c.hold.soft {
			c.hold.end()
			changed = true
		}
	}
	c.tally.Calls++
	if t.reported && !r.Failed {
		return changed // it has been reported as slow
	}
	return c.breaker.Report(now, cfg, *t.permit(c), r) || changed
}

// refusedAgain counts a request that the peer's HTTP/2 layer refused alone. It reports whether
// another was refused before, since the latest success. If not, the request may be to blame.
func (c *condition) refusedAgain() bool {
	c.refused++
	return c.refused > 1
}

// isSlow reports whether the first byte took longer than the pool's SlowAfter, or has not arrived
// within it.
func isSlow(f Watched, now time.Time, cfg *breaker.Config) bool {
	t := f.own()
	return cfg.SlowRatio > 0 && !(t.Unhurried && !t.Single) && taken(f, now) > cfg.SlowAfter
}

// Beaten takes the latency of an attempt that lost a race to its hedge: its first byte took at least
// until now. It changes nothing else.
func (s *State) Beaten(f Watched, now time.Time) {
	took := max(1, taken(f, now))
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if f.own().Outcome == outcome.Pending {
		s.countLocked(now)
		c := f.own().speaksOf(s, outcome.Success)
		c.tally.Latencies++
		c.tally.LogLatency += math.Log(took.Seconds())
		c.notePeak(now, took)
	}
}
