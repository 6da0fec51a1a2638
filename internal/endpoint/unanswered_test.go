package endpoint

import (
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// answer makes a call that the endpoint answers well after a time.
func (r *stateRun) answer(latency time.Duration) {
	r.t.Helper()
	a := r.begin(AdmitNormally)
	if a == nil {
		r.t.Fatal("refused")
	}
	r.now = r.now.Add(latency)
	a.idle, a.latency = false, latency
	r.s.Settle(a, r.now, r.cfg, outcome.Success, true, NoDoubt)
	r.s.Tick(r.now, r.cfg)
}

// waiting begins an attempt that waits for an answer.
func (r *stateRun) waiting() *trip {
	r.t.Helper()
	a := r.begin(AdmitNormally)
	if a == nil {
		r.t.Fatal("refused")
	}
	a.idle = false
	return a
}

// leave ends attempts whose clients leave.
func (r *stateRun) leave(all ...*trip) {
	for _, a := range all {
		a.ClientLeft = true
		r.s.Settle(a, r.now, r.cfg, outcome.Cancelled, true, NoDoubt)
	}
}

func (r *stateRun) suspected() string {
	r.s.Mu.Lock()
	defer r.s.Mu.Unlock()
	return r.s.own.suspected(r.now)
}

// TestUnanswered checks when clients that leave make the endpoint a suspect.
func TestUnanswered(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	leaving := func(n int, after time.Duration, change ...func(*trip)) func(*stateRun) {
		return func(r *stateRun) {
			for range n {
				a := r.waiting()
				for _, f := range change {
					f(a)
				}
				r.now = r.now.Add(after)
				r.s.Tick(r.now, r.cfg)
				r.leave(a)
			}
		}
	}
	good := func(n int, latency time.Duration) func(*stateRun) {
		return func(r *stateRun) {
			for range n {
				r.answer(latency)
			}
		}
	}
	together := func(n int, after time.Duration, meanwhile func(*stateRun)) func(*stateRun) {
		return func(r *stateRun) {
			var all []*trip
			for range n {
				all = append(all, r.waiting())
			}
			r.now = r.now.Add(after / 2)
			meanwhile(r)
			r.now = r.now.Add(after / 2)
			r.leave(all...)
		}
	}
	nothing := func(*stateRun) {}
	for name, test := range map[string]struct {
		steps []func(*stateRun)
		want  string
	}{
		"five in a row":                         {[]func(*stateRun){leaving(5, 3*s)}, breaker.ReasonUnanswered},
		"four":                                  {[]func(*stateRun){leaving(4, 3*s)}, ""},
		"a second is enough":                    {[]func(*stateRun){leaving(5, s)}, breaker.ReasonUnanswered},
		"less than a second is not":             {[]func(*stateRun){leaving(500, 999*ms)}, ""},
		"at once":                               {[]func(*stateRun){leaving(500, 0)}, ""},
		"five at once":                          {[]func(*stateRun){together(5, 3*s, nothing)}, breaker.ReasonUnanswered},
		"a success in between":                  {[]func(*stateRun){leaving(4, 3*s), good(1, 10*ms), leaving(4, 3*s)}, ""},
		"a failure in between is no success":    {[]func(*stateRun){leaving(4, 3*s), func(r *stateRun) { r.attempt(AdmitNormally, outcome.FailedStatus, 0) }, leaving(1, 3*s)}, breaker.ReasonUnanswered},
		"a success while they wait":             {[]func(*stateRun){together(100, 3*s, good(1, 10*ms))}, ""},
		"an answer that begins while they wait": {[]func(*stateRun){together(100, 3*s, func(r *stateRun) { r.waiting().latency = ms; r.s.watchLocked(r.now, r.cfg) })}, ""},
		"after 73 good calls":                   {[]func(*stateRun){good(73, 10*ms), leaving(5, 3*s)}, breaker.ReasonUnanswered},
		"less than three times the usual":       {[]func(*stateRun){good(73, s), leaving(500, 2*s)}, ""},
		"three times the usual":                 {[]func(*stateRun){good(73, s), leaving(5, 4*s)}, breaker.ReasonUnanswered},
		"of a few calls, too":                   {[]func(*stateRun){good(2, 20*s), leaving(100, 30*s)}, ""},
		"known latency, below the limit":        {[]func(*stateRun){good(573, s), leaving(10, 4*s)}, breaker.ReasonSlower},
		"known latency, nine":                   {[]func(*stateRun){good(573, s), leaving(9, 4*s)}, ""},
		"known latency, beside others":          {[]func(*stateRun){good(573, s), together(500, 4*s, good(1, s))}, ""},
		"known latency, too soon":               {[]func(*stateRun){good(573, s), leaving(500, 2*s)}, ""},
		"calls that have failed elsewhere":      {[]func(*stateRun){leaving(500, 3*s, func(a *trip) { a.Doubtful = true })}, ""},
		"what we end ourselves": {[]func(*stateRun){func(r *stateRun) {
			for range 500 {
				a := r.waiting()
				r.now = r.now.Add(3 * s)
				r.s.Settle(a, r.now, r.cfg, outcome.Cancelled, true, NoDoubt)
			}
		}}, ""},
		"what never began":  {[]func(*stateRun){leaving(500, 3*s, func(a *trip) { a.idle = true })}, ""},
		"answers cut short": {[]func(*stateRun){leaving(500, 3*s, func(a *trip) { a.latency = ms })}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newStateRun(t, defaultBreaker())
			for _, step := range test.steps {
				step(r)
			}
			if got := r.suspected(); got != test.want {
				t.Errorf("suspected of %q, want %q", got, test.want)
			}
			if r.s.own.breaker.State != breaker.Closed {
				t.Errorf("the breaker is %v, but only the pool may open it", r.s.own.breaker.State)
			}
		})
	}
}

// TestUnansweredTrials has clients give up at an endpoint that recovers, for each reason of the opening. A
// trial whose client gives up must fail, and after that trials must end before their clients give up.
func TestUnansweredTrials(t *testing.T) {
	const s = time.Second
	recovering := func(t *testing.T, reason string) *stateRun {
		r := newStateRun(t, defaultBreaker())
		r.s.own.breaker.Trip(r.now, r.cfg, reason)
		r.now = r.s.own.breaker.Until
		r.s.Tick(r.now, r.cfg)
		return r
	}
	state := func(r *stateRun, want breaker.State) {
		r.t.Helper()
		if got := r.s.own.breaker.State; got != want {
			r.t.Fatalf("%v, want %v", got, want)
		}
	}
	watch := func(r *stateRun, d time.Duration) {
		r.now = r.now.Add(d)
		r.s.Mu.Lock()
		r.s.watchLocked(r.now, r.cfg)
		r.s.Mu.Unlock()
	}
	t.Run("the client leaves", func(t *testing.T) {
		for _, reason := range []string{breaker.ReasonConsecutive, breaker.ReasonSlower, breaker.ReasonUnanswered} {
			r := recovering(t, reason)
			a := r.waiting()
			r.now = r.now.Add(3 * s)
			r.leave(a)
			state(r, breaker.Open)
			if got := r.s.own.breaker.Opened; got != breaker.ReasonUnanswered {
				t.Errorf("opened because of %q", got)
			}
		}
	})
	t.Run("the client leaves at once", func(t *testing.T) {
		r := recovering(t, breaker.ReasonUnanswered)
		r.leave(r.waiting())
		state(r, breaker.Recovering)
		r.answer(time.Millisecond) // another trial
		state(r, breaker.Recovering)
		if r.s.own.breaker.Share == 0 {
			t.Error("the trial has not succeeded")
		}
	})
	t.Run("the trial is not kept waiting", func(t *testing.T) {
		r := recovering(t, breaker.ReasonUnanswered)
		for _, patience := range []time.Duration{s, 2 * s, 4 * s, 8 * s} {
			r.waiting()
			watch(r, patience-1)
			state(r, breaker.Recovering)
			watch(r, 1)
			state(r, breaker.Open)
			r.now = r.s.own.breaker.Until
			r.s.Tick(r.now, r.cfg)
		}
		a := r.waiting()
		watch(r, 6*s) // of 16
		r.leave(a)
		state(r, breaker.Open)
		r.now = r.s.own.breaker.Until
		r.s.Tick(r.now, r.cfg)
		r.waiting()
		watch(r, 3*s-1)
		state(r, breaker.Recovering)
		watch(r, 1) // half of what the latest client took
		state(r, breaker.Open)
	})
	t.Run("others are kept waiting", func(t *testing.T) {
		r := recovering(t, breaker.ReasonConsecutive)
		r.waiting()
		watch(r, time.Minute)
		state(r, breaker.Recovering)
	})
	t.Run("with a share of the traffic", func(t *testing.T) {
		r := recovering(t, breaker.ReasonUnanswered)
		r.answer(time.Millisecond)
		for _, want := range []string{"", breaker.ReasonUnanswered} {
			a := r.waiting()
			r.now = r.now.Add(3 * s)
			r.leave(a)
			state(r, breaker.Recovering) // the pool knows whether it is the last one
			if got := r.suspected(); got != want {
				t.Errorf("suspected of %q, want %q", got, want)
			}
		}
	})
}
