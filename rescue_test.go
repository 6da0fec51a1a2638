package failover

import (
	"net/http"
	"testing"
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
