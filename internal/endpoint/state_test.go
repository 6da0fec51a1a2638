package endpoint

import (
	"math"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// stateRun drives an endpoint's state.
type stateRun struct {
	t   *testing.T
	s   *State
	cfg *breaker.Config
	now time.Time
}

func newStateRun(t *testing.T, cfg *breaker.Config) *stateRun {
	return &stateRun{t, &State{Key: Key{"one", "one:1"}, Owner: heedless{}}, cfg, epoch}
}

// heedless is an owner that does nothing.
type heedless struct{}

func (heedless) Emit(event.Event)                    {}
func (heedless) Poke()                               {}
func (heedless) Stirs(*State)                        {}
func (heedless) HasRoom()                            {}
func (heedless) OrderOver(*State, *Order, time.Time) {}
func (heedless) BusyOutside(*State)                  {}

// A trip is an attempt without a request. It sends no body, and is the only one of its call.
type trip struct {
	Ticket
	began    time.Time
	latency  time.Duration // to the first byte; 0: there is none yet
	before   time.Duration // how long the call had lasted when the attempt began
	idle     bool          // the attempt has not started
	recorded bool          // its call is recorded
}

func (f *trip) HasStarted() bool                      { return !f.idle }
func (f *trip) StartedAt() time.Time                  { return f.began }
func (f *trip) FirstByte() time.Duration              { return f.latency }
func (f *trip) WaitedFor(now time.Time) time.Duration { return now.Sub(f.began) }
func (f *trip) Uploads() bool                         { return false }
func (f *trip) WaitsForClient() bool                  { return false }
func (f *trip) Flow() *Flow                           { return nil }
func (f *trip) MeasureFlow()                          {}
func (f *trip) Asked() (method, path string)          { return "POST", "/v1/chat" }

func (f *trip) RecordsCall(firstByte time.Duration) (waited time.Duration, ok bool) {
	if f.recorded {
		return 0, false
	}
	f.recorded = true
	if firstByte > 0 {
		waited = f.before + firstByte
	}
	return waited, true
}

// attempt makes an attempt that ends at once, and reports whether it was let in.
func (r *stateRun) attempt(how Admission, o outcome.Outcome, retryAfter time.Duration) bool {
	a := r.begin(how)
	if a == nil {
		return false
	}
	a.RetryAfter = retryAfter
	r.s.Settle(a, r.now, r.cfg, o, true, NoDoubt)
	return true
}

// begin returns an attempt that was let in and has not started; nil if it is refused.
func (r *stateRun) begin(how Admission) *trip {
	a := &trip{began: r.now, idle: true}
	if !r.s.Acquire(a, r.now, r.cfg, nil, how) {
		return nil
	}
	return a
}

func (r *stateRun) hold() time.Duration { return max(0, r.s.own.hold.until.Sub(r.now)) }

func TestHolds(t *testing.T) {
	type step struct {
		at         time.Duration
		o          outcome.Outcome
		retryAfter time.Duration
		want       time.Duration // the hold that is left after it
	}
	const s = time.Second
	for name, steps := range map[string][]step{
		"as long as asked for": {
			{0, outcome.RateLimited, 7 * s, 7 * s},
			{7 * s, outcome.Success, 0, 0},
			{8 * s, outcome.RateLimited, 2 * s, 2 * s},
		},
		"at most five minutes": {
			{0, outcome.RateLimited, 24 * time.Hour, outcome.MaxHold},
			{300 * s, outcome.Success, 0, 0},
		},
		"without a time, a second that doubles to a minute": {
			{0, outcome.RateLimited, 0, 1 * s},
			{1 * s, outcome.RateLimited, 0, 2 * s},
			{3 * s, outcome.RateLimited, 0, 4 * s},
			{7 * s, outcome.RateLimited, 0, 8 * s},
			{15 * s, outcome.RateLimited, 0, 16 * s},
			{31 * s, outcome.RateLimited, 0, 32 * s},
			{63 * s, outcome.RateLimited, 0, 60 * s},
			{123 * s, outcome.RateLimited, 0, 60 * s},
			{183 * s, outcome.Success, 0, 0},
			{184 * s, outcome.RateLimited, 0, 1 * s},
		},
		"another failure is no success": {
			{0, outcome.RateLimited, 0, 1 * s},
			{1 * s, outcome.FailedStatus, 0, 0},
			{2 * s, outcome.RateLimited, 0, 2 * s},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newStateRun(t, defaultBreaker())
			for i, step := range steps {
				r.now = epoch.Add(step.at)
				r.s.Tick(r.now, r.cfg)
				if !r.attempt(AdmitNormally, step.o, step.retryAfter) {
					t.Fatalf("step %d at %v: not let in", i, step.at)
				}
				if got := r.hold(); got != step.want {
					t.Fatalf("step %d at %v: on hold for %v, want %v", i, step.at, got, step.want)
				}
				if r.hold() > 0 {
					if r.attempt(AdmitNormally, outcome.Success, 0) || r.attempt(AdmitAllDown, outcome.Success, 0) {
						t.Fatalf("step %d: let in while on hold", i)
					}
					if got := r.s.For("").Available(r.now, r.cfg); got != 0 {
						t.Fatalf("step %d: %v is available while on hold", i, got)
					}
					at, held := r.s.For("").Returns(r.now, r.cfg)
					if at != r.s.own.hold.until || !held {
						t.Fatalf("step %d: returns at %v, held: %v", i, at, held)
					}
				}
			}
			if r.s.own.breaker.State != breaker.Closed || r.s.totals.Attempts != uint64(len(steps)) {
				t.Errorf("got %v, %+v", r.s.own.breaker.State, r.s.totals)
			}
		})
	}
}

// TestHoldsOfAttemptsUnderWay has several attempts end with 429 at once. They must count as one refusal,
// with the longest wait.
func TestHoldsOfAttemptsUnderWay(t *testing.T) {
	r := newStateRun(t, defaultBreaker())
	report := func(a *trip, wait, want time.Duration) {
		t.Helper()
		a.RetryAfter = wait
		r.s.Settle(a, r.now, r.cfg, outcome.RateLimited, true, NoDoubt)
		if got := r.hold(); got != want {
			t.Fatalf("on hold for %v, want %v", got, want)
		}
	}
	a, b, c, d, e := r.begin(0), r.begin(0), r.begin(0), r.begin(0), r.begin(0)
	report(a, 0, time.Second)
	report(b, 0, time.Second)
	report(c, 5*time.Second, 5*time.Second)
	report(d, 2*time.Second, 5*time.Second)
	report(e, 0, 5*time.Second)
	if !r.attempt(AdmitAnyway, outcome.Success, 0) {
		t.Error("a hold keeps out try_anyway")
	}
}

func TestReturns(t *testing.T) {
	for _, test := range []struct {
		name string
		set  func(r *stateRun)
		want time.Duration // from now; negative: never
		held bool
	}{
		{"closed", func(*stateRun) {}, 0, false},
		{"held", func(r *stateRun) { r.s.own.hold.until = epoch.Add(3 * time.Second) }, 3 * time.Second, true},
		{"open", func(r *stateRun) { r.s.own.breaker.State, r.s.own.breaker.Until = breaker.Open, epoch.Add(time.Minute) }, time.Minute, false},
		{"open, and held for longer", func(r *stateRun) {
			r.s.own.breaker.State, r.s.own.breaker.Until = breaker.Open, epoch.Add(time.Second)
			r.s.own.hold.until = epoch.Add(time.Minute)
		}, time.Minute, false},
		{"recovering and held", func(r *stateRun) {
			r.s.own.breaker.State, r.s.own.hold.until = breaker.Recovering, epoch.Add(time.Minute)
		}, time.Minute, true},
		{"forced open", func(r *stateRun) { r.s.own.breaker.State = breaker.ForcedOpen }, -1, false},
		{"forced open and held", func(r *stateRun) {
			r.s.own.breaker.State, r.s.own.hold.until = breaker.ForcedOpen, epoch.Add(time.Minute)
		}, -1, false},
	} {
		r := newStateRun(t, defaultBreaker())
		test.set(r)
		at, held := r.s.For("").Returns(r.now, r.cfg)
		want := epoch.Add(test.want)
		if test.want < 0 {
			want = time.Time{}
		}
		if at != want || held != test.held {
			t.Errorf("%s: returns at %v, held: %v; want %v, %v", test.name, at, held, want, test.held)
		}
	}
}

// TestReportsCountOnce settles and releases an attempt several times, as its body, its round trip and the
// watcher do. It must count once.
func TestReportsCountOnce(t *testing.T) {
	r := newStateRun(t, defaultBreaker())
	a, b := r.begin(0), r.begin(0)
	r.s.Settle(a, r.now, r.cfg, outcome.FailedStatus, false, NoDoubt)
	r.s.Settle(a, r.now, r.cfg, outcome.Success, false, NoDoubt)
	if got := r.s.Busy.Load(); got != 2 {
		t.Errorf("%d in flight", got)
	}
	r.s.Settle(a, r.now, r.cfg, outcome.Cancelled, true, NoDoubt)
	r.s.Settle(a, r.now, r.cfg, outcome.Success, true, NoDoubt)
	r.s.Settle(b, r.now, r.cfg, outcome.Success, true, NoDoubt)
	if got, want := r.s.totals, (totals{Attempts: 2, Successes: 1, Failures: 1}); got != want || r.s.Busy.Load() != 0 || !r.s.inFlight.empty() {
		t.Errorf("got %+v, %d in flight", got, r.s.Busy.Load())
	}
}

func TestInFlight(t *testing.T) {
	r := newStateRun(t, defaultBreaker())
	a, b, c := r.begin(0), r.begin(0), r.begin(0)
	list := func() (n int) {
		for range r.s.inFlight.all() {
			n++
		}
		return n
	}
	for i, x := range []*trip{b, c, a} { // from the middle, the front, the end
		r.s.Settle(x, r.now, r.cfg, outcome.Success, true, NoDoubt)
		if got := list(); got != 2-i || r.s.Busy.Load() != int64(got) {
			t.Fatalf("%d in the set, Busy is %d, want %d", got, r.s.Busy.Load(), 2-i)
		}
	}
}

func TestLimit(t *testing.T) {
	r := newStateRun(t, defaultBreaker())
	try := func() *trip {
		a := &trip{idle: true}
		if !r.s.Acquire(a, r.now, r.cfg, &Bounds{AtOnce: 2}, AdmitAnyway) {
			return nil
		}
		return a
	}
	a, b := try(), try()
	if a == nil || b == nil || try() != nil {
		t.Fatal("two attempts do not fill the endpoint")
	}
	r.s.Settle(a, r.now, r.cfg, outcome.Cancelled, true, NoDoubt)
	if try() == nil {
		t.Error("there is no room after an attempt has ended")
	}
}

// TestPeak checks that the peak latency rises at once and falls slowly.
func TestPeak(t *testing.T) {
	r := newStateRun(t, defaultBreaker())
	sample := func(after, latency, want time.Duration) {
		t.Helper()
		r.now = r.now.Add(after)
		r.s.own.notePeak(r.now, latency)
		if got := time.Duration(r.s.For("").Load() * float64(time.Second)); (got - want).Abs() > time.Microsecond {
			t.Errorf("after %v: %v, want %v", r.now.Sub(epoch), got, want)
		}
	}
	e := math.Exp(-1)
	sample(0, 100*time.Millisecond, 100*time.Millisecond)
	sample(0, time.Second, time.Second)
	sample(0, 0, time.Second)
	sample(peakDecay, 0, time.Duration(e*float64(time.Second)))
	sample(-time.Hour, 0, time.Duration(e*float64(time.Second))) // a clock that jumped back
	r.s.Busy.Store(3)
	if got, want := r.s.For("").Load(), 4*e; math.Abs(got-want) > 1e-9 {
		t.Errorf("with three in flight: %v, want %v", got, want)
	}
}

// epoch is the time at which tests begin.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// defaultBreaker returns the default configuration of breakers for attempts of at most 2 s.
func defaultBreaker(change ...func(*breaker.Config)) *breaker.Config {
	cfg := breaker.Defaults(2 * time.Second)
	for _, f := range change {
		f(&cfg)
	}
	return &cfg
}
