package endpoint

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// in makes an attempt of a scope that ends at once, and reports whether it was let in.
func (r *stateRun) in(scope string, how Admission, o outcome.Outcome) bool {
	f := r.beginIn(scope, how)
	if f == nil {
		return false
	}
	r.s.Settle(f, r.now, r.cfg, o, true, NoDoubt)
	return true
}

// beginIn begins an attempt of a scope; nil if it is not let in.
func (r *stateRun) beginIn(scope string, how Admission) *trip {
	f := &trip{began: r.now, latency: time.Millisecond}
	f.Concern(scope, nil)
	if !r.s.Acquire(f, r.now, r.cfg, nil, how) {
		return nil
	}
	return f
}

func (r *stateRun) tick(d time.Duration) {
	r.now = r.now.Add(d)
	r.s.Tick(r.now, r.cfg)
}

// TestWhoseOutcome checks which outcomes count for the scope, and which for the whole endpoint.
func TestWhoseOutcome(t *testing.T) {
	for o, whole := range map[outcome.Outcome]bool{
		outcome.FailedDial: true, outcome.FailedTLS: true, outcome.Denied: true,
		outcome.FailedTimeout: false, outcome.FailedReset: false, outcome.FailedStatus: false, outcome.RateLimited: false,
		outcome.Truncated: false, outcome.Stalled: false,
	} {
		r := newStateRun(t, defaultBreaker())
		r.in("other model", AdmitNormally, outcome.Success)
		for range 5 {
			r.in("model", AdmitNormally, o)
		}
		for scope, want := range map[string]bool{"model": false, "other model": !whole, "": !whole, "new": !whole} {
			if got := r.s.For(scope).Available(r.now, r.cfg) > 0; got != want {
				t.Errorf("%v of a model: %q available %v, want %v", o, scope, got, want)
			}
		}
	}
}

// TestManyScopes checks that the number of scopes is bounded, and that scopes that are in use or not well
// are kept.
func TestManyScopes(t *testing.T) {
	r := newStateRun(t, defaultBreaker())
	for range 5 {
		r.in("ill", AdmitNormally, outcome.FailedStatus)
	}
	for i := range 10_000 {
		if i%50 == 0 {
			r.in("used", AdmitNormally, outcome.Success)
			r.tick(100 * time.Millisecond)
		}
		r.in(fmt.Sprint("made up ", i), AdmitNormally, outcome.Success)
	}
	x := &r.s.scopes
	if len(x.list) != MaxScopes || len(x.byName) != MaxScopes {
		t.Errorf("%d scopes are kept, %d by name", len(x.list), len(x.byName))
	}
	if x.byName["used"] == nil || x.byName["ill"] == nil || x.byName["made up 9999"] == nil || x.byName["made up 1"] != nil {
		t.Error("the wrong scopes are kept")
	}
	for i := range MaxScopes {
		for range 5 {
			r.in(fmt.Sprint("ill ", i), AdmitNormally, outcome.FailedTimeout)
		}
		r.in("used", AdmitNormally, outcome.Success)
	}
	for range 5 {
		r.in("one more", AdmitNormally, outcome.FailedTimeout)
		r.in("used", AdmitNormally, outcome.Success)
	}
	if len(x.list) != MaxScopes+1 || x.byName[OtherScope] == nil || x.byName[OtherScope].breaker.State != breaker.Open {
		t.Errorf("%d scopes are kept; the rest share %+v", len(x.list), x.byName[OtherScope])
	}
	if r.s.For("quite new").Available(r.now, r.cfg) > 0 || r.s.For("used").Available(r.now, r.cfg) == 0 {
		t.Error("unknown scopes do not share the condition of OtherScope, or known ones do")
	}
	for range 4000 {
		r.tick(250 * time.Millisecond)
	}
	if len(x.list) != 0 || x.crowded {
		t.Errorf("after 15 minutes %d scopes are kept", len(x.list))
	}
}

// TestWide checks when scopes take the endpoint out. Each step is a scope and whether its call fails.
func TestWide(t *testing.T) {
	const five = 5
	for _, test := range []struct {
		name  string
		steps []string // "+a" succeeds, "-a" fails, "-a5" fails five times
		want  bool
	}{
		{"one scope", []string{"+a", "+b", "-a5"}, false},
		{"two scopes", []string{"+a", "+b", "-a5", "-b5"}, true},
		{"a success between", []string{"+a", "+b", "-a5", "+b", "-b5"}, false},
		{"two of three, the third worked lately", []string{"+a", "+b", "+c", "-a5", "-b5"}, false},
		{"three of four", []string{"+a", "+b", "+c", "+d", "-a5", "-b5", "-c5"}, true},
		{"one and a few calls of three more", []string{"+a", "+b", "+c", "+d", "+e", "+f", "+g", "-a5", "-b", "-c", "-d"}, true},
		{"names that never worked beside one that does", []string{"+a", "-x5", "-y5", "-z5", "-u", "-v"}, false},
		{"names that never worked", []string{"-x", "-y", "-z", "-u", "-v"}, true},
		{"four failures are few", []string{"-x", "-y", "-z", "-u"}, false},
	} {
		r := newStateRun(t, defaultBreaker())
		for _, step := range test.steps {
			scope, o, times := step[1:2], outcome.Success, 1
			if step[0] == '-' {
				o = outcome.FailedStatus
			}
			if len(step) > 2 {
				times = five
			}
			for range times {
				r.now = r.now.Add(time.Millisecond)
				r.in(scope, AdmitNormally, o)
			}
		}
		if got := r.s.own.breaker.State == breaker.Open; got != test.want || got && r.s.own.breaker.Reason != breaker.ReasonScopes {
			t.Errorf("%s: the endpoint is %v (%s)", test.name, r.s.own.breaker.State, r.s.own.breaker.Reason)
		}
	}
}

// TestBackAsAWhole checks that while the whole endpoint is on trial, the failure of one scope leaves the
// trial to another, that of a second ends it, and a success closes the breaker.
func TestBackAsAWhole(t *testing.T) {
	out := func() *stateRun {
		r := newStateRun(t, defaultBreaker())
		for _, scope := range []string{"a", "b"} {
			for range 5 {
				r.in(scope, AdmitNormally, outcome.FailedStatus)
			}
		}
		if r.s.own.breaker.State != breaker.Open || r.in("c", AdmitNormally, outcome.Success) {
			t.Fatalf("the endpoint is %v", r.s.own.breaker.State)
		}
		for r.s.own.breaker.State != breaker.Recovering || r.s.scopes.byName["a"].breaker.State != breaker.Recovering {
			r.tick(250 * time.Millisecond)
		}
		return r
	}
	r := out()
	r.in("a", AdmitNormally, outcome.FailedStatus)
	if r.in("a", AdmitNormally, outcome.Success) {
		t.Error("the scope whose trial failed got another")
	}
	if r.s.own.breaker.State != breaker.Recovering || !r.in("c", AdmitNormally, outcome.Success) || r.s.own.breaker.State != breaker.Closed {
		t.Errorf("after one scope's failure and another's success the endpoint is %v", r.s.own.breaker.State)
	}
	if r.s.For("a").Available(r.now, r.cfg) > 0 || r.s.For("c").Available(r.now, r.cfg) == 0 {
		t.Error("the failing scope is in, or the working one is out")
	}
	r = out()
	r.in("a", AdmitNormally, outcome.FailedStatus)
	r.in("c", AdmitNormally, outcome.FailedStatus)
	if r.s.own.breaker.State != breaker.Open {
		t.Errorf("after the failures of two scopes the endpoint is %v", r.s.own.breaker.State)
	}
	r = out()
	if f := r.beginIn("c", AdmitNormally); f == nil || r.beginIn("d", AdmitNormally) != nil {
		t.Error("there was no trial, or two at once")
	}
}

// TestBothPermits checks that an attempt of a scope counts once for both breakers.
func TestBothPermits(t *testing.T) {
	r := newStateRun(t, defaultBreaker())
	for range 5 {
		r.in("a", AdmitNormally, outcome.FailedDial)
	}
	for r.s.own.breaker.State != breaker.Recovering {
		r.tick(250 * time.Millisecond)
	}
	f := r.beginIn("b", AdmitNormally)
	if f == nil || r.beginIn("a", AdmitNormally) != nil {
		t.Fatal("the endpoint must have one trial at a time, of any scope")
	}
	r.s.BeganAnswer(f, r.now, r.cfg)
	r.s.Settle(f, r.now, r.cfg, outcome.Success, true, NoDoubt)
	if b := &r.s.own.breaker; b.State != breaker.Recovering || b.Share == 0 {
		t.Errorf("after the trial the endpoint is %v with a share of %v", b.State, b.Share)
	}
	share := r.s.own.breaker.Share
	if got := r.s.For("new").Available(r.now, r.cfg); got != share {
		t.Errorf("a scope has %v of its traffic, want the endpoint's %v", got, share)
	}
	// results of attempts from before the opening change nothing
	late := r.beginIn("a", AdmitNormally)
	r.s.ChangeBreaker(func(b *breaker.Breaker) { b.Trip(r.now, r.cfg, breaker.ReasonConsecutive) })
	gen := r.s.own.breaker.Generation
	r.s.Settle(late, r.now, r.cfg, outcome.FailedDial, true, NoDoubt)
	if r.s.own.breaker.Generation != gen {
		t.Error("a late result changed the breaker")
	}
}

// TestScopesShown checks that a status shows the scopes that are not well first, then the busiest.
func TestScopesShown(t *testing.T) {
	r := newStateRun(t, defaultBreaker())
	for i := range 20 {
		for range i + 1 {
			r.in(fmt.Sprintf("m%02d", i), AdmitNormally, outcome.Success)
		}
	}
	for range 5 {
		r.in("m00", AdmitNormally, outcome.FailedStatus)
		r.in("m19", AdmitNormally, outcome.Success)
	}
	r.tick(250 * time.Millisecond)
	var names []string
	for _, s := range r.s.Status(r.now, r.cfg).Scopes {
		names = append(names, s.Scope)
	}
	if want := []string{"m00", "m19", "m18", "m17", "m16", "m15", "m14", "m13", "m12"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
}
