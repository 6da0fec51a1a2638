package lab

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// twoTiers are a primary and a backup.
const twoTiers = `failover {
	name lab
	endpoint http://one:1 {
		name one
	}
	endpoint http://two:2 {
		name two
	}
	timeout 1s
}`

// TestHoldIsServedOut checks that an endpoint gets its traffic back when the hold that it asked for
// is over.
func TestHoldIsServedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, "failover {\nname lab\nquota endpoint\nendpoint http://one:1\nendpoint http://two:2\n}")
		defer l.close()
		l.on("one:1", answersWith(http.StatusTooManyRequests, "Retry-After", "7"))
		if w := l.call("POST", "/", "x"); w.Code != 200 {
			t.Fatalf("got %d", w.Code)
		}
		l.on("one:1", answers200)
		synctest.Wait()
		if got := l.takeAsked(); !slices.Equal(got, []string{"one:1", "two:2"}) {
			t.Fatalf("asked %v", got)
		}
		time.Sleep(7*time.Second - 1)
		l.call("GET", "/", "")
		time.Sleep(time.Second)
		synctest.Wait()
		l.call("GET", "/", "")
		if got := l.takeAsked(); !slices.Equal(got, []string{"two:2", "one:1"}) {
			t.Fatalf("asked %v", got)
		}
	})
}

// bringDown lets calls fail until the breakers of all endpoints are open.
func bringDown(l *lab, names ...string) {
	l.t.Helper()
	for range 20 {
		l.call("GET", "/", "")
	}
	for _, name := range names {
		if state := l.endpoint(name).state(); state != "open" {
			l.t.Fatalf("%s is %v", name, state)
		}
	}
	l.takeAsked()
}

// TestTrialsWhileAllDown checks that one call every 250 ms tries the endpoints in turn, and that all
// others get an answer at once.
func TestTrialsWhileAllDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, twoTiers)
		defer l.close()
		l.on("one:1", refusesConnections)
		l.on("two:2", refusesConnections)
		bringDown(l, "one", "two")
		time.Sleep(time.Second)
		began := time.Now()
		var trials []time.Duration
		for range 200 {
			before := time.Now()
			w := l.call("GET", "/", "")
			if took := time.Since(before); took > 0 || w.Code != http.StatusServiceUnavailable && w.Code != http.StatusBadGateway {
				t.Fatalf("got %d after %v", w.Code, took)
			}
			if len(l.takeAsked()) > 0 {
				trials = append(trials, time.Since(began))
			} else if after := w.Header().Get("Retry-After"); after < "1" || after > "6" {
				t.Fatalf("Retry-After is %q", after)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if len(trials) != 8 {
			t.Fatalf("%d trials in 2 s: %v", len(trials), trials)
		}
		for i, at := range trials {
			if want := time.Duration(i) * pollAllIn; at < want || at > want+50*time.Millisecond {
				t.Errorf("trial %d at %v, want about %v", i, at, want)
			}
		}
		l.on("two:2", answers200)
		back := time.Now()
		for l.call("GET", "/", "").Code != 200 {
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(back); took > 2*pollAllIn+50*time.Millisecond {
			t.Errorf("service came back after %v", took)
		}
	})
}

// TestTrialsPassBy checks that a pool that is down spends no trial on an endpoint that cannot take
// one: one that an operator keeps out, or one whose earlier trial hangs.
func TestTrialsPassBy(t *testing.T) {
	for name, takeOut := range map[string]func(l *lab){
		"forced open": func(l *lab) {
			l.endpoint("one").order("trip", "")
		},
		"hanging": func(l *lab) { l.on("one:1", hangs) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := openLab(t, strings.Replace(twoTiers, "timeout 1s", "timeout 60s", 1))
				defer l.close()
				l.on("one:1", refusesConnections)
				l.on("two:2", refusesConnections)
				bringDown(l, "one", "two")
				takeOut(l)
				ctx, cancel := context.WithCancel(t.Context())
				for range 30 {
					go l.callWith(ctx, "GET", "/", "")
					time.Sleep(100 * time.Millisecond)
				}
				l.on("two:2", answers200)
				back := time.Now()
				for l.call("GET", "/", "").Code != 200 {
					time.Sleep(10 * time.Millisecond)
				}
				if took := time.Since(back); took > 300*time.Millisecond {
					t.Errorf("service came back after %v", took)
				}
				cancel()
				time.Sleep(watchAtMost)
				synctest.Wait()
			})
		})
	}
}

// TestTriesAnyway checks that `all_down try_anyway` sends each call to the endpoint whose trial is
// due first.
func TestTriesAnyway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, strings.Replace(twoTiers, "timeout 1s", "all_down try_anyway", 1))
		defer l.close()
		l.on("one:1", refusesConnections)
		l.on("two:2", refusesConnections)
		bringDown(l, "one", "two")
		one, two := l.endpoint("one"), l.endpoint("two")
		due := "one:1"
		if two.status().Until.Before(one.status().Until) {
			due = "two:2"
		}
		for range 10 {
			l.call("GET", "/", "")
		}
		if got := l.takeAsked(); len(got) != 10 || len(slices.Compact(got)) != 1 || got[0] != due {
			t.Errorf("asked %v, want only %s", got, due)
		}
	})
}

// TestTimeouts checks that the watcher ends attempts in time, and that an attempt that got too
// little time counts nothing against its endpoint.
func TestTimeouts(t *testing.T) {
	for _, test := range []struct {
		name     string
		options  string
		path     string
		asked    []string
		took     time.Duration
		status   int
		failures map[string]uint64
	}{{
		"the next endpoint answers", "timeout 1s", "/",
		[]string{"one:1", "two:2"}, time.Second, 200, map[string]uint64{"one": 1},
	}, {
		"a matching timeout", "timeout 1s\ntimeout /fast/* 200ms", "/fast/x",
		[]string{"one:1", "two:2"}, 200 * time.Millisecond, 200, map[string]uint64{"one": 1},
	}, {
		"no attempt left", "timeout 1s\nretry off", "/",
		[]string{"one:1"}, time.Second, 504, map[string]uint64{"one": 1},
	}, {
		"the deadline comes first, and was most of what the endpoint could hope for",
		"timeout 10s\nretry {\ndeadline 3s\n}", "/",
		[]string{"one:1"}, 3 * time.Second, 504, map[string]uint64{"one": 1},
	}, {
		"the deadline leaves little for the second",
		"timeout 1s\nretry {\ndeadline 1200ms\n}", "/both",
		[]string{"one:1", "two:2"}, 1200 * time.Millisecond, 504, map[string]uint64{"one": 1},
	}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := openLab(t, strings.Replace(twoTiers, "timeout 1s", test.options, 1))
				defer l.close()
				l.on("one:1", hangs)
				if test.path == "/both" {
					l.on("two:2", hangs)
				}
				began := time.Now()
				w := l.call("GET", test.path, "")
				took := time.Since(began)
				if w.Code != test.status || !slices.Equal(l.takeAsked(), test.asked) {
					t.Errorf("got %d", w.Code)
				}
				if late := took - test.took; late < 0 || late > watchAtMost+watchAtLeast {
					t.Errorf("took %v, want %v", took, test.took)
				}
				for _, name := range []string{"one", "two"} {
					if got := l.endpoint(name).totals().Failures; got != test.failures[name] {
						t.Errorf("%s has %d failures, want %d", name, got, test.failures[name])
					}
				}
			})
		})
	}
}

// TestSlowUploadIsNoTimeout checks that a body may take longer than the timeout.
func TestSlowUploadIsNoTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, twoTiers)
		defer l.close()
		w := l.callFrom(t.Context(), "PUT", "/", &slowReader{pieces: 10, pause: 900 * time.Millisecond})
		if w.Code != 200 || len(l.takeAsked()) != 1 {
			t.Errorf("got %d", w.Code)
		}
		if latency := l.endpoint("one").status().Latency; latency == nil || latency.P50 > 0.001 {
			t.Errorf("the endpoint is said to take %+v", latency)
		}
	})
}

// slowReader gives a byte after each pause.
type slowReader struct {
	pieces int
	pause  time.Duration
}

func (r *slowReader) Read(p []byte) (int, error) {
	if r.pieces == 0 {
		return 0, io.EOF
	}
	r.pieces--
	time.Sleep(r.pause)
	p[0] = 'x'
	return 1, nil
}

// TestClientLeaves checks that an attempt ends soon after its client leaves, and counts as no
// failure.
func TestClientLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, twoTiers)
		defer l.close()
		l.on("one:1", hangs)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		began := time.Now()
		w := l.callWith(ctx, "GET", "/", "")
		if took := time.Since(began); w.Code != 499 || took > 300*time.Millisecond+watchAtMost+watchAtLeast {
			t.Errorf("got %d after %v", w.Code, took)
		}
		if got := l.endpoint("one").totals(); got != (totals{Attempts: 1, Cancelled: 1}) || l.endpoint("one").inFlight() != 0 {
			t.Errorf("got %+v", got)
		}
	})
}

// TestLoopStaysWhileSomethingIsDue checks that the loop does not park during an open period or a
// hold.
func TestLoopStaysWhileSomethingIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, twoTiers)
		defer l.close()
		l.on("one:1", refusesConnections)
		for range 5 {
			l.call("GET", "/", "")
		}
		if state := l.endpoint("one").state(); state != "open" {
			t.Fatalf("one is %v", state)
		}
		l.on("one:1", answers200)
		time.Sleep(6*time.Second + tickEvery)
		if state := l.endpoint("one").state(); state != "recovering" {
			t.Errorf("one is %v after its open period", state)
		}
	})
}

// TestQuietPoolRecovers checks that an endpoint is back after a few calls in a pool that gets one a
// second.
func TestQuietPoolRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, twoTiers)
		defer l.close()
		l.on("one:1", refusesConnections)
		for range 5 {
			l.call("GET", "/", "")
		}
		l.on("one:1", answers200)
		time.Sleep(6*time.Second + tickEvery)
		began, calls := time.Now(), 0
		for l.endpoint("one").state() != "closed" {
			if w := l.call("GET", "/", ""); w.Code != 200 {
				t.Fatalf("got %d", w.Code)
			}
			calls++
			time.Sleep(time.Second)
		}
		if took := time.Since(began); took > 40*time.Second {
			t.Errorf("recovered after %v and %d calls", took, calls)
		}
	})
}

// TestPanicGivesEverythingBack checks that nothing stays taken after the transport panics.
func TestPanicGivesEverythingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, twoTiers)
		defer l.close()
		l.on("one:1", func(*http.Request) (*http.Response, error) { panic("a bug") })
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			l.call("GET", "/", "")
		}()
		s := l.endpoint("one")
		if got := s.totals(); s.inFlight() != 0 || got != (totals{Attempts: 1, Cancelled: 1}) {
			t.Errorf("%d in flight, %+v", s.inFlight(), got)
		}
	})
}

// labUpstreams are dynamic upstreams that a test sets.
type labUpstreams struct{}

var labAddresses atomic.Pointer[[]string]

func init() { caddy.RegisterModule(labUpstreams{}) }

func (labUpstreams) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.reverse_proxy.upstreams.lab",
		New: func() caddy.Module { return new(labUpstreams) },
	}
}

func (labUpstreams) GetUpstreams(*http.Request) (upstreams []*reverseproxy.Upstream, err error) {
	for _, address := range *labAddresses.Load() {
		if address == "" {
			return nil, errors.New("no such host")
		}
		upstreams = append(upstreams, &reverseproxy.Upstream{Dial: address})
	}
	return upstreams, nil
}

// TestDynamicEndpointsAreForgotten checks that the pool keeps a state for each address that a lookup
// returned, until no lookup returned it for ten minutes.
func TestDynamicEndpointsAreForgotten(t *testing.T) {
	const config = `{"dynamic_upstreams": {"source": "lab"},
			"load_balancing": {"selection_policy": {"policy": "failover", "name": "lab",
				"endpoints": [{"upstream": "b:1", "name": "configured", "priority": 2}]}}}`
	look := func(addresses ...string) { labAddresses.Store(&addresses) }
	open := func() *lab { return openLabJSON(t, []byte(config)) }
	// The proxy's first dynamic upstream starts a goroutine that never ends,
	// which must not be in the bubble.
	look("a:1")
	outside := open()
	outside.call("GET", "/", "")
	outside.close()
	synctest.Test(t, func(t *testing.T) {
		l := open()
		defer l.close()
		known := func() (names []string) {
			names = l.known()
			slices.Sort(names)
			return names
		}
		look("a:1", "b:1")
		l.on("a:1", refusesConnections)
		for range 10 {
			if w := l.call("GET", "/", ""); w.Code != 200 {
				t.Fatalf("got %d", w.Code)
			}
		}
		if got := known(); !slices.Equal(got, []string{"a:1", "configured"}) {
			t.Fatalf("known: %v", got)
		}
		if state := l.endpoint("a:1").state(); state != "open" {
			t.Fatalf("the breaker of a dynamic address is %v", state)
		}
		a := l.endpoint("a:1").totals()
		look("c:1", "b:1")
		for range 58 {
			l.call("GET", "/", "")
			time.Sleep(10 * time.Second)
		}
		look("c:1", "a:1")
		l.call("GET", "/", "")
		if got := l.endpoint("a:1").totals(); got.Failures < a.Failures {
			t.Error("an address that came back after less than ten minutes has lost its state")
		}
		look("c:1", "b:1")
		c := l.endpoint("c:1").totals()
		for range 62 {
			l.call("GET", "/", "")
			time.Sleep(10 * time.Second)
		}
		if got := l.endpoint("c:1").totals(); got.Attempts < c.Attempts+62 {
			t.Error("an address that every call sees has lost its state")
		}
		if got := known(); !slices.Equal(got, []string{"c:1", "configured"}) {
			t.Errorf("known after ten minutes: %v", got)
		}
		l.takeAsked()
		l.call("GET", "/", "")
		if got := l.takeAsked(); !slices.Equal(got, []string{"c:1"}) {
			t.Errorf("asked %v", got)
		}
	})
}
