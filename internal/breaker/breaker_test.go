package breaker

import (
	"math"
	"strconv"
	"strings"
	"testing"
	"time"
)

// epoch is when the clocks of tests begin.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// defaultBreaker returns the default settings for attempts of at most 2 s, with changes.
func defaultBreaker(change ...func(*Config)) *Config {
	cfg := Defaults(2 * time.Second)
	for _, f := range change {
		f(&cfg)
	}
	return &cfg
}

// standing is what a step expects of a breaker.
type standing struct {
	state  State
	share  float64
	reason string
}

// breakerRun uses a breaker as its endpoint and the control loop do.
type breakerRun struct {
	t       *testing.T
	cfg     *Config
	b       Breaker
	now     time.Time
	permits map[string]Permit // of attempts in flight, by the attempt's name
}

func newBreakerRun(t *testing.T, cfg *Config) *breakerRun {
	return &breakerRun{t: t, cfg: cfg, now: epoch, permits: make(map[string]Permit)}
}

// advance moves the clock, with a tick every 250 ms and whenever one is due.
func (r *breakerRun) advance(to time.Time) {
	for {
		next := r.now.Truncate(tickEvery).Add(tickEvery)
		if due := r.b.Due(r.cfg); due.After(r.now) {
			next = earliest(next, due)
		}
		if next.After(to) {
			r.now = to
			return
		}
		r.now = next
		r.b.Tick(r.now, r.cfg)
	}
}

// do makes an event happen:
//
//	ok, fail, denied, slow, gone [n]  n attempts begin and end at once (1 by default)
//	begin, begin-last <attempt>       the attempt gets a permit
//	answer, answer-slow <attempt>     its response begins
//	end-ok, end-fail, end-slow, end-gone <attempt>  it ends
//	refused                           an attempt gets no permit
//	trip, reset, force-open, force-closed, off      an operator or a configuration acts
func (r *breakerRun) do(event string) {
	r.t.Helper()
	word, arg, _ := strings.Cut(event, " ")
	results := map[string]Result{
		"ok": {}, "fail": {Failed: true}, "denied": {Failed: true, Denied: true}, "slow": {Slow: true},
	}
	kind, ends := strings.CutPrefix(word, "end-")
	switch word {
	case "":
	case "ok", "fail", "denied", "slow", "gone":
		n := 1
		if arg != "" {
			n, _ = strconv.Atoi(arg)
		}
		for range n {
			p, ok := r.b.Acquire(r.now, r.cfg)
			if !ok {
				r.t.Fatalf("at %v: no permit for %s", r.now.Sub(epoch), event)
			}
			if word == "gone" {
				r.b.Cancel(r.now, p)
			} else {
				r.b.Report(r.now, r.cfg, p, results[word])
			}
		}
	case "refused":
		if p, ok := r.b.Acquire(r.now, r.cfg); ok {
			r.t.Fatalf("at %v: got the permit %+v, want none", r.now.Sub(epoch), p)
		}
	case "begin", "begin-last":
		acquire := r.b.Acquire
		if word == "begin-last" {
			acquire = r.b.AcquireLast
		}
		p, ok := acquire(r.now, r.cfg)
		if !ok {
			r.t.Fatalf("at %v: no permit for %s", r.now.Sub(epoch), event)
		}
		r.permits[arg] = p
	case "answer":
		p := r.permits[arg]
		r.b.Answered(r.now, r.cfg, &p, false)
		r.permits[arg] = p
	case "answer-slow":
		p := r.permits[arg]
		r.b.Answered(r.now, r.cfg, &p, true)
		r.permits[arg] = p
	case "end-gone":
		r.b.Cancel(r.now, r.permits[arg])
	case "trip":
		r.b.Trip(r.now, r.cfg, ReasonOperator)
	case "reset":
		r.b.Reset(r.now)
	case "force-open":
		r.b.Force(r.now, ForcedOpen)
	case "force-closed":
		r.b.Force(r.now, ForcedClosed)
	case "off":
		off := *r.cfg
		off.Off = true
		r.cfg = &off
		r.b.Tick(r.now, r.cfg)
	default:
		result, known := results[kind]
		if !ends || !known {
			r.t.Fatalf("unknown event %q", event)
		}
		r.b.Report(r.now, r.cfg, r.permits[arg], result)
	}
}

// standing returns the state of the breaker. The test fails if a read changes the breaker.
func (r *breakerRun) standing() standing {
	r.t.Helper()
	before := r.b
	got := standing{r.b.State, r.b.Allowed(r.cfg), r.b.Reason}
	r.b.Due(r.cfg)
	r.b.WantsTrial(r.now, r.cfg)
	r.b.OnTrial(r.cfg)
	r.b.TrialTaken(r.now, r.cfg)
	if r.b != before {
		r.t.Fatalf("at %v: reading changed the breaker", r.now.Sub(epoch))
	}
	return got
}

type breakerStep struct {
	at    time.Duration
	event string
	want  standing
}

func TestBreaker(t *testing.T) {
	const ms, s = time.Millisecond, time.Second
	closed := standing{Closed, 1, ""}
	open := func(reason string) standing { return standing{Open, 0, reason} }
	trial := standing{Recovering, 0, ReasonPeriodOver}
	share := func(share float64) standing { return standing{Recovering, share, ReasonPeriodOver} }
	recovered := standing{Closed, 1, ReasonRecovered}
	lastTrial := standing{Recovering, 0, reasonAllDown}
	forcedOpen, forcedClosed := standing{ForcedOpen, 0, ReasonOperator}, standing{ForcedClosed, 1, ReasonOperator}
	released, off := standing{Closed, 1, ReasonOperator}, standing{Closed, 1, reasonOff}
	onlyRatio := func(cfg *Config) { cfg.ConsecutiveFailures = 0 }
	slowCalls := func(cfg *Config) { cfg.SlowRatio, cfg.SlowAfter, cfg.MinRequests = 0.5, s, 4 }

	for _, test := range []struct {
		name  string
		cfg   *Config
		steps []breakerStep
	}{{
		"failures in a row",
		defaultBreaker(),
		[]breakerStep{
			{0, "ok 10", closed},
			{1 * s, "fail 4", closed},
			{2 * s, "ok", closed},
			{3 * s, "fail 4", closed},
			{4 * s, "gone 3", closed}, // counts for nothing
			{5 * s, "fail", open(ReasonConsecutive)},
			{5 * s, "refused", open(ReasonConsecutive)},
		},
	}, {
		"a row has no time limit",
		defaultBreaker(),
		[]breakerStep{
			{0, "fail 4", closed},
			{3600 * s, "fail", open(ReasonConsecutive)},
		},
	}, {
		"ratio: not before min_requests",
		defaultBreaker(onlyRatio),
		[]breakerStep{
			{0, "fail 19", closed},
			{0, "fail", open(reasonRatio)},
		},
	}, {
		"ratio: half is enough, less is not",
		defaultBreaker(onlyRatio),
		[]breakerStep{
			{0, "ok 21", closed},
			{1 * s, "fail 20", closed},
			{2 * s, "fail", open(reasonRatio)},
		},
	}, {
		"ratio: the window slides",
		defaultBreaker(onlyRatio),
		[]breakerStep{
			{0, "fail 19", closed},
			{10 * s, "fail 19", closed}, // the first 19 have left the window
			{18 * s, "ok 20", closed},
			{18 * s, "fail", open(reasonRatio)}, // 20 of 40
		},
	}, {
		"ratio: 0 turns it off",
		defaultBreaker(onlyRatio, func(cfg *Config) { cfg.FailureRatio = 0 }),
		[]breakerStep{{0, "fail 1000", closed}},
	}, {
		"denied three times in a row",
		defaultBreaker(onlyRatio),
		[]breakerStep{
			{0, "denied 2", closed},
			{0, "ok", closed},
			{0, "denied 2", closed},
			{0, "fail", closed},
			{0, "denied 2", closed},
			{9 * s, "denied", open(reasonDenied)},
		},
	}, {
		"slow calls",
		defaultBreaker(slowCalls),
		[]breakerStep{
			{0, "slow 3", closed},
			{1 * s, "ok 4", closed},
			{2 * s, "slow", open(ReasonSlow)},
		},
	}, {
		"slow calls are off by default",
		defaultBreaker(),
		[]breakerStep{{0, "slow 1000", closed}},
	}, {
		"recovery doubles the share if each step has many successes",
		defaultBreaker(),
		[]breakerStep{
			{0, "fail 5", open(ReasonConsecutive)},
			{3900 * ms, "refused", open(ReasonConsecutive)}, // 5 s less a fifth
			{6 * s, "", trial},                              // 5 s and a fifth
			{6 * s, "begin a", trial},
			{6 * s, "refused", trial}, // one at a time
			{7 * s, "end-ok a", share(0.05)},
			{7499 * ms, "ok 5", share(0.05)},
			{7500 * ms, "ok 10", share(0.1)},
			{8 * s, "ok 20", share(0.2)},
			{8500 * ms, "ok 500", share(0.4)}, // more is not more
			{9 * s, "ok 20", share(0.8)},
			{9499 * ms, "", share(0.8)},
			{9500 * ms, "", recovered},
			{9500 * ms, "fail 4", recovered},
		},
	}, {
		"each success adds 1 % of the traffic, each step at least 2.5 %",
		defaultBreaker(),
		[]breakerStep{
			{0, "fail 5", open(ReasonConsecutive)},
			{6 * s, "ok", share(0.05)}, // the trial counts for no step
			{6 * s, "ok", share(0.05)},
			{6500 * ms, "ok 2", share(0.075)},
			{7 * s, "ok 3", share(0.1)},
			{7500 * ms, "ok 8", share(0.13)},
			{8 * s, "", share(0.21)},
		},
	}, {
		"an attempt whose response begins and ends counts once",
		defaultBreaker(),
		[]breakerStep{
			{0, "fail 5", open(ReasonConsecutive)},
			{6 * s, "ok", share(0.05)},
			{6 * s, "ok", share(0.05)},
			{6 * s, "begin a", share(0.05)},
			{6 * s, "begin b", share(0.05)},
			{6100 * ms, "answer a", share(0.05)},
			{6200 * ms, "end-ok a", share(0.05)},
			{6300 * ms, "answer b", share(0.05)},
			{6500 * ms, "end-ok b", share(0.08)},
			{7 * s, "", share(0.08)},
		},
	}, {
		"steps without a success add nothing until the next success",
		defaultBreaker(),
		[]breakerStep{
			{0, "fail 5", open(ReasonConsecutive)},
			{6 * s, "ok", share(0.05)},
			{9 * s, "", share(0.05)},
			{9 * s, "gone", share(0.05)},
			{12 * s, "", share(0.05)},
			{12 * s, "ok", share(0.05)},
			{12500 * ms, "", share(0.1)}, // 13 steps, but a step at most doubles the share
			{14 * s, "ok", share(0.1)},
			{14500 * ms, "", share(0.2)}, // 4 steps
			{15500 * ms, "ok", share(0.2)},
			{16 * s, "", share(0.275)}, // 3 steps
			{3600 * s, "", share(0.275)},
		},
	}, {
		"a failure halves the share once a step",
		defaultBreaker(),
		[]breakerStep{
			{0, "fail 5", open(ReasonConsecutive)},
			{6 * s, "ok 2", share(0.05)},
			{6500 * ms, "ok 8", share(0.075)},
			{7 * s, "ok", share(0.15)},
			{7500 * ms, "ok", share(0.175)},
			{7600 * ms, "fail", share(0.0875)},
			{7700 * ms, "fail 10", share(0.0875)},
			{7900 * ms, "ok", share(0.0875)},
			{8 * s, "ok", share(0.0875)}, // the bad step added nothing
			{8500 * ms, "ok", share(0.1125)},
			{8500 * ms, "fail", share(0.05625)}, // a good step lies between
			{9 * s, "", share(0.05625)},
		},
	}, {
		"two bad steps in a row are a relapse",
		defaultBreaker(),
		[]breakerStep{
			{0, "fail 5", open(ReasonConsecutive)},
			{6 * s, "ok 2", share(0.05)},
			{6500 * ms, "ok", share(0.075)},
			{7 * s, "ok", share(0.1)},
			{7500 * ms, "fail", share(0.0625)},
			{8 * s, "fail", open(reasonRelapse)},
			{15900 * ms, "refused", open(reasonRelapse)}, // 10 s less a fifth
			{20100 * ms, "", trial},
		},
	}, {
		"failures of two calls at the smallest share are a relapse",
		defaultBreaker(),
		[]breakerStep{
			{0, "fail 5", open(ReasonConsecutive)},
			{6 * s, "ok 3", share(0.05)},
			{6100 * ms, "fail", share(0.05)}, // the call itself may be the cause
			{6200 * ms, "fail", open(reasonRelapse)},
			{14 * s, "refused", open(reasonRelapse)},
		},
	}, {
		"a trial that fails is a relapse",
		defaultBreaker(),
		[]breakerStep{
			{0, "fail 5", open(ReasonConsecutive)},
			{6 * s, "fail", open(reasonTrialFailed)},
			{13900 * ms, "refused", open(reasonTrialFailed)},
			{18 * s, "fail", open(reasonTrialFailed)},
			{25900 * ms, "refused", open(reasonTrialFailed)}, // the longest period is 10 s, less a fifth
			{30 * s, "ok", share(0.05)},
		},
	}, {
		"a trial without a result expires",
		defaultBreaker(),
		[]breakerStep{
			{0, "fail 5", open(ReasonConsecutive)},
			{6 * s, "begin a", trial},
			{7999 * ms, "refused", trial},
			{8 * s, "begin b", trial},
			{8 * s, "refused", trial},
			{9 * s, "end-ok a", share(0.05)}, // late, but of the same generation
			{9 * s, "begin c", share(0.05)},
		},
	}, {
		"after a trial whose client left there is another",
		defaultBreaker(),
		[]breakerStep{
			{0, "fail 5", open(ReasonConsecutive)},
			{6 * s, "begin a", trial},
			{6100 * ms, "refused", trial},
			{6200 * ms, "end-gone a", trial},
			{6200 * ms, "begin b", trial},
		},
	}, {
		"the start of a response is a success, its bad end a failure",
		defaultBreaker(),
		[]breakerStep{
			{0, "fail 5", open(ReasonConsecutive)},
			{6 * s, "begin a", trial},
			{7 * s, "answer a", share(0.05)},
			{7400 * ms, "begin b", share(0.05)},
			{7450 * ms, "answer b", share(0.05)},
			{7500 * ms, "", share(0.075)},
			{7600 * ms, "end-fail b", share(0.05)},
		},
	}, {
		"after slowness opened it, a slow trial fails",
		defaultBreaker(slowCalls),
		[]breakerStep{
			{0, "slow 4", open(ReasonSlow)},
			{6 * s, "begin a", trial},
			{7 * s, "answer-slow a", trial},
			{8 * s, "end-slow a", open(reasonTrialFailed)},
			{20 * s, "ok 2", share(0.05)},
			{20500 * ms, "slow", share(0.05)},
			{20600 * ms, "slow", share(0.05)},
			{21 * s, "slow", open(reasonRelapse)},
		},
	}, {
		"after failures opened it, a slow trial succeeds",
		defaultBreaker(slowCalls),
		[]breakerStep{
			{0, "fail 4", open(reasonRatio)},
			{6 * s, "slow", share(0.05)},
			{6 * s, "slow", share(0.05)},
			{6500 * ms, "", share(0.075)},
		},
	}, {
		"results of an earlier generation change nothing",
		defaultBreaker(),
		[]breakerStep{
			{0, "begin a", closed},
			{0, "begin b", closed},
			{0, "fail 5", open(ReasonConsecutive)},
			{6 * s, "begin c", trial},
			{6 * s, "end-ok a", trial},
			{6 * s, "answer b", trial},
			{6 * s, "end-fail b", trial},
			{6 * s, "end-gone b", trial},
			{6 * s, "refused", trial},
			{6 * s, "end-ok c", share(0.05)},
		},
	}, {
		"all down: a trial in the open period that fails does not change the period",
		defaultBreaker(),
		[]breakerStep{
			{0, "fail 5", open(ReasonConsecutive)},
			{1 * s, "begin-last a", lastTrial},
			{1100 * ms, "refused", lastTrial},
			{1200 * ms, "end-fail a", open(reasonTrialFailed)},
			{1200 * ms, "refused", open(reasonTrialFailed)},
			{3900 * ms, "refused", open(reasonTrialFailed)},
			{6 * s, "begin b", trial}, // 5 s, not 10
		},
	}, {
		"all down: a trial without a result does not change the open period",
		defaultBreaker(),
		[]breakerStep{
			{0, "fail 5", open(ReasonConsecutive)},
			{1 * s, "begin-last a", lastTrial},
			{1200 * ms, "end-gone a", open(reasonTrialFailed)},
			{3900 * ms, "refused", open(reasonTrialFailed)},
			{6 * s, "begin b", trial},
		},
	}, {
		"all down: a trial that succeeds begins the recovery",
		defaultBreaker(),
		[]breakerStep{
			{0, "fail 5", open(ReasonConsecutive)},
			{1 * s, "begin-last a", lastTrial},
			{1100 * ms, "end-ok a", standing{Recovering, 0.05, reasonAllDown}},
			{1200 * ms, "fail", standing{Recovering, 0.05, reasonAllDown}},
			{1300 * ms, "fail", open(reasonRelapse)}, // the open period is over
			{9 * s, "refused", open(reasonRelapse)},
		},
	}, {
		"all down: a trial after the open period counts",
		defaultBreaker(),
		[]breakerStep{
			{0, "fail 5", open(ReasonConsecutive)},
			{6 * s, "begin-last a", trial},
			{6 * s, "end-fail a", open(reasonTrialFailed)},
			{13900 * ms, "refused", open(reasonTrialFailed)},
		},
	}, {
		"forced open",
		defaultBreaker(),
		[]breakerStep{
			{0, "begin a", closed},
			{0, "force-open", forcedOpen},
			{0, "refused", forcedOpen},
			{1 * s, "end-ok a", forcedOpen},
			{3600 * s, "refused", forcedOpen},
			{3600 * s, "off", forcedOpen},
			{3600 * s, "refused", forcedOpen},
			{3601 * s, "reset", released},
			{3601 * s, "ok", released},
		},
	}, {
		"forced closed",
		defaultBreaker(),
		[]breakerStep{
			{0, "fail 5", open(ReasonConsecutive)},
			{0, "force-closed", forcedClosed},
			{0, "fail 100", forcedClosed},
			{3600 * s, "denied 100", forcedClosed},
			{3600 * s, "reset", released},
			{3600 * s, "fail 4", released}, // counts from 0
		},
	}, {
		"tripped by an operator",
		defaultBreaker(),
		[]breakerStep{
			{0, "trip", open(ReasonOperator)},
			{3900 * ms, "refused", open(ReasonOperator)},
			{6 * s, "ok", share(0.05)},
		},
	}, {
		"a configuration without breakers closes them",
		defaultBreaker(),
		[]breakerStep{
			{0, "fail 5", open(ReasonConsecutive)},
			{1 * s, "off", off},
			{1 * s, "fail 100", off},
		},
	}, {
		"a first share of 1 closes after one trial",
		defaultBreaker(func(cfg *Config) { cfg.Start = 1 }),
		[]breakerStep{
			{0, "fail 5", open(ReasonConsecutive)},
			{6 * s, "ok", recovered},
		},
	}} {
		t.Run(test.name, func(t *testing.T) {
			r := newBreakerRun(t, test.cfg)
			for i, step := range test.steps {
				r.advance(epoch.Add(step.at))
				r.do(step.event)
				got := r.standing()
				got.share = math.Round(got.share*1e9) / 1e9 // sums are not exact
				if got != step.want {
					t.Fatalf("step %d at %v, after %q: got %v, want %v", i, step.at, step.event, got, step.want)
				}
			}
		})
	}
}

const tickEvery = 250 * time.Millisecond

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
