package breaker

import (
	"math"
	"strings"
	"testing"
	"time"
)

// TestBreakerAndChecks checks when health checks open a breaker and end open periods.
func TestBreakerAndChecks(t *testing.T) {
	cfg := new(Defaults(time.Minute))
	start := time.Unix(1e9, 0)
	type step struct {
		at     time.Duration
		do     string
		state  State
		share  float64
		reason string
	}
	for name, steps := range map[string][]step{
		"checks open it, and close it": {
			{0, "fail", Closed, 1, ""},
			{2, "fail steady", Open, 0, ReasonCheckFailed},
			{4, "fail steady", Open, 0, ReasonCheckFailed},
			{60, "tick", Open, 0, ReasonCheckFailed}, // the period is over, but the latest check failed
			{62, "pass", Recovering, 0.05, reasonChecksPass},
			{63, "pass", Recovering, 0.05, reasonChecksPass},
			{63, "tick", Recovering, 0.075, reasonChecksPass},
			{64, "fail", Recovering, 0.05, reasonChecksPass},
			{65, "tick", Recovering, 0.05, reasonChecksPass},
			{66, "fail", Open, 0, reasonRelapse},
		},
		"never the last one": {
			{0, "fail alone", Closed, 1, ""},
			{2, "fail steady alone", Closed, 1, ""},
			{4, "fail steady", Open, 0, ReasonCheckFailed},
			{5, "pass", Open, 0, ReasonCheckFailed},
			{6, "pass steady", Recovering, 0.05, reasonChecksPass},
			{7, "fail steady alone", Recovering, 0.05, reasonChecksPass},
		},
		"checks that never failed do not end it early": {
			{0, "pass steady", Closed, 1, ""},
			{1, "calls fail", Open, 0, ReasonConsecutive},
			{2, "pass steady", Open, 0, ReasonConsecutive},
			{8, "tick", Recovering, 0, ReasonPeriodOver}, // by a trial
			{9, "pass steady", Recovering, 0, ReasonPeriodOver},
			{10, "call works", Recovering, 0.05, ReasonPeriodOver},
			{11, "pass steady", Recovering, 0.05, ReasonPeriodOver},
			{11, "tick", Recovering, 0.09, ReasonPeriodOver}, // with few calls a success is worth 4 %
		},
		"the first check after it opened ends its trials": {
			{0, "pass steady", Closed, 1, ""},
			{1, "calls fail", Open, 0, ReasonConsecutive},
			{8, "tick", Recovering, 0, ReasonPeriodOver},
			{9, "pass steady", Recovering, 0.05, ReasonPeriodOver},
		},
		"a check that fails during trials": {
			{1, "calls fail", Open, 0, ReasonConsecutive},
			{2, "pass", Open, 0, ReasonConsecutive},
			{8, "tick", Recovering, 0, ReasonPeriodOver},
			{9, "fail", Open, 0, reasonTrialFailed},
			{10, "pass steady", Recovering, 0.05, reasonChecksPass},
		},
		"checks that failed and pass again end it early": {
			{1, "calls fail", Open, 0, ReasonConsecutive},
			{2, "fail", Open, 0, ReasonConsecutive},
			{2, "pass", Open, 0, ReasonConsecutive},
			{3, "pass steady", Recovering, 0.05, reasonChecksPass},
		},
		"turning checks off forgets the latest": {
			{0, "fail steady", Open, 0, ReasonCheckFailed},
			{9, "tick", Open, 0, ReasonCheckFailed},
			{9, "off", Open, 0, ReasonCheckFailed},
			{9, "tick", Recovering, 0, ReasonPeriodOver},
		},
	} {
		var b Breaker
		for i, s := range steps {
			now := start.Add(s.at * time.Second)
			switch s.do {
			case "tick":
				b.Tick(now, cfg)
			case "call works":
				p, _ := b.Acquire(now, cfg)
				b.Report(now, cfg, p, Result{})
			case "off":
				b.Unchecked()
			case "calls fail":
				for range cfg.ConsecutiveFailures {
					p, _ := b.Acquire(now, cfg)
					b.Report(now, cfg, p, Result{Failed: true})
				}
			default:
				b.Checked(now, cfg, strings.HasPrefix(s.do, "pass"), strings.Contains(s.do, "steady"), strings.Contains(s.do, "alone"))
			}
			if b.State != s.state || math.Abs(b.Allowed(cfg)-s.share) > 1e-9 || b.Reason != s.reason {
				t.Errorf("%s, step %d (%s): %v with %v because of %q, want %v with %v because of %q",
					name, i, s.do, b.State, b.Allowed(cfg), b.Reason, s.state, s.share, s.reason)
			}
		}
	}
}
