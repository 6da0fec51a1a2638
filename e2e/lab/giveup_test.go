package lab

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	failover "github.com/apifailover/caddy-failover"
)

// impatience is a load whose clients give up after a time.
type impatience struct {
	rate     int // calls a second
	patience time.Duration
	method   string
	path     string
}

// lost returns how many calls had no answer when their clients gave up.
func (l *lab) lost(i impatience, lasting time.Duration) (lost, calls int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range int(float64(i.rate) * lasting.Seconds()) {
		time.Sleep(time.Second / time.Duration(i.rate))
		calls++
		wg.Go(func() {
			ctx, leave := context.WithTimeout(context.Background(), i.patience)
			defer leave()
			body := ""
			if i.method == http.MethodPost {
				body = "{}"
			}
			if status := l.callWith(ctx, i.method, i.path, body).Code; status != http.StatusOK || ctx.Err() != nil {
				mu.Lock()
				lost++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return lost, calls
}

// TestClientsGiveUpBeforeTheTimeout checks that hardly any call is lost to a primary that hangs, at
// 5 calls a second whose clients leave long before the timeout. The pool may know much or little
// about the primary.
func TestClientsGiveUpBeforeTheTimeout(t *testing.T) {
	stream := func(policy *failover.Policy) { policy.Commit = &failover.Commit{After: "first_byte"} }
	for name, c := range map[string]struct {
		good, most int
		load       impatience
		change     func(*failover.Policy)
	}{
		"fresh":                 {0, 10, impatience{5, 3 * time.Second, http.MethodGet, "/"}, nil},
		"after 73 good calls":   {73, 10, impatience{5, 3 * time.Second, http.MethodGet, "/"}, nil},
		"after 573 good calls":  {573, 10, impatience{5, 3 * time.Second, http.MethodGet, "/"}, nil},
		"POST":                  {0, 10, impatience{5, 3 * time.Second, http.MethodPost, "/"}, nil},
		"less patient":          {0, 10, impatience{5, 1200 * time.Millisecond, http.MethodGet, "/"}, nil},
		"more patient":          {0, 10, impatience{5, 9 * time.Second, http.MethodGet, "/"}, nil},
		"few calls":             {0, 10, impatience{1, 3 * time.Second, http.MethodGet, "/"}, nil},
		"many calls":            {0, 20, impatience{20, 3 * time.Second, http.MethodGet, "/"}, nil},
		"first bytes of bodies": {0, 10, impatience{5, 3 * time.Second, http.MethodPost, "/"}, stream},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				policy := &failover.Policy{Timeout: caddy.Duration(10 * time.Second), Retry: &failover.Retry{Methods: []string{"any"}}}
				if c.change != nil {
					c.change(policy)
				}
				l := newLab(t, policy, "one:80", "two:80")
				l.load(20, time.Duration(c.good)*time.Second/20)
				l.on("one:80", hangs)
				lost, calls := l.lost(c.load, time.Minute)
				t.Logf("%d of %d calls lost; %s", lost, calls, l.endpoint("one:80").state())
				if lost > c.most {
					t.Errorf("%d of %d calls were lost, want at most %d", lost, calls, c.most)
				}
				if state := l.endpoint("two:80").state(); state != "closed" {
					t.Errorf("the endpoint that answers is %v", state)
				}
				l.on("one:80", after(2*time.Millisecond, http.StatusOK))
				if lost, calls := l.lost(c.load, time.Minute); lost > 0 || l.endpoint("one:80").state() != "closed" {
					t.Errorf("well again: %d of %d calls lost, and %v", lost, calls, l.endpoint("one:80").state())
				}
			})
		})
	}
}

// TestClientsThatGiveUpTakeNoLastEndpointOut checks that the last endpoint stays in if both hang.
func TestClientsThatGiveUpTakeNoLastEndpointOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &failover.Policy{Timeout: caddy.Duration(10 * time.Second), Retry: &failover.Retry{Methods: []string{"any"}}}, "one:80", "two:80")
		l.on("one:80", hangs)
		l.on("two:80", hangs)
		for range 20 {
			l.lost(impatience{5, 3 * time.Second, http.MethodGet, "/"}, 3*time.Second)
			if state := l.endpoint("two:80").state(); state != "closed" {
				t.Fatalf("the last endpoint is %v", state)
			}
		}
		l.on("two:80", after(2*time.Millisecond, http.StatusOK))
		if lost, calls := l.lost(impatience{5, 3 * time.Second, http.MethodGet, "/"}, time.Minute); lost > 10 {
			t.Errorf("one of two is well: %d of %d calls lost", lost, calls)
		}
	})
}

// TestSlowEndpointsComeBackFromImpatience checks that an endpoint that always takes 20 s serves
// patient clients again after a few others gave up on it.
func TestSlowEndpointsComeBackFromImpatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &failover.Policy{}, "one:80", "two:80")
		l.on("one:80", after(20*time.Second, http.StatusOK))
		l.on("two:80", after(20*time.Second, http.StatusOK))
		l.lost(impatience{1, 1500 * time.Millisecond, http.MethodGet, "/"}, 10*time.Second)
		if state := l.endpoint("one:80").state(); state == "closed" {
			t.Fatalf("nothing has opened it")
		}
		lost, _ := l.lost(impatience{1, time.Minute, http.MethodGet, "/"}, 4*time.Minute)
		if state := l.endpoint("one:80").state(); state != "closed" || lost > 0 {
			t.Errorf("after four minutes of patient clients: %v, and %d lost", state, lost)
		}
	})
}

// TestHostileClientsCloseNothing checks that clients that leave a route of 20 s early take no
// endpoint out while calls to another route succeed.
func TestHostileClientsCloseNothing(t *testing.T) {
	for name, hostile := range map[string]impatience{
		"at once":                  {100, 1, http.MethodGet, "/slow"},
		"after less than a second": {100, 900 * time.Millisecond, http.MethodGet, "/slow"},
		"after 1.5 s":              {10, 1500 * time.Millisecond, http.MethodGet, "/slow"},
		"after 1.5 s, POST":        {10, 1500 * time.Millisecond, http.MethodPost, "/slow"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t, &failover.Policy{Retry: &failover.Retry{Methods: []string{"any"}}, Breaker: &failover.Breaker{SlowFactor: new(float64)}}, "one:80", "two:80")
				l.on("one:80", func(r *http.Request) (*http.Response, error) {
					if r.URL.Path == "/slow" {
						return after(20*time.Second, http.StatusOK)(r)
					}
					return after(2*time.Millisecond, http.StatusOK)(r)
				})
				done := make(chan struct{})
				go func() { l.lost(hostile, time.Minute); close(done) }()
				good, _ := l.lost(impatience{2, 3 * time.Second, http.MethodGet, "/"}, time.Minute)
				<-done
				if state := l.endpoint("one:80").state(); state != "closed" || good > 0 {
					t.Errorf("%v, and %d good calls lost", state, good)
				}
			})
		})
	}
}
