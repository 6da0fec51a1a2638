package endpoint

import (
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// start begins an attempt at an endpoint that lets it in.
func (r *stateRun) start() *trip {
	r.t.Helper()
	f := &trip{began: r.now}
	if !r.s.Acquire(f, r.now, r.cfg, nil, AdmitNormally) {
		r.t.Fatal("not let in")
	}
	return f
}

// fails settles an attempt as failed.
func (r *stateRun) fails(f *trip, doubt DoubtStage) {
	r.s.Settle(f, r.now, r.cfg, outcome.FailedStatus, true, doubt)
}

func (r *stateRun) isOpen() bool {
	r.s.Mu.Lock()
	defer r.s.Mu.Unlock()
	return r.s.own.breaker.State == breaker.Open
}

// TestNewFailuresBesideOldSuccesses checks that failures in a row open the breaker though attempts
// that began before them succeed in between, unless a later attempt waits longer or succeeds.
func TestNewFailuresBesideOldSuccesses(t *testing.T) {
	for name, test := range map[string]struct {
		later func(r *stateRun, f *trip, i int) // what an attempt does that began after the first failure
		open  bool
	}{
		"no later attempt":              {nil, true},
		"a later attempt waits":         {func(*stateRun, *trip, int) {}, false},
		"a later attempt has succeeded": {func(r *stateRun, f *trip, i int) { r.succeed(f, i == 3) }, false},
		"a later attempt has failed": {func(r *stateRun, f *trip, i int) {
			if i == 3 {
				r.fails(f, NoDoubt)
			}
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := breaker.Defaults(time.Minute)
			r := newStateRun(t, &cfg)
			var old []*trip
			for range 10 {
				old = append(old, r.start())
			}
			r.now = r.now.Add(2 * time.Second)
			var later *trip
			for i := range 6 {
				r.fails(r.start(), NoDoubt)
				r.now = r.now.Add(10 * time.Millisecond)
				if i == 0 && test.later != nil {
					later = r.start()
				}
				if later != nil {
					test.later(r, later, i)
				}
				r.succeed(old[i], true)
				if r.isOpen() {
					break
				}
			}
			if r.isOpen() != test.open {
				t.Errorf("open: %t", r.isOpen())
			}
		})
	}
}

// succeed settles an attempt that began its response now, if when is true.
func (r *stateRun) succeed(f *trip, when bool) {
	if !when {
		return
	}
	f.latency = r.now.Sub(f.began)
	if !r.s.Succeeded(f, r.cfg, false) {
		r.s.Settle(f, r.now, r.cfg, outcome.Success, true, NoDoubt)
	}
}

// TestDoubtsBesideOthers checks that a long run of failures in doubt opens the breaker only if no
// other attempt is under way that fails less quickly.
func TestDoubtsBesideOthers(t *testing.T) {
	for name, test := range map[string]struct {
		other func(f *trip)
		open  bool
	}{
		"no other":                          {nil, true},
		"another waits":                     {func(*trip) {}, false},
		"another gets a response":           {func(f *trip) { f.latency = 10 * time.Millisecond }, false},
		"another has not started":           {func(f *trip) { f.idle = true }, true},
		"another began its answer long ago": {func(f *trip) { f.began, f.latency = f.began.Add(-time.Minute), time.Second }, true},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := breaker.Defaults(time.Minute)
			r := newStateRun(t, &cfg)
			if test.other != nil {
				test.other(r.start())
			}
			for range 30 {
				r.now = r.now.Add(5 * time.Millisecond)
				if r.isOpen() {
					break
				}
				r.fails(r.start(), Doubted)
			}
			if r.isOpen() != test.open {
				t.Errorf("open: %t", r.isOpen())
			}
		})
	}
}

// TestDoubtLastsLongerElsewhere checks when failures in doubt count.
func TestDoubtLastsLongerElsewhere(t *testing.T) {
	for name, test := range map[string]struct {
		elsewhere bool
		after     time.Duration
		open      bool
	}{
		"soon":                                {false, DoubtFor - time.Millisecond, false},
		"after the doubt":                     {false, DoubtFor, true},
		"failed elsewhere, after the doubt":   {true, DoubtFor, false},
		"failed elsewhere, and none resolves": {true, doubtElsewhere, true},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := breaker.Defaults(time.Minute)
			r := newStateRun(t, &cfg)
			for range 5 {
				f := r.start()
				r.fails(f, Doubted)
				if test.elsewhere {
					r.s.FailedElsewhere(&f.Ticket)
				}
			}
			r.now = r.now.Add(test.after)
			r.s.Tick(r.now, r.cfg)
			if r.isOpen() != test.open {
				t.Errorf("open: %t", r.isOpen())
			}
		})
	}
}
