package llm

import (
	"fmt"
	"time"
)

// A fault is one of the catalogue's sixteen, with its checks. The names of checks, their limits and
// what they mean are those of the catalogue, https://github.com/failoverbench/failoverbench, methodology v0.1.
type fault struct {
	ID, Title string
	model     string
	fallback  string // "": fb-ok
	refusal   bool   // the client should get the provider's refusal
	longest   time.Duration
	checks    []check
	sequence  bool // many calls in a row
}

// A check is what a good answer, or a good gateway, must satisfy.
type check struct {
	name     string
	advisory bool // failing it makes a pass partial
	ok       func(outcome) bool
}

// An outcome is what became of a fault's call, as its client and its provider saw it.
type outcome struct {
	reply
	whole    bool
	primary  []asked
	fallback []asked
	alive    bool // a call of another model succeeds afterwards

	// Of many calls in a row.
	calls, hangs, duringDown, servedDown int
	back                                 time.Duration // after the provider was back; negative: never
}

// defaultFallback is the model that calls move on to.
const defaultFallback = "fb-ok"

func (f fault) fallbackModel() string {
	if f.fallback != "" {
		return f.fallback
	}
	return defaultFallback
}

// within counts the attempts of the first d.
func within(list []asked, d time.Duration) (n int) {
	for _, one := range list {
		if one.At-list[0].At < d {
			n++
		}
	}
	return n
}

func atMost(n int) check {
	return check{"bounded_attempts", false, func(o outcome) bool { return len(o.primary) <= n }}
}

func exactlyOne(o outcome) bool { return len(o.primary) == 1 }

func takes(name string, d time.Duration, advisory bool) check {
	return check{name, advisory, func(o outcome) bool { return !o.hang && o.took <= d }}
}

var (
	noTruncated = check{"no_truncated_success", false, func(o outcome) bool { return o.err != nil || o.whole }}
	aliveAfter  = check{"alive_after", false, func(o outcome) bool { return o.alive }}
	usageThere  = check{"usage_present", true, func(o outcome) bool { return o.usage }}
)

var faults = []fault{
	{ID: "S01", Title: "429 with Retry-After", model: "s01-429-retry-after", longest: 20 * time.Second, checks: []check{
		{"retried", true, func(o outcome) bool { return len(o.primary) >= 2 }},
		{"retry_after_honoured", true, func(o outcome) bool {
			return len(o.primary) >= 2 && o.primary[1].At-o.primary[0].At >= 1800*time.Millisecond
		}},
		{"no_hammer", false, func(o outcome) bool { return within(o.primary, 1500*time.Millisecond) <= 2 }},
	}},
	{ID: "S02", Title: "429 without Retry-After, persistent", model: "s02-429-persistent", longest: 40 * time.Second, checks: []check{
		{"no_hammer", false, func(o outcome) bool { return within(o.primary, 3*time.Second) <= 4 }}, atMost(6),
	}},
	{ID: "S03", Title: "500 once, then healthy", model: "s03-500-then-200", longest: 20 * time.Second, checks: []check{
		{"same_provider_retry", true, func(o outcome) bool { return len(o.primary) >= 2 }},
	}},
	{ID: "S04", Title: "503 persistent", model: "s04-503-persistent", longest: 40 * time.Second, checks: []check{atMost(6)}},
	{ID: "S05", Title: "TCP reset before headers", model: "s05-reset", longest: 20 * time.Second},
	{ID: "S06", Title: "No response at all", model: "s06-no-response", longest: 130 * time.Second, checks: []check{
		takes("within_budget", 100*time.Second, false),
		{"silent_route_not_retried", true, func(o outcome) bool { return len(o.primary) <= 1 }},
	}},
	{ID: "S07", Title: "Slow first token", model: "s07-slow-ttft", longest: 60 * time.Second, checks: []check{takes("ttft_limit", 15*time.Second, true)}},
	{ID: "S08", Title: "Stream cut mid-answer", model: "s08-stream-cut", longest: 40 * time.Second, checks: []check{noTruncated}},
	{ID: "S09", Title: "Stream stalls", model: "s09-stream-stall", longest: 70 * time.Second, checks: []check{
		takes("bounded", 45*time.Second, false), noTruncated, aliveAfter,
	}},
	{ID: "S10", Title: "Malformed chunk in the stream", model: "s10-malformed-chunk", longest: 30 * time.Second, checks: []check{
		aliveAfter, noTruncated, {"recovered_in_place", true, func(o outcome) bool { return o.whole }},
	}},
	{ID: "S11", Title: "Stream ends without [DONE]", model: "s11-no-done", longest: 30 * time.Second, checks: []check{
		takes("prompt_finalise", 8*time.Second, false), usageThere,
	}},
	{ID: "S12", Title: "Context length exceeded", model: "s12-context-length", longest: 20 * time.Second, checks: []check{
		{"no_same_model_retry", false, exactlyOne},
	}},
	{ID: "S13", Title: "Content-filter rejection", model: "s13-content-filter", longest: 20 * time.Second, refusal: true, checks: []check{
		{"no_same_model_retry", false, exactlyOne},
	}},
	{ID: "S14", Title: "Fallback target rejects prefill", model: "s14-stream-cut", fallback: "fb-ok-noprefill", longest: 40 * time.Second, checks: []check{
		{"no_prefill_masking", false, func(o outcome) bool {
			for _, one := range o.fallback {
				if one.Prefix && o.err != nil {
					return false
				}
			}
			return true
		}}, noTruncated,
	}},
	{ID: "S15", Title: "Primary flaps: down, then healthy", model: "s15-flap", longest: 30 * time.Second, sequence: true, checks: []check{
		{"no_hang", false, func(o outcome) bool { return o.hangs == 0 }},
		{"served_during_outage", false, func(o outcome) bool { return o.duringDown > 0 && o.servedDown == o.duringDown }},
		{"recovered", false, func(o outcome) bool { return o.back >= 0 && o.back <= 30*time.Second }},
	}},
	{ID: "S16", Title: "Fail-over accounting", model: "s16-503-persistent", longest: 40 * time.Second, checks: []check{
		{"reports_fallback_model", false, func(o outcome) bool { return len(o.fallback) == 0 || o.model == defaultFallback }},
		usageThere, atMost(6),
	}},
}

// Verdicts of the catalogue.
const (
	pass    = "pass"    // the client got what it should, and all checks hold
	partial = "partial" // the same, but an advisory check failed
	safe    = "safe"    // it got a clean error in time, and the required checks hold
	fail    = "fail"
)

// A Result is the verdict on a fault.
type Result struct {
	ID       string  `json:"id"`
	Title    string  `json:"title"`
	Verdict  string  `json:"verdict"`
	Why      string  `json:"why,omitempty"`
	Primary  int     `json:"attempts_at_primary"`
	Fallback int     `json:"attempts_at_fallback"`
	Took     float64 `json:"took_s"`
}

// judge gives the verdict as the catalogue does.
func (f fault) judge(o outcome) Result {
	r := Result{ID: f.ID, Title: f.Title, Primary: len(o.primary), Fallback: len(o.fallback), Took: o.took.Seconds()}
	var required, advisory string
	for _, c := range f.checks {
		switch {
		case c.ok(o):
		case c.advisory:
			advisory = c.name
		default:
			required = c.name
		}
	}
	switch {
	case o.hang:
		r.Verdict, r.Why = fail, "no answer in time"
	case o.err == nil && !o.whole && !f.refusal:
		r.Verdict, r.Why = fail, "a truncated answer looks like a success"
	case required != "":
		r.Verdict, r.Why = fail, required
	case f.refusal && o.err == nil:
		r.Verdict, r.Why = partial, "answered by routing around the rejection"
	case !f.refusal && o.err != nil:
		r.Verdict, r.Why = safe, fmt.Sprintf("%.80s", o.err)
	case advisory != "":
		r.Verdict, r.Why = partial, advisory
	default:
		r.Verdict = pass
	}
	return r
}
