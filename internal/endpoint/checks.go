// Package endpoint keeps the state of each endpoint, under one mutex per endpoint.
package endpoint

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
)

// skipAfter is how many successful calls replace a check.
const skipAfter = 10

// A CheckResult is the result of a check.
type CheckResult struct {
	Passed  bool
	Why     string        // CheckPassed, or what was wrong
	Latency time.Duration // to the first byte; 0: no response
	Cause   Cause         // what was wrong
	Gets    bool          // the endpoint refuses HEAD; later checks should use GET
}

// CheckPassed is CheckResult.Why of a check that passed.
const CheckPassed = "passed"

// checks are the checks of an endpoint: their results, which outlive configurations, and the time of
// the next one. The state's mutex guards them.
type checks struct {
	asked    *CheckConfig // nil: the endpoint is not checked
	run      int          // results in a row: passes above 0, failures below; 0: the latest passed late
	next     time.Time
	underway bool
	began    time.Time // when the latest check began
	Gets     bool      // the endpoint refuses HEAD; checks use GET
	found    int       // checks in a row that found the breaker open
	past     totals    // the counts when the latest check was due
	lastAt   time.Time // when the latest check ended
	lastWhy  string    // its CheckResult.Why
	cause    Cause     // of the latest failed check
	sent     uint64
	passed   uint64
	failed   uint64
	skipped  uint64
}

// AskChecks sets the configuration of checks; nil ends them. If it asks for something else
// than the one before, earlier results are dropped, and the next check is due after first.
func (s *State) AskChecks(cfg *CheckConfig, now time.Time, first time.Duration) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	c := &s.checks
	switch {
	case cfg == nil:
		if c.asked != nil {
			c.asked, c.run, c.found, c.Gets = nil, 0, 0, false
			s.own.breaker.Unchecked()
		}
		return
	case c.asked == nil || !c.asked.equal(&cfg.Ask):
		s.countLocked(now)
		c.run, c.found, c.past, c.Gets = 0, 0, s.totals, false
		c.next = now.Add(first)
		s.own.breaker.Unchecked()
	default:
		c.next = Earliest(c.next, now.Add(jittered(cfg.pause(c.run, s.own.breaker.State, c.found))))
	}
	c.asked = cfg
}

// CheckDue returns when the next check is due, and whether one is under way. unwell says that
// an attempt may move the next check forward without notice.
func (s *State) CheckDue(now time.Time) (at time.Time, underway, unwell bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	unwell = s.hastenLocked(now)
	return s.checks.next, s.checks.underway, unwell
}

// BeginCheck reports whether to make a check that is due, and marks it as under way. If it is not
// needed, the next one is due after the interval.
func (s *State) BeginCheck(now time.Time, interval time.Duration) bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.skipLocked(now) {
		s.checks.skipped++
		s.scopes.uphold()
		s.checks.next = now.Add(jittered(interval))
		return false
	}
	s.checks.sent++
	s.checks.underway, s.checks.began = true, now
	return true
}

// ChecksGet reports whether checks use GET instead of HEAD, because the endpoint refuses HEAD.
func (s *State) ChecksGet() bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.checks.Gets
}

// EndCheck ends a check of configuration cfg, and returns when the next is due. by is the
// breaker's configuration. The result is ignored if by is nil, or if the checks have changed
// meanwhile. alone says that no other endpoint can take this one's calls.
func (s *State) EndCheck(now time.Time, cfg *CheckConfig, by *breaker.Config, result CheckResult, alone bool) (next time.Time, changed bool, news []event.Event) {
	changed, news = s.update(nil, func() (changed bool) {
		c := &s.checks
		c.underway = false
		c.next = now.Add(jittered(cfg.FastInterval)) // the result may change it
		if by != nil && c.asked != nil && c.asked.equal(&cfg.Ask) {
			changed = s.checkedLocked(now, by, result, alone)
		}
		next = c.next
		return changed
	})
	if !result.Passed {
		explain(news, "check", result.Why)
	}
	return next, changed, news
}

// skipLocked reports whether a check that is due is not needed: enough calls have succeeded, or the
// endpoint is on hold.
func (s *State) skipLocked(now time.Time) bool {
	s.countLocked(now)
	c := &s.checks
	succeeded, failed := s.totals.Successes-c.past.Successes, s.totals.Failures-c.past.Failures
	c.past = s.totals
	if s.own.hold.on(now) {
		return true
	}
	return s.own.breaker.State == breaker.Closed && c.run >= 0 && failed == 0 && succeeded >= skipAfter
}

// hastenLocked moves the next check forward after the breaker has opened. It reports whether the
// breaker is open or recovering.
func (s *State) hastenLocked(now time.Time) bool {
	c := &s.checks
	if s.own.breaker.State != breaker.Open && s.own.breaker.State != breaker.Recovering {
		c.found = 0
		return false
	}
	if c.found == 0 || s.own.breaker.State == breaker.Recovering {
		if soon := now.Add(c.asked.FastInterval * 11 / 10); c.next.After(soon) {
			c.next = now.Add(jittered(c.asked.FastInterval))
		}
	}
	return true
}

// checkedLocked takes the result of a check. alone says that no other endpoint can take this
// one's calls.
func (s *State) checkedLocked(now time.Time, cfg *breaker.Config, result CheckResult, alone bool) (changed bool) {
	c := &s.checks
	c.run = riseAndFall(c.run, result.Passed)
	late := result.Passed && s.own.lateCheck(result.Latency, cfg)
	if late {
		c.run = 0
	}
	c.lastAt, c.lastWhy = now, result.Why
	c.Gets = c.Gets || result.Gets
	if result.Passed {
		c.passed++
	} else {
		c.failed++
		c.cause = result.Cause
		if c.cause.What == "" {
			c.cause.What = result.Why
		}
	}
	s.own.scorer.Check(now, result.Passed, result.Latency)
	if late {
		s.own.breaker.CheckedLate()
	} else {
		if result.Passed {
			s.scopes.uphold()
		}
		changed = s.own.breaker.Checked(now, cfg, result.Passed, c.asked.verdict(c.run) != 0, alone)
	}
	if s.own.breaker.State == breaker.Open {
		c.found++
	} else {
		c.found = 0
	}
	c.next = now.Add(c.pauseAfter(now, result.Passed && !late, s.own.breaker.State))
	return changed
}

// PassedChecks reports whether the latest check passed.
func (s *State) PassedChecks() bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.checks.run > 0
}

// pauseAfter returns the time until the next check after one that ends now. good says that it passed
// in time. Otherwise its own duration is subtracted, down to half of FastInterval. So an endpoint
// that hangs is checked as often as one that refuses.
func (c *checks) pauseAfter(now time.Time, good bool, state breaker.State) time.Duration {
	run := c.run
	if run == 0 {
		run = -c.asked.Fails
	}
	pause := jittered(c.asked.pause(run, state, c.found))
	if took := now.Sub(c.began); !good && took > 0 {
		pause = max(pause-took, c.asked.FastInterval/2)
	}
	return pause
}

// lateCheck reports whether a check that passed took longer than a slow call, and so shows that the
// slowness that opened the breaker goes on.
func (c *condition) lateCheck(latency time.Duration, cfg *breaker.Config) bool {
	if c.breaker.State != breaker.Open {
		return false
	}
	limit := time.Duration(0)
	switch c.breaker.Opened {
	case breaker.ReasonSlower, breaker.ReasonUnanswered:
		limit = c.slowness.Limit
	case breaker.ReasonSlow:
		limit = cfg.SlowAfter
	}
	return limit > 0 && latency > limit
}

// status returns the checks for the API; nil if there are none.
func (c *checks) status() *api.CheckStatus {
	if c.asked == nil {
		return nil
	}
	state := [...]string{"down", "undecided", "up"}[c.asked.verdict(c.run)+1]
	return &api.CheckStatus{
		State: state, LastAt: c.lastAt, LastResult: c.lastWhy, NextAt: c.next, Sent: c.sent, Skipped: c.skipped,
	}
}
