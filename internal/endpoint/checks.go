// Package endpoint holds all that is known about one endpoint, under one mutex.
package endpoint

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
)

// skipAfter calls that succeeded say as much as a check.
const skipAfter = 10

// A CheckResult is what a check came to.
type CheckResult struct {
	Passed  bool
	Why     string        // "passed", or what was wrong
	Latency time.Duration // to the first byte, 0 without an answer
	Cause   Cause         // what was wrong
	Gets    bool          // HEAD was refused, and GET is to be asked from now on
}

// CheckPassed is what a check came to that passed.
const CheckPassed = "passed"

// Checks are the checks of an endpoint: their results, which outlive
// configurations, and when the next is due. Guarded by the state's mutex.
type Checks struct {
	Asked    *CheckConfig // nil: the endpoint is not checked
	Run      int          // results in a row: passes above 0, failures below
	Next     time.Time
	Underway bool
	Gets     bool   // the endpoint refuses HEAD, and is asked with GET
	found    int    // checks in a row that found the breaker open
	past     Totals // when the latest check was due
	lastAt   time.Time
	lastWhy  string
	cause    Cause // of the latest that failed
	Sent     uint64
	Passed   uint64
	Failed   uint64
	Skipped  uint64
}

// AskChecks makes checks go by a configuration from now on; nil ends them. What
// is known from other questions says nothing about the new one.
func (s *State) AskChecks(cfg *CheckConfig, now time.Time, first time.Duration) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	c := &s.Checks
	switch {
	case cfg == nil:
		if c.Asked != nil {
			c.Asked, c.Run, c.found, c.Gets = nil, 0, 0, false
			s.Breaker.Unchecked()
		}
		return
	case c.Asked == nil || !c.Asked.Equal(&cfg.Ask):
		s.CountLocked(now)
		c.Run, c.found, c.past, c.Gets = 0, 0, s.Totals, false
		c.Next = now.Add(first)
		s.Breaker.Unchecked()
	default:
		c.Next = Earliest(c.Next, now.Add(Jittered(cfg.Pause(c.Run, s.Breaker.State, c.found))))
	}
	c.Asked = cfg
}

// CheckDue is when the next check is due; false while one is under way.
func (s *State) CheckDue(now time.Time) (at time.Time, ok bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	s.hastenLocked(now)
	return s.Checks.Next, !s.Checks.Underway
}

// BeginCheck tells whether a check that is due is to be made, which is under way then. Else
// the next is due after the interval.
func (s *State) BeginCheck(now time.Time, interval time.Duration) bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.skipLocked(now) {
		s.Checks.Skipped++
		s.Checks.Next = now.Add(Jittered(interval))
		return false
	}
	s.Checks.Sent++
	s.Checks.Underway = true
	return true
}

// ChecksGet tells whether checks that would ask with HEAD ask with GET, since HEAD was refused.
func (s *State) ChecksGet() bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.Checks.Gets
}

// EndCheck ends a check that was made by cfg, and returns when the next is due. The
// result has an effect only if by is set, what the breaker runs by, and the checks
// still ask the same. Alone is set where no other endpoint can take this one's calls.
func (s *State) EndCheck(now time.Time, cfg *CheckConfig, by *breaker.Config, result CheckResult, alone bool) (next time.Time, changed bool, news []event.Event) {
	changed, news = s.update(func() (changed bool) {
		c := &s.Checks
		c.Underway = false
		c.Next = now.Add(Jittered(cfg.FastInterval)) // unless the result says otherwise
		if by != nil && c.Asked != nil && c.Asked.Equal(&cfg.Ask) {
			changed = s.checkedLocked(now, by, result, alone)
		}
		next = c.Next
		return changed
	})
	if !result.Passed {
		explain(news, "check", result.Why)
	}
	return next, changed, news
}

// skipLocked tells whether a check that is due can be left out: calls have said
// the same, or the endpoint has asked to be left alone.
func (s *State) skipLocked(now time.Time) bool {
	s.CountLocked(now)
	c := &s.Checks
	succeeded, failed := s.Totals.Successes-c.past.Successes, s.Totals.Failures-c.past.Failures
	c.past = s.Totals
	if now.Before(s.HoldUntil) {
		return true
	}
	return s.Breaker.State == breaker.Closed && c.Run >= 0 && failed == 0 && succeeded >= skipAfter
}

// hastenLocked lets a check come soon where the breaker has opened.
func (s *State) hastenLocked(now time.Time) {
	c := &s.Checks
	if s.Breaker.State != breaker.Open && s.Breaker.State != breaker.Recovering {
		c.found = 0
		return
	}
	if c.found == 0 || s.Breaker.State == breaker.Recovering {
		if soon := now.Add(c.Asked.FastInterval * 11 / 10); c.Next.After(soon) {
			c.Next = now.Add(Jittered(c.Asked.FastInterval))
		}
	}
}

// checkedLocked takes the result of a check. Alone is set where no other
// endpoint can take this one's calls.
func (s *State) checkedLocked(now time.Time, cfg *breaker.Config, result CheckResult, alone bool) (changed bool) {
	c := &s.Checks
	c.Run = riseAndFall(c.Run, result.Passed)
	c.lastAt, c.lastWhy = now, result.Why
	c.Gets = c.Gets || result.Gets
	if result.Passed {
		c.Passed++
	} else {
		c.Failed++
		c.cause = result.Cause
		if c.cause.What == "" {
			c.cause.What = result.Why
		}
	}
	s.Scorer.Check(now, result.Passed, result.Latency)
	changed = s.Breaker.Checked(now, cfg, result.Passed, c.Asked.verdict(c.Run) != 0, alone)
	if s.Breaker.State == breaker.Open {
		c.found++
	} else {
		c.found = 0
	}
	c.Next = now.Add(Jittered(c.Asked.Pause(c.Run, s.Breaker.State, c.found)))
	return changed
}

// status copies how the checks stand; nil if there are none.
func (c *Checks) status() *api.CheckStatus {
	if c.Asked == nil {
		return nil
	}
	state := [...]string{"down", "undecided", "up"}[c.Asked.verdict(c.Run)+1]
	return &api.CheckStatus{
		State: state, LastAt: c.lastAt, LastResult: c.lastWhy, NextAt: c.Next, Sent: c.Sent, Skipped: c.Skipped,
	}
}
