package breaker

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
)

// epoch is when the clocks of tests begin.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// defaultBreaker is what breakers run by unless told otherwise, with attempts of
// at most 2 s.
func defaultBreaker(change ...func(*Config)) *Config {
	cfg := Defaults(2 * time.Second)
	for _, f := range change {
		f(&cfg)
	}
	return &cfg
}

// stands is where a breaker stands.
type stands struct {
	state  State
	share  float64
	reason string
}

// breakerRun drives a breaker as its endpoint and the control loop do.
type breakerRun struct {
	t       *testing.T
	cfg     *Config
	b       Breaker
	now     time.Time
	permits map[string]Permit // of attempts under way, by name
}

func newBreakerRun(t *testing.T, cfg *Config) *breakerRun {
	return &breakerRun{t: t, cfg: cfg, now: epoch, permits: make(map[string]Permit)}
}

// advance lets time go by, with a tick every 250 ms and whenever one is due.
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

// do carries out an event: `ok`, `fail`, `denied`, `slow` or `gone`, with how
// many attempts there are to be, all begun and ended at once; `begin`, `begin-last`,
// `answer`, `answer-slow`, `end-ok`, `end-fail`, `end-slow` and `end-gone` with the
// name of an attempt; `refused`, `trip`, `reset`, `force-open`, `force-closed`, `off`
// or nothing.
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

// stands reads where the breaker stands, which must change nothing.
func (r *breakerRun) stands() stands {
	r.t.Helper()
	before := r.b
	s := stands{r.b.State, r.b.Allowed(r.cfg), r.b.Reason}
	r.b.Due(r.cfg)
	r.b.WantsTrial(r.now, r.cfg)
	r.b.OnTrial(r.cfg)
	r.b.TrialTaken(r.now, r.cfg)
	if r.b != before {
		r.t.Fatalf("at %v: reading changed the breaker", r.now.Sub(epoch))
	}
	return s
}

type breakerStep struct {
	at    time.Duration
	event string
	want  stands
}

func TestBreaker(t *testing.T) {
	const ms, s = time.Millisecond, time.Second
	closed := stands{Closed, 1, ""}
	open := func(reason string) stands { return stands{Open, 0, reason} }
	trial := stands{Recovering, 0, ReasonPeriodOver}
	share := func(share float64) stands { return stands{Recovering, share, ReasonPeriodOver} }
	recovered := stands{Closed, 1, ReasonRecovered}
	lastTrial := stands{Recovering, 0, reasonAllDown}
	forcedOpen, forcedClosed := stands{ForcedOpen, 0, ReasonOperator}, stands{ForcedClosed, 1, ReasonOperator}
	released, off := stands{Closed, 1, ReasonOperator}, stands{Closed, 1, reasonOff}
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
			{4 * s, "gone 3", closed}, // says nothing, and breaks no row
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
			{10 * s, "fail 19", closed}, // the first are forgotten
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
		"recovery doubles the share, where each step has many successes",
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
		"an attempt counts once, though it is heard of twice",
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
		"steps without a success add nothing until there is one again",
		defaultBreaker(),
		[]breakerStep{
			{0, "fail 5", open(ReasonConsecutive)},
			{6 * s, "ok", share(0.05)},
			{9 * s, "", share(0.05)},
			{9 * s, "gone", share(0.05)},
			{12 * s, "", share(0.05)},
			{12 * s, "ok", share(0.05)},
			{12500 * ms, "", share(0.1)}, // 13 steps, but at most the double
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
			{8500 * ms, "fail", share(0.05625)}, // not in a row with the first
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
			{8 * s, "fail", open(ReasonRelapse)},
			{15900 * ms, "refused", open(ReasonRelapse)}, // 10 s less a fifth
			{20100 * ms, "", trial},
		},
	}, {
		"failures of two calls at the smallest share are a relapse",
		defaultBreaker(),
		[]breakerStep{
			{0, "fail 5", open(ReasonConsecutive)},
			{6 * s, "ok 3", share(0.05)},
			{6100 * ms, "fail", share(0.05)}, // it may be the call's own
			{6200 * ms, "fail", open(ReasonRelapse)},
			{14 * s, "refused", open(ReasonRelapse)},
		},
	}, {
		"a trial that fails is a relapse",
		defaultBreaker(),
		[]breakerStep{
			{0, "fail 5", open(ReasonConsecutive)},
			{6 * s, "fail", open(reasonTrialFailed)},
			{13900 * ms, "refused", open(reasonTrialFailed)},
			{18 * s, "fail", open(reasonTrialFailed)},
			{25900 * ms, "refused", open(reasonTrialFailed)}, // no longer than 10 s, less a fifth
			{30 * s, "ok", share(0.05)},
		},
	}, {
		"a trial that is not heard of expires",
		defaultBreaker(),
		[]breakerStep{
			{0, "fail 5", open(ReasonConsecutive)},
			{6 * s, "begin a", trial},
			{7999 * ms, "refused", trial},
			{8 * s, "begin b", trial},
			{8 * s, "refused", trial},
			{9 * s, "end-ok a", share(0.05)}, // late, but about this trial
			{9 * s, "begin c", share(0.05)},
		},
	}, {
		"a trial whose client left makes room for another",
		defaultBreaker(),
		[]breakerStep{
			{0, "fail 5", open(ReasonConsecutive)},
			{6 * s, "begin a", trial},
			{6100 * ms, "refused", trial},
			{6200 * ms, "end-gone a", trial},
			{6200 * ms, "begin b", trial},
		},
	}, {
		"an answer under way is a success, its bad end is not",
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
		"slowness keeps an endpoint out that slowness opened",
		defaultBreaker(slowCalls),
		[]breakerStep{
			{0, "slow 4", open(ReasonSlow)},
			{6 * s, "begin a", trial},
			{7 * s, "answer-slow a", trial},
			{8 * s, "end-slow a", open(reasonTrialFailed)},
			{20 * s, "ok 2", share(0.05)},
			{20500 * ms, "slow", share(0.05)},
			{20600 * ms, "slow", share(0.05)},
			{21 * s, "slow", open(ReasonRelapse)},
		},
	}, {
		"slowness is no failure where failures opened",
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
		"all down: a trial past the open period, whose failure leaves that as it was",
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
		"all down: a trial that says nothing leaves the open period as it was",
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
			{1100 * ms, "end-ok a", stands{Recovering, 0.05, reasonAllDown}},
			{1200 * ms, "fail", stands{Recovering, 0.05, reasonAllDown}},
			{1300 * ms, "fail", open(ReasonRelapse)}, // no longer on probation
			{9 * s, "refused", open(ReasonRelapse)},
		},
	}, {
		"all down: where the period is over anyway, the trial counts",
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
			{3600 * s, "fail 4", released}, // counts anew
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
				got := r.stands()
				got.share = math.Round(got.share*1e9) / 1e9 // sums are not exact
				if got != step.want {
					t.Fatalf("step %d at %v, after %q: got %v, want %v", i, step.at, step.event, got, step.want)
				}
			}
		})
	}
}

func TestBreakerOpenPeriods(t *testing.T) {
	cfg := defaultBreaker()
	for cause, periods := range map[string][]time.Duration{
		ReasonConsecutive: {5, 10, 10, 10},
		ReasonSlower:      {5, 10, 10, 10},
		reasonDenied:      {5, 10, 20, 40, 80, 160, 300, 300, 300},
	} {
		for relapses, want := range periods {
			want *= time.Second
			if got := cfg.period(relapses, cfg.longest(cause)); got != want {
				t.Errorf("%s, after %d relapses: %v, want %v", cause, relapses, got, want)
			}
			shortest, longest, sum := time.Duration(math.MaxInt64), time.Duration(0), time.Duration(0)
			const times = 2000
			for range times {
				b := Breaker{Relapses: relapses}
				b.open(epoch, cfg, cause)
				period := b.Until.Sub(epoch)
				shortest, longest, sum = min(shortest, period), max(longest, period), sum+period
			}
			if shortest < want*8/10 || longest > want*12/10 {
				t.Errorf("%s, after %d relapses: from %v to %v, which is more than 20 %% away from %v", cause, relapses, shortest, longest, want)
			}
			if shortest > want*82/100 || longest < want*118/100 || sum/times < want*98/100 || sum/times > want*102/100 {
				t.Errorf("%s, after %d relapses: from %v to %v, on average %v: not spread evenly around %v", cause, relapses, shortest, longest, sum/times, want)
			}
		}
	}
	// Periods that another configuration has made long do not overflow.
	day := defaultBreaker(func(cfg *Config) { cfg.OpenFor, cfg.OpenMax = 24*time.Hour, 24*time.Hour })
	if got := day.openPeriod(60); got != 24*time.Hour {
		t.Errorf("got %v", got)
	}
}

// TestBreakerWaitsLongForCredentialsOnly lets trials fail in several ways: periods grow to
// minutes as long as the endpoint's own credentials are refused, and are short again with
// the first failure of another kind.
func TestBreakerWaitsLongForCredentialsOnly(t *testing.T) {
	r := newBreakerRun(t, defaultBreaker())
	opened := func(event, cause string, longest time.Duration) {
		t.Helper()
		r.do(event)
		period := r.b.Until.Sub(r.now)
		if r.b.Opened != cause || period < longest*8/10 || period > longest*12/10 {
			t.Fatalf("after %q: open for %v because of %q, want %v because of %q", event, period, r.b.Opened, longest, cause)
		}
		r.advance(r.b.Until)
	}
	const s = time.Second
	opened("fail 5", ReasonConsecutive, 5*s)
	for range 9 {
		opened("fail", ReasonConsecutive, 10*s)
	}
	for _, longest := range []time.Duration{20 * s, 40 * s, 80 * s, 160 * s, 300 * s, 300 * s} {
		opened("denied", reasonDenied, longest)
	}
	opened("fail", reasonTrialFailed, 10*s)
	opened("denied", reasonDenied, 300*s)
}

// TestBreakerIsBackSoonInAQuietPool lets an endpoint of a pool with a call every 4 s be
// down for longer and longer: when it is well again it is tried within 16 s, an open
// period and a call, however long that was.
func TestBreakerIsBackSoonInAQuietPool(t *testing.T) {
	const every = 4 * time.Second
	for _, outage := range []time.Duration{time.Minute, 10 * time.Minute, 24 * time.Hour} {
		r := newBreakerRun(t, defaultBreaker())
		r.do("fail 5")
		call := func(event string) bool {
			r.advance(r.now.Add(every))
			if wants, _ := r.b.WantsTrial(r.now, r.cfg); wants {
				r.do(event)
				return true
			}
			return false
		}
		for r.now.Before(epoch.Add(outage)) {
			call("fail")
		}
		well := r.now
		for !call("ok") {
		}
		if took := r.now.Sub(well); took > 12*time.Second+every {
			t.Errorf("down for %v, and tried %v after that", outage, took)
		}
	}
}

func TestBreakerForgivesRelapses(t *testing.T) {
	r := newBreakerRun(t, defaultBreaker(func(cfg *Config) { cfg.OpenMax = 5 * time.Minute }))
	r.do("fail 5")
	for range 20 {
		r.advance(r.b.Until)
		r.do("fail")
	}
	// Relapses that would make nothing longer are not counted.
	if r.b.Relapses != 6 {
		t.Fatalf("%d relapses, want 6", r.b.Relapses)
	}
	r.advance(r.b.Until)
	for r.b.State != Closed {
		r.do("ok")
		r.advance(r.now.Add(100 * time.Millisecond))
	}
	closed := r.now
	at := func(d time.Duration, want int) {
		t.Helper()
		r.advance(closed.Add(d))
		if r.b.Relapses != want {
			t.Fatalf("%v after closing: %d relapses, want %d", d, r.b.Relapses, want)
		}
	}
	at(5*time.Minute, 6) // without a success nothing is forgiven
	r.do("fail")
	at(6*time.Minute, 6)
	r.do("ok")
	at(6*time.Minute+tickEvery, 5)
	at(9*time.Minute, 5) // every minute needs its own
	r.do("ok")
	at(9*time.Minute+tickEvery, 4)
	for i := range 10 {
		r.do("ok")
		at(time.Duration(10*60+1+61*i)*time.Second, max(0, 3-i))
	}
	r.do("fail 5")
	if period := r.b.Until.Sub(r.now); period > 6*time.Second {
		t.Errorf("all is forgiven, but it opens for %v", period)
	}
}

// TestBreakerThinTraffic wants a recovering endpoint to ask for calls where its
// share brings it none.
func TestBreakerThinTraffic(t *testing.T) {
	r := newBreakerRun(t, defaultBreaker())
	wants := func(wantTrial, wantUrgent bool) {
		t.Helper()
		if trial, urgent := r.b.WantsTrial(r.now, r.cfg); trial != wantTrial || urgent != wantUrgent {
			t.Fatalf("at %v: wants a trial: %v, urgently: %v; want %v, %v", r.now.Sub(epoch), trial, urgent, wantTrial, wantUrgent)
		}
	}
	wants(false, false)
	r.do("fail 5")
	wants(false, false)
	r.advance(r.b.Until)
	wants(true, false) // one that may be sent elsewhere
	r.do("begin a")
	wants(false, false)
	r.advance(r.now.Add(r.cfg.trialExpiry))
	wants(true, false)
	r.advance(r.b.Changed.Add(trialPatience))
	wants(true, true) // any
	r.do("ok")
	for _, share := range []float64{0.05, 0.1, 0.2, 0.4, 0.8} {
		if got := r.stands().share; got != share {
			t.Fatalf("the share is %v, want %v", got, share)
		}
		wants(false, false)
		r.advance(r.now.Add(10*r.cfg.Step - 1))
		wants(false, false)
		r.advance(r.now.Add(1)) // ten steps without a call
		wants(true, false)
		r.advance(r.now.Add(10 * r.cfg.Step))
		wants(true, true)
		r.do("ok")
		wants(false, false)
		r.advance(r.now.Add(r.cfg.Step))
	}
	if got := r.stands(); got != (stands{Closed, 1, ReasonRecovered}) {
		t.Fatalf("got %v", got)
	}
}

// playBreaker plays a random sequence of events and times, and checks after
// each that the breaker keeps its promises:
//   - it gives no permit while open, one at a time while on trial;
//   - its share is that of its state;
//   - reading changes nothing, and neither do results of earlier generations;
//   - the state changes with a new generation only, and only along the table;
//   - once everything succeeds, it closes within a bounded time.
func playBreaker(t *testing.T, script []byte) {
	read := func() byte {
		if len(script) == 0 {
			return 0
		}
		b := script[0]
		script = script[1:]
		return b
	}
	cfg := defaultBreaker(func(cfg *Config) {
		cfg.ConsecutiveFailures = int(read() % 8)
		cfg.FailureRatio = float64(read()%5) / 4
		cfg.MinRequests = 1 + int(read()%20)
		cfg.SlowRatio = float64(read()%3) / 2
		cfg.SlowAfter = time.Second
		cfg.OpenFor = time.Duration(1+read()%50) * 100 * time.Millisecond
		cfg.OpenMax = cfg.OpenFor * time.Duration(1+read()%30)
		cfg.DeniedMax = cfg.OpenMax
		cfg.Start = float64(1+read()%20) / 20
		cfg.Step = time.Duration(1+read()%10) * 100 * time.Millisecond
		cfg.Off = read()%50 == 49
	})
	r := newBreakerRun(t, cfg)
	type held struct {
		Permit
		trialUntil time.Time // when a trial expires; zero for other attempts
	}
	var under []held // by attempts under way
	may := map[[2]State]bool{
		{Closed, Open}: true, {Open, Recovering}: true,
		{Recovering, Open}: true, {Recovering, Closed}: true,
	}
	// step runs one event and compares what came of it with the promises.
	step := func(what string, operator bool, event func()) {
		t.Helper()
		before := r.b
		event()
		after := r.b
		got := r.stands()
		switch got.state {
		case Closed, ForcedClosed:
			if got.share != 1 {
				t.Fatalf("%s: %v with share %v", what, got.state, got.share)
			}
		case Open:
			if got.share != 0 && !cfg.Off {
				t.Fatalf("%s: open with share %v", what, got.share)
			}
		case ForcedOpen:
			if got.share != 0 {
				t.Fatalf("%s: forced open with share %v", what, got.share)
			}
		case Recovering:
			if !cfg.Off && (got.share != 0 && got.share < cfg.Start || got.share >= 1) {
				t.Fatalf("%s: recovering with share %v", what, got.share)
			}
		}
		if after.Generation < before.Generation || after.State != before.State && after.Generation == before.Generation {
			t.Fatalf("%s: %v to %v, generation %d to %d", what, before.State, after.State, before.Generation, after.Generation)
		}
		if after.State == before.State || operator || cfg.Off {
			return
		}
		path := [2]State{before.State, after.State}
		// one event may go on from recovering at once, where the first share is 1
		if !may[path] && after.Generation-before.Generation < 2 {
			t.Fatalf("%s: went from %v to %v", what, before.State, after.State)
		}
	}
	begin := func(acquire func(time.Time, *Config) (Permit, bool), last bool) {
		before := r.b
		p, ok := acquire(r.now, cfg)
		if !ok {
			return
		}
		if before.State == ForcedOpen || before.State == Open && !last && !cfg.Off {
			t.Fatalf("a permit while %v", before.State)
		}
		if r.b.OnTrial(cfg) {
			for _, h := range under {
				if h.Generation == p.Generation && r.now.Before(h.trialUntil) {
					t.Fatalf("a second trial beside one of generation %d", p.Generation)
				}
			}
			if p.Trial == 0 {
				t.Fatal("a permit on trial is no trial")
			}
		}
		h := held{Permit: p}
		if p.Trial != 0 {
			h.trialUntil = r.b.trialUntil
		}
		under = append(under, h)
	}
	for len(script) > 0 {
		op, arg := read(), read()
		switch op % 12 {
		case 0, 1:
			step("acquiring", false, func() { begin(r.b.Acquire, false) })
		case 2:
			step("acquiring in a pool that is down", false, func() { begin(r.b.AcquireLast, true) })
		case 3, 4, 5, 6:
			if len(under) == 0 {
				continue
			}
			i := int(arg) % len(under)
			h := under[i].Permit
			under = append(under[:i], under[i+1:]...)
			before := r.b
			step("reporting", false, func() {
				switch op % 12 {
				case 3:
					r.b.Report(r.now, cfg, h, Result{})
				case 4:
					r.b.Report(r.now, cfg, h, Result{Failed: true, Denied: arg%3 == 0})
				case 5:
					r.b.Report(r.now, cfg, h, Result{Slow: true})
				case 6:
					r.b.Cancel(r.now, h)
				}
			})
			if h.Generation != before.Generation && r.b != before {
				t.Fatal("a result of an earlier generation changed the breaker")
			}
		case 7:
			if len(under) > 0 {
				step("an answer", false, func() { r.b.Answered(r.now, cfg, &under[int(arg)%len(under)].Permit, arg%2 == 0) })
			}
		case 8, 9:
			d := time.Duration(arg) * time.Duration(arg) * time.Millisecond // up to a minute
			step("waiting", false, func() { r.now = r.now.Add(d); r.b.Tick(r.now, cfg) })
		case 10:
			step("ticking", false, func() { r.b.Tick(r.now, cfg) })
		case 11:
			switch arg % 16 {
			case 0:
				step("tripping", true, func() { r.b.Trip(r.now, cfg, ReasonOperator) })
			case 1:
				step("forcing", true, func() { r.b.Force(r.now, ForcedOpen) })
			case 2:
				step("forcing", true, func() { r.b.Force(r.now, ForcedClosed) })
			case 3, 4, 5:
				step("resetting", true, func() { r.b.Reset(r.now) })
			}
		}
	}
	if r.b.State == ForcedOpen || r.b.State == ForcedClosed {
		return
	}
	// Whatever was, with nothing but successes it closes: after what is left of
	// the open period, of a lost trial, of a bad step, and growing.
	const poll = 50 * time.Millisecond
	bound := cfg.OpenMax*12/10 + cfg.trialExpiry + time.Duration(3+math.Ceil((1-cfg.Start)/shareOfStep))*(cfg.Step+poll) + time.Second
	began := r.now
	for r.b.State != Closed {
		if r.now.Sub(began) > bound {
			t.Fatalf("%v after %v of successes: %+v under %+v", r.b.State, bound, r.b, *cfg)
		}
		if p, ok := r.b.Acquire(r.now, cfg); ok {
			r.b.Report(r.now, cfg, p, Result{})
		}
		r.now = r.now.Add(poll)
		r.b.Tick(r.now, cfg)
	}
}

func TestBreakerKeepsItsPromises(t *testing.T) {
	for seed := range uint64(4000) {
		rng := rand.New(rand.NewPCG(seed, 7))
		script := make([]byte, 10+rng.IntN(600))
		for i := range script {
			script[i] = byte(rng.Uint32())
		}
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) { playBreaker(t, script) }) {
			return
		}
	}
}

func FuzzBreaker(f *testing.F) {
	f.Add([]byte("\x05\x02\x13\x00\x31\x1d\x00\x04\x00\x00\x00\x04\x00\x00\x00\x04\x00\x08\x40\x00\x00\x03\x00"))
	f.Add([]byte("\x01\x00\x00\x01\x09\x09\x00\x04\x00\x02\x00\x04\x00\x08\xff\x02\x00\x07\x01\x05\x00\x0a\x00"))
	f.Fuzz(playBreaker)
}

// TestRecoveryInSpiteOfSomeFailures wants an endpoint that fails now and then, as
// it does when it is well, to recover however busy it is, and one that fails
// often not to.
func TestRecoveryInSpiteOfSomeFailures(t *testing.T) {
	cfg := defaultBreaker()
	recover := func(seed uint64, rps int, failing float64) (took time.Duration, closed bool) {
		rng := rand.New(rand.NewPCG(seed, 9))
		var b Breaker
		b.open(epoch, cfg, ReasonConsecutive)
		now := b.Until
		for began := now; now.Sub(began) < 5*time.Minute; now = now.Add(50 * time.Millisecond) {
			b.Tick(now, cfg)
			for range rps / 20 {
				if wants, _ := b.WantsTrial(now, cfg); !wants && rng.Float64() >= b.Allowed(cfg) {
					continue
				}
				if p, ok := b.Acquire(now, cfg); ok {
					b.Report(now, cfg, p, Result{Failed: rng.Float64() < failing})
				}
				if b.State == Closed {
					return now.Sub(began), true
				}
			}
		}
		return 5 * time.Minute, false
	}
	const runs = 50
	for _, rps := range []int{200, 2000} {
		sum := time.Duration(0)
		for seed := range uint64(runs) {
			took, _ := recover(seed, rps, 0.01)
			sum += took
		}
		if mean := sum / runs; mean > 20*time.Second {
			t.Errorf("%d a second of which 1 %% fail: back after %v on average", rps, mean)
		}
		back := 0
		for seed := range uint64(runs) {
			if _, closed := recover(seed, rps, 0.3); closed {
				back++
			}
		}
		if back > runs/25 {
			t.Errorf("%d a second of which 30 %% fail: closed %d of %d times", rps, back, runs)
		}
	}
}

// TestRecoveryTakesAsLongAsTheEvidence wants a busy endpoint that is well to have
// its full share back at once, and a quiet one after a few calls.
func TestRecoveryTakesAsLongAsTheEvidence(t *testing.T) {
	for _, test := range []struct {
		rps      int
		atMost   time.Duration
		attempts int // at most; 0: any number
	}{
		{1, 32 * time.Second, 16},
		{10, 22 * time.Second, 0},
		{200, 3 * time.Second, 0},
		{2000, 2500 * time.Millisecond, 0},
	} {
		rng := rand.New(rand.NewPCG(uint64(test.rps), 11))
		const runs = 100
		took, attempts := time.Duration(0), 0
		for range runs {
			r := newBreakerRun(t, defaultBreaker())
			r.do("fail 5")
			r.advance(r.b.Until)
			began := r.now
			for r.b.State != Closed {
				if wants, _ := r.b.WantsTrial(r.now, r.cfg); wants || rng.Float64() < r.b.Allowed(r.cfg) {
					r.do("ok")
					attempts++
				}
				r.advance(r.now.Add(time.Second / time.Duration(test.rps)))
			}
			took += r.now.Sub(began)
		}
		t.Logf("%d a second: back after %v and %d attempts on average", test.rps, took/runs, attempts/runs)
		if took/runs > test.atMost || test.attempts > 0 && attempts/runs > test.attempts {
			t.Errorf("%d a second: back after %v and %d attempts on average, want %v and %d", test.rps, took/runs, attempts/runs, test.atMost, test.attempts)
		}
	}
}

const tickEvery = 250 * time.Millisecond

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
