package endpoint

import (
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

// TestPassing checks when calls pass over an endpoint from whose responses half of its calls move on, for how long, and
// when a trial ends that.
func TestPassing(t *testing.T) {
	r := newStateRun(t, defaultBreaker())
	cfg := defaultBreaker()
	// call makes a call at the endpoint; moved says that another endpoint answers it
	call := func(how Admission, moved bool) {
		t.Helper()
		a := r.begin(how)
		if a == nil {
			t.Fatal("not let in")
		}
		a.MovedOn, a.latency = moved, time.Millisecond
		r.s.Settle(a, r.now, cfg, outcome.Success, true, NoDoubt)
		if moved {
			r.s.PassedOver(&a.Ticket, r.now)
		}
	}
	stands := func(what string, passed, wants bool) {
		t.Helper()
		available, trial, over := r.s.For("").Assess(r.now, cfg, false)
		if over != passed || (available == 0) != passed || trial != wants {
			t.Errorf("%s: available %v, wants a trial %t, passed over %t", what, available, trial, over)
		}
		if available, _, _ = r.s.For("").Assess(r.now, cfg, true); available == 0 {
			t.Errorf("%s: the last endpoint would be taken out", what)
		}
	}
	for i := range 19 {
		call(AdmitNormally, i%2 == 0)
		stands("too few calls", false, false)
	}
	for range 40 {
		call(AdmitNormally, false)
	}
	for i := range 100 { // four of ten
		call(AdmitNormally, i%5 > 2)
		stands("less than half", false, false)
	}
	for !r.s.own.passing.over() {
		call(AdmitNormally, true)
	}
	for _, period := range []time.Duration{30, 60, 120, 240, 300, 300} {
		stands("held", true, false)
		if got := r.s.own.passing.until.Sub(r.now); got != period*time.Second {
			t.Errorf("held for %v, want %v s", got, int(period))
		}
		if r.begin(AdmitPassed) != nil {
			t.Error("a trial is let in too early")
		}
		r.now = r.s.own.passing.until
		stands("due", true, true)
		trial := r.begin(AdmitPassed)
		if trial == nil || r.begin(AdmitPassed) != nil {
			t.Fatal("not one trial")
		}
		r.s.Settle(trial, r.now, cfg, outcome.FailedReset, true, NoDoubt)
		stands("after a trial that shows nothing", true, true)
		other := r.begin(AdmitNormally) // for want of others
		other.latency = time.Millisecond
		r.s.Settle(other, r.now, cfg, outcome.Success, true, NoDoubt)
		stands("after a call for want of others", true, true)
		call(AdmitPassed, true)
	}
	r.now = r.s.own.passing.until
	call(AdmitPassed, false)
	stands("after a trial that went well", false, false)
	if e := r.s.Status(r.now, cfg); e.HeldReason != "" {
		t.Errorf("held because of %s", e.HeldReason)
	}
	for range 20 {
		call(AdmitNormally, true)
	}
	if got := r.s.own.passing.until.Sub(r.now); got != 5*time.Minute {
		t.Errorf("soon again: held for %v", got)
	}
	if e := r.s.Status(r.now, cfg); e.HeldReason != ReasonPassedOver || !e.HeldUntil.Equal(r.s.own.passing.until) {
		t.Errorf("the status says %s until %v", e.HeldReason, e.HeldUntil)
	}
}
