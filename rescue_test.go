package failover

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// slowly hangs on /slow until the request ends, and fails on everything else.
func slowly(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/slow" {
		<-r.Context().Done()
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
}

// TestRescue lets calls wait at an endpoint that then opens.
func TestRescue(t *testing.T) {
	const waiting = 20
	for _, test := range []struct {
		name    string
		options string // of retry
		method  string
		backup  bool
		moved   int // of those that wait
		status  int // of the others, at their timeout
	}{
		{name: "all move on", method: http.MethodGet, backup: true, moved: waiting},
		{name: "POST stays", method: http.MethodPost, backup: true, status: http.StatusGatewayTimeout},
		{name: "POST with methods any", options: "methods any", method: http.MethodPost, backup: true, moved: waiting},
		{name: "one attempt only", options: "attempts 1", method: http.MethodGet, backup: true, status: http.StatusGatewayTimeout},
		// 10 in 10 s, of which opening the endpoint takes 5; what is denied at first
		// stays where it is
		{name: "within the budget", options: "budget 0% 1", method: http.MethodGet, backup: true, moved: 5, status: http.StatusGatewayTimeout},
		{name: "nowhere to go", method: http.MethodGet, status: http.StatusGatewayTimeout},
	} {
		t.Run(test.name, func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			one.behave(slowly)
			apis := []*api{one, two}
			known := events.since(0)
			before := uint64(0)
			if len(known) > 0 {
				before = known[len(known)-1].ID
			}
			if !test.backup {
				apis = apis[:1]
			}
			p := startCaddy(t, site("timeout 600ms\nretry {\nbuffer 1MiB\n"+test.options+"\n}", apis...))
			primary := stateOf(t, "api", "one")
			statuses := make(chan int, waiting)
			for range waiting {
				go func() {
					resp, err := p.do(test.method, "/slow", nil)
					if err != nil {
						statuses <- 0
						return
					}
					resp.Body.Close()
					statuses <- resp.StatusCode
				}()
			}
			eventually(t, time.Second, "all wait", func() bool { return primary.busy.Load() == waiting })
			opened := time.Now()
			for range 5 {
				resp, err := p.do(http.MethodGet, "/fail", nil)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
			}
			if state := primary.breakerNow(); state != stateOpen {
				t.Fatalf("the primary is %v", state)
			}
			moved, others := 0, make(map[int]int)
			var last time.Duration
			for range waiting {
				if status := <-statuses; status == http.StatusOK {
					moved++
					last = time.Since(opened)
				} else {
					others[status]++
				}
			}
			t.Logf("%d moved within %v of the opening; others: %v", moved, last, others)
			if moved != test.moved || others[test.status] != waiting-test.moved {
				t.Errorf("%d moved, others: %v", moved, others)
			}
			if test.moved == waiting && last > 400*time.Millisecond {
				t.Errorf("the last one moved after %v", last)
			}
			if got := primary.totalsNow(); got.Cancelled != uint64(test.moved) || got.Attempts != got.Failures+got.Cancelled {
				t.Errorf("totals of the primary are %+v", got)
			}
			rescued := func() (n int) {
				for _, e := range events.since(before) {
					if e.Kind == eventFailover && e.Reason == reasonRescued && e.Endpoint == "one" && e.To == "two" {
						n++
					}
				}
				return n
			}
			if test.moved > 0 {
				eventually(t, time.Second, "an event tells of it", func() bool { return rescued() > 0 })
			} else if rescued() > 0 {
				t.Errorf("events: %v", events.since(before))
			}
		})
	}
}

// TestClientLeavesDuringRescue lets a client leave when the watcher has just moved its
// call: what was reserved is made and ended, so that attempts, failovers and calls add up.
func TestClientLeavesDuringRescue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, "failover {\nname lab\nendpoint http://one:1 {\nname one\n}\nendpoint http://two:1 {\nname two\n}\n}")
		defer l.close()
		ctx, leave := context.WithCancel(t.Context())
		l.on("one:1", func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			leave()
			return nil, r.Context().Err()
		})
		l.on("two:1", func(r *http.Request) (*http.Response, error) {
			if err := r.Context().Err(); err != nil {
				return nil, err
			}
			return answers200(r)
		})
		code := make(chan int)
		go func() { code <- l.callWith(ctx, http.MethodGet, "/", "").Code }()
		time.Sleep(time.Second)
		one, two := l.stateOf("one"), l.stateOf("two")
		one.mu.Lock()
		one.breaker.trip(time.Now(), l.policy.breakerConfig(), "test")
		one.mu.Unlock()
		if got := <-code; got != 499 {
			t.Errorf("got %d", got)
		}
		synctest.Wait()
		want := totals{Attempts: 1, Cancelled: 1}
		if a, b := one.totalsNow(), two.totalsNow(); a != want || b != want || one.busy.Load()+two.busy.Load() != 0 {
			t.Errorf("totals are %+v and %+v", a, b)
		}
		l.policy.pool.fold(time.Now())
		if n := l.policy.pool.calls.Counts().Cancelled; n != 1 {
			t.Errorf("%d calls were cancelled", n)
		}
		if n := one.total.failovers[route{"two", reasonRescued}]; n != 1 {
			t.Errorf("%d failovers", n)
		}
	})
}
