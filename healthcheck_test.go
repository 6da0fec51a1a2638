package failover

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/pool"
	"github.com/apifailover/caddy-failover/internal/probe"
)

func TestCheckPause(t *testing.T) {
	cfg := (&Health{}).checkConfig(nil)
	for _, tt := range []struct {
		run   int
		state breaker.State
		found int
		want  time.Duration
	}{
		{0, breaker.Closed, 0, 2 * time.Second},
		{1, breaker.Closed, 0, 2 * time.Second},
		{2, breaker.Closed, 0, 30 * time.Second},
		{-1, breaker.Closed, 0, 2 * time.Second},
		{-2, breaker.Closed, 0, 30 * time.Second}, // the last endpoint: it stays in
		{9, breaker.Recovering, 0, 2 * time.Second},
		{-2, breaker.Open, 1, 2 * time.Second},
		{-3, breaker.Open, 2, 4 * time.Second},
		{-4, breaker.Open, 3, 8 * time.Second},
		{-9, breaker.Open, 9, 30 * time.Second},
		{1, breaker.Open, 9, 2 * time.Second},
		{9, breaker.Open, 1, 2 * time.Second},
		{9, breaker.ForcedOpen, 1, 30 * time.Second},
	} {
		if got := cfg.Pause(tt.run, tt.state, tt.found); got != tt.want {
			t.Errorf("run %d, %v found %d times: %v, want %v", tt.run, tt.state, tt.found, got, tt.want)
		}
	}
}

// checkLog is an endpoint that remembers when it was checked, and answers calls
// as well.
type checkLog struct {
	mu       sync.Mutex
	at       []time.Time
	calls    int
	underway int
	overlap  bool
	status   int           // of checks, 0: 200
	takes    time.Duration // a check
	call     int           // status of calls, 0: 200
}

func (l *checkLog) RoundTrip(r *http.Request) (*http.Response, error) {
	check := r.Header.Get("User-Agent") == probe.CheckedBy
	l.mu.Lock()
	status, takes := l.call, time.Duration(0)
	if check {
		l.at = append(l.at, time.Now())
		status, takes = l.status, l.takes
		l.underway++
		l.overlap = l.overlap || l.underway > 1
	} else {
		l.calls++
	}
	l.mu.Unlock()
	if status == 0 {
		status = http.StatusOK
	}
	resp, err := after(takes+2*time.Millisecond, status)(r)
	if check {
		l.mu.Lock()
		l.underway--
		l.mu.Unlock()
	}
	return resp, err
}

func (l *checkLog) set(f func(*checkLog)) { l.mu.Lock(); f(l); l.mu.Unlock() }

func (l *checkLog) hanging() int { l.mu.Lock(); defer l.mu.Unlock(); return l.underway }

func (l *checkLog) times() []time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]time.Time(nil), l.at...)
}

// newChecked is a lab whose endpoints log their checks.
func newChecked(t *testing.T, policy *Policy, n int) (*lab, []*checkLog) {
	var addresses []string
	for i := range n {
		addresses = append(addresses, fmt.Sprintf("e%d:80", i))
	}
	l := newLab(t, policy, addresses...)
	var logs []*checkLog
	for _, address := range addresses {
		log := new(checkLog)
		l.on(address, log.RoundTrip)
		logs = append(logs, log)
	}
	return l, logs
}

func lasted(t *testing.T, what string, d, low, high time.Duration) {
	t.Helper()
	if d < low || d > high {
		t.Errorf("%s: %v, want %v to %v", what, d, low, high)
	}
}

const second = time.Second

// TestCheckSchedule: an idle, healthy pool is checked twice at first, then once
// an interval.
func TestCheckSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		l, logs := newChecked(t, &Policy{Health: &Health{}}, 3)
		time.Sleep(10 * time.Minute)
		for i, log := range logs {
			at := log.times()
			if len(at) < 19 || len(at) > 24 {
				t.Errorf("endpoint %d: %d checks in 10 minutes", i, len(at))
				continue
			}
			lasted(t, "first check", at[0].Sub(began), 0, 2800*time.Millisecond)
			lasted(t, "second check", at[1].Sub(at[0]), 1800*time.Millisecond, 2900*time.Millisecond)
			for n := 2; n < len(at); n++ {
				lasted(t, "next check", at[n].Sub(at[n-1]), 27*second, 33800*time.Millisecond)
			}
			status := l.stateOf(fmt.Sprintf("e%d:80", i)).Status(time.Now(), l.policy.BreakerConfig())
			if c := status.Check; c == nil || c.State != "up" || c.LastResult != endpoint.CheckPassed || c.Sent != uint64(len(at)) || c.Skipped != 0 {
				t.Errorf("endpoint %d: %+v", i, status.Check)
			}
		}
	})
}

// TestChecksAreSpread: 100 endpoints, once a second each, some slow to answer.
func TestChecksAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, logs := newChecked(t, &Policy{Health: &Health{Interval: caddy.Duration(second), FastInterval: caddy.Duration(second)}}, 100)
		for i, log := range logs {
			if i%10 == 0 {
				log.set(func(log *checkLog) { log.takes = 1500 * time.Millisecond })
			}
		}
		time.Sleep(time.Minute)
		seen := make(map[time.Duration]int)
		start := time.Now()
		for i, log := range logs {
			at := log.times()
			want := 60
			if i%10 == 0 {
				want = 24
			}
			if len(at) < want-6 || len(at) > want+8 {
				t.Errorf("endpoint %d: %d checks in a minute, want about %d", i, len(at), want)
			}
			if log.overlap {
				t.Errorf("endpoint %d: two checks at once", i)
			}
			for _, at := range at {
				seen[start.Sub(at)/pool.CheckSlot]++
			}
		}
		for slot, n := range seen { // 4 on average, 8 in a slot of the checker's, of which two may begin in one of these
			if n > 16 {
				t.Errorf("%d checks within %v, %v ago", n, pool.CheckSlot, slot*pool.CheckSlot)
			}
		}
		if len(seen) < 1200 {
			t.Errorf("checks began in %d of 1500 slots", len(seen))
		}
	})
}

// TestBusyEndpointsAreNotChecked: calls say it already; the idle standby is
// checked.
func TestBusyEndpointsAreNotChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, logs := newChecked(t, &Policy{Health: &Health{}}, 2)
		l.load(20, 5*time.Minute)
		one := copyNow(l.stateOf("e0:80")).checks
		if sent := len(logs[0].times()); sent > 2 || one.Skipped < 8 {
			t.Errorf("busy: %d checks sent, %d skipped", sent, one.Skipped)
		}
		if sent := len(logs[1].times()); sent < 9 {
			t.Errorf("idle: %d checks sent", sent)
		}
		// a failed call brings the checks back
		logs[0].set(func(log *checkLog) { log.call = http.StatusInternalServerError })
		l.load(20, 100*time.Millisecond)
		logs[0].set(func(log *checkLog) { log.call = 0 })
		before := len(logs[0].times())
		l.load(20, 35*second)
		if after := len(logs[0].times()); after == before {
			t.Error("not checked after a failed call")
		}
	})
}

// TestChecksTakeOutAndBringBack without a single call.
func TestChecksTakeOutAndBringBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, logs := newChecked(t, &Policy{Health: &Health{}}, 2)
		one := l.stateOf("e0:80")
		time.Sleep(time.Minute)
		logs[0].set(func(log *checkLog) { log.status = http.StatusServiceUnavailable })
		before := len(logs[0].times())
		l.within(40*second, "checks take it out", func() bool { return breakerNow(one) == breaker.Open })
		if n := len(logs[0].times()) - before; n != 2 {
			t.Errorf("out after %d failed checks", n)
		}
		if copyNow(one).breaker.Reason != breaker.ReasonCheckFailed {
			t.Errorf("out because of %q", copyNow(one).breaker.Reason)
		}
		time.Sleep(5 * time.Minute)
		if state := breakerNow(one); state != breaker.Open {
			t.Fatalf("checks fail, and it is %v", state)
		}
		at := logs[0].times()[before+1:]
		for i, want := range []time.Duration{2, 4, 8, 16, 30, 30} {
			lasted(t, "while it is out", at[i+1].Sub(at[i]), want*second*9/10, want*second*11/10+510*time.Millisecond) // the other's may be in the way
		}
		logs[0].set(func(log *checkLog) { log.status = 0 })
		l.within(40*second, "it recovers", func() bool { return breakerNow(one) == breaker.Recovering })
		if share := copyNow(one).breaker.Share; share != 0.05 {
			t.Errorf("begins with %v", share)
		}
		l.within(30*second, "it is back without a call", func() bool { return breakerNow(one) == breaker.Closed })
		if totalsNow(one).Attempts > 0 {
			t.Error("there were calls")
		}
	})
}

// TestChecksThatPassBringBackEarly: relapses have made the open period long, but
// checks that had failed pass again.
func TestChecksThatPassBringBackEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, logs := newChecked(t, &Policy{
			Breaker: &Breaker{OpenFor: caddy.Duration(4 * time.Minute)},
			Health:  &Health{},
		}, 2)
		one := l.stateOf("e0:80")
		logs[0].set(func(log *checkLog) { log.call, log.status = 503, 503 })
		l.load(10, 2*second)
		if breakerNow(one) != breaker.Open {
			t.Fatal("calls fail, and it is in")
		}
		l.within(10*second, "a check has failed", func() bool { return copyNow(one).checks.Failed > 0 })
		logs[0].set(func(log *checkLog) { log.call, log.status = 0, 0 })
		took := l.within(time.Minute, "it recovers", func() bool { return breakerNow(one) == breaker.Recovering })
		t.Logf("recovers %v after it is well; its period was 4 minutes", took)
		if copyNow(one).breaker.Reason != breaker.ReasonChecksPass || copyNow(one).breaker.Share == 0 {
			t.Errorf("because of %q, with %v", copyNow(one).breaker.Reason, copyNow(one).breaker.Share)
		}
	})
}

// TestChecksThatNoticeNothing: calls fail, checks pass. They prove nothing: the
// open period stays what it is.
func TestChecksThatNoticeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, logs := newChecked(t, &Policy{
			Breaker: &Breaker{OpenFor: caddy.Duration(time.Minute)},
			Health:  &Health{Interval: caddy.Duration(2 * second)},
		}, 2)
		one := l.stateOf("e0:80")
		logs[0].set(func(log *checkLog) { log.call = 503 })
		s := l.load(10, 2*second)
		if breakerNow(one) != breaker.Open {
			t.Fatal("calls fail, and it is in")
		}
		took := l.within(2*time.Minute, "it recovers", func() bool { return breakerNow(one) == breaker.Recovering })
		lasted(t, "the open period", took, 45*second, 75*second)
		before := totalsNow(one).Attempts
		more := l.load(50, time.Minute)
		if s.failed+more.failed > 0 {
			t.Errorf("clients saw %+v, %+v", s, more)
		}
		if tried := totalsNow(one).Attempts - before; tried > 10 {
			t.Errorf("%d calls went to an endpoint that fails all of them", tried)
		}
	})
}

// TestCallsPassChecksFail: the checks of an endpoint with few calls take it out,
// but never the last one.
func TestCallsPassChecksFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, logs := newChecked(t, &Policy{Health: &Health{}}, 2)
		logs[0].set(func(log *checkLog) { log.status = 404 + 99 })
		logs[1].set(func(log *checkLog) { log.status = 404 + 99 })
		calls := func(n int) (failed int) {
			for range n {
				time.Sleep(20 * second)
				if l.call(http.MethodGet, "/", "").Code != http.StatusOK {
					failed++
				}
			}
			return failed
		}
		if failed := calls(30); failed > 0 {
			t.Errorf("%d calls failed", failed)
		}
		one, two := breakerNow(l.stateOf("e0:80")), breakerNow(l.stateOf("e1:80"))
		if (one == breaker.Open) == (two == breaker.Open) {
			t.Errorf("%v and %v: one has to be out, one to stay in", one, two)
		}
	})
}

// TestReloadChangesChecks: another interval, another question, no checks at all.
func TestReloadChangesChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, logs := newChecked(t, &Policy{Health: &Health{Interval: caddy.Duration(10 * time.Minute)}}, 2)
		time.Sleep(time.Minute)
		one := l.stateOf("e0:80")
		if n := len(logs[0].times()); n != 2 {
			t.Fatalf("%d checks", n)
		}
		l.reload(&Policy{Health: &Health{Interval: caddy.Duration(4 * second)}}, "e0:80", "e1:80")
		time.Sleep(time.Minute)
		if n := len(logs[0].times()); n < 15 || n > 20 {
			t.Errorf("%d checks, after a minute of one each 4 s", n)
		}
		if one != l.stateOf("e0:80") || copyNow(one).checks.Run < 10 {
			t.Errorf("results are forgotten: %+v", copyNow(one).checks)
		}

		l.reload(&Policy{Health: &Health{URI: "/other", Interval: caddy.Duration(4 * second)}}, "e0:80", "e1:80")
		time.Sleep(10 * time.Millisecond)
		if copyNow(one).checks.Run > 1 {
			t.Errorf("results of another question count: %d", copyNow(one).checks.Run)
		}
		logs[0].set(func(log *checkLog) { log.status = http.StatusNotFound })
		l.within(10*second, "the other question takes it out", func() bool { return breakerNow(one) == breaker.Open })

		time.Sleep(time.Minute)
		before := len(logs[0].times())
		l.reload(&Policy{}, "e0:80", "e1:80")
		l.within(second, "without checks, time brings it back", func() bool { return breakerNow(one) == breaker.Recovering })
		time.Sleep(time.Minute)
		if n := len(logs[0].times()); n != before {
			t.Errorf("%d checks after they were turned off", n-before)
		}
		if status := one.Status(time.Now(), l.policy.BreakerConfig()); status.Check != nil {
			t.Errorf("still shown: %+v", status.Check)
		}
	})
}

// TestReloadEndsChecksUnderWay: what an old configuration asked changes nothing
// any more, and nothing of it is left running.
func TestReloadEndsChecksUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, logs := newChecked(t, &Policy{Health: &Health{Timeout: caddy.Duration(time.Hour)}}, 2)
		for _, log := range logs {
			log.set(func(log *checkLog) { log.takes, log.status = 30*time.Minute, 503 })
		}
		one, gone := l.stateOf("e0:80"), l.stateOf("e1:80")
		l.within(10*second, "checks are under way", func() bool { return logs[0].hanging() == 1 && logs[1].hanging() == 1 })
		for _, log := range logs {
			log.set(func(log *checkLog) { log.takes, log.status = 0, 0 })
		}
		l.reload(&Policy{Health: &Health{}}, "e0:80")
		l.within(second, "they have ended", func() bool { return logs[0].hanging() == 0 && logs[1].hanging() == 0 })
		time.Sleep(time.Minute)
		if c := copyNow(one).checks; c.Failed > 0 || c.Run < 2 || c.Underway {
			t.Errorf("after the reload: %+v", c)
		}
		if c := copyNow(gone).checks; c.Failed+c.Passed > 0 || c.Underway || len(logs[1].times()) != 1 {
			t.Errorf("of the endpoint that is gone: %+v", c)
		}
	})
}

// TestHeldEndpointsAreNotChecked: who asks to be left alone is.
func TestHeldEndpointsAreNotChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, logs := newChecked(t, &Policy{Health: &Health{Interval: caddy.Duration(2 * second)}}, 2)
		time.Sleep(10 * second)
		one := l.stateOf("e0:80")
		one.Mu.Lock()
		one.HoldUntil = time.Now().Add(time.Minute)
		one.Mu.Unlock()
		before := len(logs[0].times())
		time.Sleep(50 * second)
		if n := len(logs[0].times()) - before; n > 0 {
			t.Errorf("%d checks during a hold", n)
		}
		time.Sleep(30 * second)
		if n := len(logs[0].times()) - before; n < 5 {
			t.Errorf("%d checks after it", n)
		}
	})
}

// TestChecksFeedTheScore of an endpoint without calls: it has become slower than
// it was, by its own measure.
func TestChecksFeedTheScore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, logs := newChecked(t, &Policy{Health: &Health{Interval: caddy.Duration(2 * second)}}, 2)
		two := l.stateOf("e1:80")
		time.Sleep(5 * time.Minute)
		if lost := copyNow(two).lost; lost > 0 {
			t.Errorf("lost %v", lost)
		}
		logs[1].set(func(log *checkLog) { log.takes = 40 * time.Millisecond })
		time.Sleep(5 * time.Minute)
		l.policy.Pool.Poke()
		time.Sleep(second)
		if lost := copyNow(two).lost; lost < 0.3 {
			t.Errorf("20 times slower, and lost %v", lost)
		}
	})
}

func TestHealthConfig(t *testing.T) {
	pool := &Health{URI: "/up?full=1", Method: "GET", Interval: caddy.Duration(second)}
	for _, tt := range []struct {
		name string
		pool *Health
		own  *EndpointHealth
		want string
	}{
		{"none", nil, nil, "off"},
		{"the pool's", pool, nil, "GET /up?full=1 1s 1s 200 399"},
		{"off in the pool", &Health{Off: true}, nil, "off"},
		{"off at the endpoint", pool, &EndpointHealth{Off: true}, "off"},
		{"the endpoint's", pool, &EndpointHealth{Method: "POST", URI: "/models"}, "POST /models? 1s 1s 200 399"},
		{"the endpoint's alone", nil, &EndpointHealth{Method: "GET", URI: "/models"}, "GET /models? 30s 2s 200 399"},
		{"the endpoint's, off in the pool", &Health{Off: true}, &EndpointHealth{Method: "GET", URI: "/m"}, "GET /m? 30s 2s 200 399"},
		{"the base URL", &Health{}, nil, "HEAD ? 30s 2s 100 499"},
		{"statuses", &Health{ExpectStatus: []string{"204"}}, nil, "HEAD ? 30s 2s 204 204"},
	} {
		got := "off"
		if cfg := tt.pool.checkConfig(tt.own.override()); cfg != nil {
			first, last := 0, 0
			for code := range 600 {
				if cfg.Expect.Has(code) {
					if first == 0 {
						first = code
					}
					last = code
				}
			}
			got = fmt.Sprintf("%s %s?%s %v %v %d %d", cfg.Method, cfg.Path, cfg.Query, cfg.Interval, cfg.FastInterval, first, last)
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	if cfg := (&Health{}).checkConfig(nil); cfg.Expect.Has(http.StatusTooManyRequests) {
		t.Error("429 passes")
	}
}

// TestDynamicEndpointsAreChecked from when they are seen first until they are
// forgotten.
func TestDynamicEndpointsAreChecked(t *testing.T) {
	const config = `{"dynamic_upstreams": {"source": "lab"},
			"load_balancing": {"selection_policy": {"policy": "failover", "name": "lab", "health": {"uri": "/up"}}}}`
	look := func(addresses ...string) { labAddresses.Store(&addresses) }
	look("a:1")
	outside, err := openLabJSON(t, []byte(`{"dynamic_upstreams": {"source": "lab"},
			"load_balancing": {"selection_policy": {"policy": "failover", "name": "lab"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	outside.call("GET", "/", "") // starts a goroutine of Caddy's that never ends
	outside.close()
	synctest.Test(t, func(t *testing.T) {
		l, err := openLabJSON(t, []byte(config))
		if err != nil {
			t.Fatal(err)
		}
		defer l.close()
		look("a:1", "b:1")
		l.on("a:1", func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodHead && r.URL.Path == "/up" {
				return respond(r, http.StatusServiceUnavailable, ""), nil
			}
			return respond(r, http.StatusOK, "a"), nil
		})
		l.call("GET", "/", "")
		time.Sleep(10 * time.Second)
		if a, b := breakerNow(l.stateOf("a:1")), breakerNow(l.stateOf("b:1")); a != breaker.Open || b != breaker.Closed {
			t.Errorf("a, whose checks fail, is %v, b %v", a, b)
		}
		look("b:1", "c:1")
		for range 62 {
			l.call("GET", "/", "")
			time.Sleep(10 * time.Second)
		}
		l.takeAsked()
		time.Sleep(2 * time.Minute)
		asked := make(map[string]int)
		for _, address := range l.takeAsked() {
			asked[address]++
		}
		if asked["a:1"] > 0 || asked["c:1"] < 3 {
			t.Errorf("checked: %v", asked)
		}
	})
}

// BenchmarkChecker is what the schedule of 100 endpoints with a check each second
// costs, without the requests.
func BenchmarkChecker(b *testing.B) {
	p := &pool.Pool{Members: make(map[endpoint.Key]*pool.PoolMember)}
	g := &pool.Generation{}
	g.Breaker.Store((*Breaker)(nil).config(time.Minute))
	p.Generation.Store(g)
	now := time.Unix(1e9, 0)
	cfg := (&Health{}).checkConfig(nil)
	for i := range 100 {
		s := &endpoint.State{Key: endpoint.Key{Name: fmt.Sprint(i), Address: ""}, Owner: p}
		s.Checks.Asked, s.Checks.Next = cfg, now.Add(time.Hour)
		p.Members[s.Key] = &pool.PoolMember{State: s}
		p.Checker.Plan = append(p.Checker.Plan, pool.Checked{State: s, Cfg: cfg})
	}
	b.ReportAllocs()
	for range b.N {
		p.Checker.StartDue(p, now)
	}
}
