package failover

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
)

// TestBreakerAndChecks steps through what checks do to a breaker.
func TestBreakerAndChecks(t *testing.T) {
	cfg := (*Breaker)(nil).config(time.Minute)
	start := time.Unix(1e9, 0)
	type step struct {
		at     time.Duration
		do     string
		state  breaker.State
		share  float64
		reason string
	}
	for name, steps := range map[string][]step{
		"checks open it, and close it": {
			{0, "fail", breaker.Closed, 1, ""},
			{2, "fail steady", breaker.Open, 0, breaker.ReasonCheckFailed},
			{4, "fail steady", breaker.Open, 0, breaker.ReasonCheckFailed},
			{60, "tick", breaker.Open, 0, breaker.ReasonCheckFailed}, // the period is over, the latest failed
			{62, "pass", breaker.Recovering, 0.05, breaker.ReasonChecksPass},
			{63, "pass", breaker.Recovering, 0.05, breaker.ReasonChecksPass},
			{63, "tick", breaker.Recovering, 0.075, breaker.ReasonChecksPass},
			{64, "fail", breaker.Recovering, 0.05, breaker.ReasonChecksPass},
			{65, "tick", breaker.Recovering, 0.05, breaker.ReasonChecksPass},
			{66, "fail", breaker.Open, 0, breaker.ReasonRelapse},
		},
		"never the last one": {
			{0, "fail alone", breaker.Closed, 1, ""},
			{2, "fail steady alone", breaker.Closed, 1, ""},
			{4, "fail steady", breaker.Open, 0, breaker.ReasonCheckFailed},
			{5, "pass", breaker.Open, 0, breaker.ReasonCheckFailed},
			{6, "pass steady", breaker.Recovering, 0.05, breaker.ReasonChecksPass},
			{7, "fail steady alone", breaker.Recovering, 0.05, breaker.ReasonChecksPass},
		},
		"checks that noticed nothing do not help": {
			{0, "pass steady", breaker.Closed, 1, ""},
			{1, "calls fail", breaker.Open, 0, breaker.ReasonConsecutive},
			{2, "pass steady", breaker.Open, 0, breaker.ReasonConsecutive},
			{8, "tick", breaker.Recovering, 0, breaker.ReasonPeriodOver}, // by a trial
		},
		"checks that noticed end it early": {
			{1, "calls fail", breaker.Open, 0, breaker.ReasonConsecutive},
			{2, "fail", breaker.Open, 0, breaker.ReasonConsecutive},
			{2, "pass", breaker.Open, 0, breaker.ReasonConsecutive},
			{3, "pass steady", breaker.Recovering, 0.05, breaker.ReasonChecksPass},
		},
		"what was off is forgotten": {
			{0, "fail steady", breaker.Open, 0, breaker.ReasonCheckFailed},
			{9, "tick", breaker.Open, 0, breaker.ReasonCheckFailed},
			{9, "off", breaker.Open, 0, breaker.ReasonCheckFailed},
			{9, "tick", breaker.Recovering, 0, breaker.ReasonPeriodOver},
		},
	} {
		var b breaker.Breaker
		for i, s := range steps {
			now := start.Add(s.at * time.Second)
			switch s.do {
			case "tick":
				b.Tick(now, cfg)
			case "off":
				b.Unchecked()
			case "calls fail":
				for range cfg.ConsecutiveFailures {
					p, _ := b.Acquire(now, cfg)
					b.Report(now, cfg, p, breaker.Result{Failed: true})
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
