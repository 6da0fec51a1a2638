package lab

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	failover "github.com/apifailover/caddy-failover"
)

// checkLog is an endpoint that records its checks and answers calls.
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
	check := r.Header.Get("User-Agent") == checkedBy
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
func newChecked(t *testing.T, policy *failover.Policy, n int) (*lab, []*checkLog) {
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

// TestCheckSchedule checks that an idle, healthy pool gets two checks at first, then one an
// interval.
func TestCheckSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		l, logs := newChecked(t, &failover.Policy{Health: &failover.Health{}}, 3)
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
			status := l.endpoint(fmt.Sprintf("e%d:80", i)).status()
			if c := status.Check; c == nil || c.State != "up" || c.LastResult != "passed" || c.Sent != uint64(len(at)) || c.Skipped != 0 {
				t.Errorf("endpoint %d: %+v", i, status.Check)
			}
		}
	})
}

// TestChecksAreSpread checks 100 endpoints once a second each, some of them slow: the checks must
// spread evenly over the second.
func TestChecksAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, logs := newChecked(t, &failover.Policy{Health: &failover.Health{Interval: caddy.Duration(second), FastInterval: caddy.Duration(second)}}, 100)
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
				seen[start.Sub(at)/checkSlot]++
			}
		}
		for slot, n := range seen { // 4 on average, 8 in a slot of the checker's, of which two may begin in one of these
			if n > 16 {
				t.Errorf("%d checks within %v, %v ago", n, checkSlot, slot*checkSlot)
			}
		}
		if len(seen) < 1200 {
			t.Errorf("checks began in %d of 1500 slots", len(seen))
		}
	})
}

// TestBusyEndpointsAreNotChecked checks that an endpoint with calls gets no checks, and that an
// idle standby does.
func TestBusyEndpointsAreNotChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, logs := newChecked(t, &failover.Policy{Health: &failover.Health{}}, 2)
		l.load(20, 5*time.Minute)
		one := l.endpoint("e0:80").status().Check
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

// TestChecksTakeOutAndBringBack checks that checks alone take an endpoint out and bring it back.
func TestChecksTakeOutAndBringBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, logs := newChecked(t, &failover.Policy{Health: &failover.Health{}}, 2)
		one := l.endpoint("e0:80")
		time.Sleep(time.Minute)
		logs[0].set(func(log *checkLog) { log.status = http.StatusServiceUnavailable })
		before := len(logs[0].times())
		l.within(40*second, "checks take it out", func() bool { return one.state() == "open" })
		if n := len(logs[0].times()) - before; n != 2 {
			t.Errorf("out after %d failed checks", n)
		}
		if one.status().Reason != "check_failed" {
			t.Errorf("out because of %q", one.status().Reason)
		}
		time.Sleep(5 * time.Minute)
		if state := one.state(); state != "open" {
			t.Fatalf("checks fail, and it is %v", state)
		}
		at := logs[0].times()[before+1:]
		for i, want := range []time.Duration{2, 4, 8, 16, 30, 30} {
			lasted(t, "while it is out", at[i+1].Sub(at[i]), want*second*9/10, want*second*11/10+510*time.Millisecond) // the other's may be in the way
		}
		logs[0].set(func(log *checkLog) { log.status = 0 })
		l.within(40*second, "it recovers", func() bool { return one.state() == "recovering" })
		if share := one.status().Share; share != 0.05 {
			t.Errorf("begins with %v", share)
		}
		l.within(30*second, "it is back without a call", func() bool { return one.state() == "closed" })
		if one.totals().Attempts > 0 {
			t.Error("there were calls")
		}
	})
}

// TestChecksThatPassBringBackEarly checks that an endpoint whose relapses made its open period long
// comes back early if its checks failed before and now pass.
func TestChecksThatPassBringBackEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, logs := newChecked(t, &failover.Policy{
			Breaker: &failover.Breaker{OpenFor: caddy.Duration(4 * time.Minute)},
			Health:  &failover.Health{},
		}, 2)
		one := l.endpoint("e0:80")
		logs[0].set(func(log *checkLog) { log.call, log.status = 503, 503 })
		l.load(10, 2*second)
		if one.state() != "open" {
			t.Fatal("calls fail, and it is in")
		}
		l.within(10*second, "a check has failed", func() bool { return one.status().Check.State == "undecided" || one.status().Check.State == "down" })
		logs[0].set(func(log *checkLog) { log.call, log.status = 0, 0 })
		took := l.within(time.Minute, "it recovers", func() bool { return one.state() == "recovering" })
		t.Logf("recovers %v after it is well; its period was 4 minutes", took)
		if one.status().Reason != "checks_passed" || one.status().Share == 0 {
			t.Errorf("because of %q, with %v", one.status().Reason, one.status().Share)
		}
	})
}

// TestChecksThatNoticeNothing checks that passing checks do not shorten the open period if they
// also passed while calls failed.
func TestChecksThatNoticeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, logs := newChecked(t, &failover.Policy{
			Breaker: &failover.Breaker{OpenFor: caddy.Duration(time.Minute)},
			Health:  &failover.Health{Interval: caddy.Duration(2 * second)},
		}, 2)
		one := l.endpoint("e0:80")
		logs[0].set(func(log *checkLog) { log.call = 503 })
		s := l.load(10, 2*second)
		if one.state() != "open" {
			t.Fatal("calls fail, and it is in")
		}
		took := l.within(2*time.Minute, "it recovers", func() bool { return one.state() == "recovering" })
		lasted(t, "the open period", took, 45*second, 75*second)
		before := one.totals().Attempts
		more := l.load(50, time.Minute)
		if s.failed+more.failed > 0 {
			t.Errorf("clients saw %+v, %+v", s, more)
		}
		if tried := one.totals().Attempts - before; tried > 10 {
			t.Errorf("%d calls went to an endpoint that fails all of them", tried)
		}
	})
}

// TestCallsPassChecksFail checks that failed checks take out an endpoint with few calls, but never
// the last endpoint.
func TestCallsPassChecksFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, logs := newChecked(t, &failover.Policy{Health: &failover.Health{}}, 2)
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
		one, two := l.endpoint("e0:80").state(), l.endpoint("e1:80").state()
		if (one == "open") == (two == "open") {
			t.Errorf("%v and %v: one has to be out, one to stay in", one, two)
		}
	})
}

// TestReloadChangesChecks checks that a reload changes the interval and the request of checks, and
// turns them off.
func TestReloadChangesChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, logs := newChecked(t, &failover.Policy{Health: &failover.Health{Interval: caddy.Duration(10 * time.Minute)}}, 2)
		time.Sleep(time.Minute)
		one := l.endpoint("e0:80")
		if n := len(logs[0].times()); n != 2 {
			t.Fatalf("%d checks", n)
		}
		l.reload(&failover.Policy{Health: &failover.Health{Interval: caddy.Duration(4 * second)}}, "e0:80", "e1:80")
		time.Sleep(time.Minute)
		if n := len(logs[0].times()); n < 15 || n > 20 {
			t.Errorf("%d checks, after a minute of one each 4 s", n)
		}
		if c := one.status().Check; c.State != "up" || c.Sent < 15 {
			t.Errorf("results are forgotten: %+v", c)
		}

		l.reload(&failover.Policy{Health: &failover.Health{URI: "/other", Interval: caddy.Duration(4 * second)}}, "e0:80", "e1:80")
		time.Sleep(10 * time.Millisecond)
		if c := one.status().Check; c.State == "up" {
			t.Errorf("results of another question count: %+v", c)
		}
		logs[0].set(func(log *checkLog) { log.status = http.StatusNotFound })
		l.within(10*second, "the other question takes it out", func() bool { return one.state() == "open" })

		time.Sleep(time.Minute)
		before := len(logs[0].times())
		l.reload(&failover.Policy{}, "e0:80", "e1:80")
		l.within(second, "without checks, time brings it back", func() bool { return one.state() == "recovering" })
		time.Sleep(time.Minute)
		if n := len(logs[0].times()); n != before {
			t.Errorf("%d checks after they were turned off", n-before)
		}
		if status := one.status(); status.Check != nil {
			t.Errorf("still shown: %+v", status.Check)
		}
	})
}

// TestReloadEndsChecksUnderWay checks that a reload stops the old configuration's checks, and
// ignores their results.
func TestReloadEndsChecksUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, logs := newChecked(t, &failover.Policy{Health: &failover.Health{Timeout: caddy.Duration(time.Hour)}}, 2)
		for _, log := range logs {
			log.set(func(log *checkLog) { log.takes, log.status = 30*time.Minute, 503 })
		}
		one := l.endpoint("e0:80")
		l.within(10*second, "checks are under way", func() bool { return logs[0].hanging() == 1 && logs[1].hanging() == 1 })
		for _, log := range logs {
			log.set(func(log *checkLog) { log.takes, log.status = 0, 0 })
		}
		l.reload(&failover.Policy{Health: &failover.Health{}}, "e0:80")
		l.within(second, "they have ended", func() bool { return logs[0].hanging() == 0 && logs[1].hanging() == 0 })
		time.Sleep(time.Minute)
		if c := one.status().Check; c.State != "up" || c.LastResult != "passed" {
			t.Errorf("after the reload: %+v", c)
		}
		if n := len(logs[1].times()); n != 1 {
			t.Errorf("the endpoint that is gone has been checked %d times", n)
		}
	})
}

// TestHeldEndpointsAreNotChecked checks that an endpoint gets no checks during its hold.
func TestHeldEndpointsAreNotChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, logs := newChecked(t, &failover.Policy{Quota: "endpoint", Health: &failover.Health{Interval: caddy.Duration(2 * second)}}, 2)
		time.Sleep(10 * second)
		l.on("e0:80", func(r *http.Request) (*http.Response, error) {
			if r.Header.Get("User-Agent") != checkedBy {
				return respond(r, http.StatusTooManyRequests, "", "Retry-After", "60"), nil
			}
			return logs[0].RoundTrip(r)
		})
		l.call("GET", "/", "")
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

// TestChecksFeedTheScore checks that the score of an endpoint without calls falls when its checks
// become slower than they used to be.
func TestChecksFeedTheScore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, logs := newChecked(t, &failover.Policy{Health: &failover.Health{Interval: caddy.Duration(2 * second)}}, 2)
		two := l.endpoint("e1:80")
		time.Sleep(5 * time.Minute)
		if lost := 1 - two.status().Score; lost > 0 {
			t.Errorf("lost %v", lost)
		}
		logs[1].set(func(log *checkLog) { log.takes = 40 * time.Millisecond })
		time.Sleep(5 * time.Minute)
		l.call("GET", "/", "") // wakes the pool up
		time.Sleep(second)
		if lost := 1 - two.status().Score; lost < 0.3 {
			t.Errorf("20 times slower, and lost %v", lost)
		}
	})
}

// TestDynamicEndpointsAreChecked checks that a dynamic endpoint gets checks from when the pool first
// sees it until the pool forgets it.
func TestDynamicEndpointsAreChecked(t *testing.T) {
	const config = `{"dynamic_upstreams": {"source": "lab"},
			"load_balancing": {"selection_policy": {"policy": "failover", "name": "lab", "health": {"uri": "/up"}}}}`
	look := func(addresses ...string) { labAddresses.Store(&addresses) }
	look("a:1")
	outside := openLabJSON(t, []byte(`{"dynamic_upstreams": {"source": "lab"},
			"load_balancing": {"selection_policy": {"policy": "failover", "name": "lab"}}}`))
	outside.call("GET", "/", "") // starts a goroutine of Caddy's that never ends
	outside.close()
	synctest.Test(t, func(t *testing.T) {
		l := openLabJSON(t, []byte(config))
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
		if a, b := l.endpoint("a:1").state(), l.endpoint("b:1").state(); a != "open" || b != "closed" {
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
