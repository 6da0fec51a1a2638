package lab

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	failover "github.com/apifailover/caddy-failover"
)

// TestAttemptsOutliveTheirEndpoint checks attempts that go on after a reload without their endpoint,
// or without any. They keep their timeouts and failovers, their clients may leave, and their results
// count where they began.
func TestAttemptsOutliveTheirEndpoint(t *testing.T) {
	for name, next := range map[string][]string{
		"the same endpoints":  {"one:1", "two:1"},
		"one endpoint leaves": {"two:1"},
		"all endpoints leave": {"three:1"},
		"the pool leaves":     nil,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				policy := func() *failover.Policy { return &failover.Policy{Timeout: caddy.Duration(time.Second)} }
				l := newLab(t, policy(), "one:1", "two:1")
				l.on("one:1", hangs)
				ctx, leave := context.WithCancel(t.Context())
				left, stays := make(chan int), make(chan int)
				go func() { left <- l.callWith(ctx, http.MethodPost, "/", "").Code }()
				go func() { stays <- l.call(http.MethodGet, "/", "").Code }()
				synctest.Wait()
				if n := l.waitingAt("one:1"); n != 2 {
					t.Fatalf("%d attempts are in flight", n)
				}
				if next == nil {
					l.close()
				} else {
					l.reload(policy(), next...)
				}
				leave()
				if code := <-left; code != 499 {
					t.Errorf("the client that left got %d", code)
				}
				synctest.Wait()
				if n := l.waitingAt("one:1"); n != 1 {
					t.Errorf("when a client has left the endpoint has %d in flight", n)
				}
				if code := <-stays; code != http.StatusOK {
					t.Errorf("the request that hung got %d", code)
				}
				synctest.Wait()
				if n := l.waitingAt("one:1") + l.waitingAt("two:1"); n != 0 {
					t.Errorf("%d attempts are in flight", n)
				}
				if name == "the same endpoints" {
					if got := l.endpoint("one:1").totals(); got != (totals{Attempts: 2, Failures: 1, Cancelled: 1}) {
						t.Errorf("the endpoint has %+v", got)
					}
					if got := l.endpoint("two:1").totals(); got != (totals{Attempts: 1, Successes: 1}) {
						t.Errorf("the next endpoint has %+v", got)
					}
				}
				time.Sleep(watchAtMost) // or the bubble tells that the pool's loop goes on after its last attempt
			})
		})
	}
}

// TestWaitingCallsGoToNewEndpoints reloads while calls wait that no endpoint of their configuration may serve. They must
// be served at once by the endpoints of the new one, if it reaches these in the same way.
func TestWaitingCallsGoToNewEndpoints(t *testing.T) {
	const dead, well = "endpoint http://dead:1", "endpoint http://well:1"
	for name, c := range map[string]struct {
		before, drain string
		after         []string
		lost          bool // the calls wait in vain
	}{
		"a dead endpoint is replaced":          {before: dead, after: []string{well}},
		"a drained endpoint is replaced":       {before: "endpoint http://drained:1", drain: "drained:1", after: []string{well}},
		"a wrong address is corrected":         {before: dead + " {\nname own\n}", after: []string{well + " {\nname own\n}"}},
		"an endpoint is added":                 {before: dead, after: []string{dead + "\n" + well}},
		"a weight is no longer 0":              {before: well + " {\nweight 0\n}", after: []string{well + " {\nweight 1\n}"}},
		"a limit is removed":                   {before: well + " {\nlimit 1 requests per 1h\n}", after: []string{well}},
		"options change as well":               {before: dead, after: []string{"timeout 3s\nbalance least_requests\n" + well}},
		"waiting is no longer on":              {before: dead, after: []string{"all_down fail_fast\n" + well}},
		"the second reload brings it":          {before: dead, after: []string{dead + "\ntimeout 3s", well}},
		"calls have scopes":                    {before: "scope {header.X-Scope}\n" + dead, after: []string{"scope {header.X-Scope}\n" + well}},
		"endpoints have models":                {before: "api openai\n" + dead + " {\nmodel m n\n}", after: []string{"api openai\n" + well + " {\nmodel m n\n}"}},
		"endpoints have keys":                  {before: dead + " {\nheader Authorization \"Bearer a\"\n}", after: []string{well + " {\nheader Authorization \"Bearer c\"\n}"}},
		"only the new one has a key":           {before: dead, after: []string{well + " {\nheader Authorization \"Bearer c\"\n}"}, lost: true},
		"the proxy sends another header":       {before: dead + "\nheader_up X-Key old", after: []string{well + "\nheader_up X-Key new"}, lost: true},
		"the base URL of the new one is below": {before: dead, after: []string{"endpoint http://well:1/v1"}, lost: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				options := func(endpoints string) string {
					if !strings.Contains(endpoints, "all_down") {
						endpoints = "all_down wait 60s\n" + endpoints
					}
					return "failover {\nname lab\n" + endpoints + "\n}"
				}
				l := openLab(t, options(c.before))
				defer func() { l.close() }()
				l.on("dead:1", refusesConnections)
				if c.drain != "" {
					l.endpoint(c.drain).order("drain", "{}")
				}
				if strings.Contains(c.before, "limit") {
					l.call(http.MethodGet, "/", "")
				}
				const calls = 20
				began := time.Now()
				done := make(chan time.Duration, calls)
				for range calls {
					go func() {
						got := l.call(http.MethodPost, "/v1/chat/completions", `{"model":"m"}`, "Content-Type", "application/json", "X-Scope", "s")
						if (got.Code == http.StatusOK) == c.lost {
							t.Errorf("a call got %d", got.Code)
						}
						done <- time.Since(began)
					}()
				}
				time.Sleep(5 * time.Second)
				if len(done) > 0 {
					t.Fatalf("%d calls did not wait", len(done))
				}
				l.takeAsked()
				for _, next := range c.after {
					end := l.close
					l.provision(handlerJSON(t, options(next)))
					end()
				}
				for range calls {
					if took := <-done; !c.lost && took > 6*time.Second {
						t.Errorf("a call ended %v after the reload", took-5*time.Second)
						break
					}
				}
				if asked := l.takeAsked(); !c.lost && slices.Contains(asked, "drained:1") {
					t.Error("a drained endpoint got calls")
				}
			})
		})
	}
}

// TestRetriesGoToNewEndpoints checks that a call whose endpoints have all gone dead moves on to those of the new
// configuration.
func TestRetriesGoToNewEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, "failover {\nname lab\ntimeout 2s\nendpoint http://one:1\nendpoint http://two:1\n}")
		defer func() { l.close() }()
		l.on("one:1", hangs)
		l.on("two:1", refusesConnections)
		done := make(chan int)
		go func() { done <- l.call(http.MethodGet, "/", "").Code }()
		synctest.Wait()
		end := l.close
		l.provision(handlerJSON(t, "failover {\nname lab\nendpoint http://three:1\n}"))
		end()
		if code := <-done; code != http.StatusOK {
			t.Errorf("the call got %d", code)
		}
	})
}

// TestACheckedConfigurationDoesNothing provisions a configuration in which all endpoints are drained, as `caddy validate`
// does. It must report nothing and check no endpoint before it starts.
func TestACheckedConfigurationDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newEmpty(t, "lab")
		start := l.prepare(handlerJSON(t, "failover {\nname lab\nhealth {\ninterval 1s\n}\nendpoint http://one:1 {\nschedule \"* * * * *\" 1h {\ndrain\n}\n}\n}"))
		defer l.close()
		time.Sleep(10 * time.Second)
		if events, asked := l.events(), l.takeAsked(); len(events)+len(asked) > 0 {
			t.Errorf("before its start the pool has the events %+v and asked %q", events, asked)
		}
		start()
		time.Sleep(2 * time.Second)
		var kinds []string
		for _, e := range l.events() {
			kinds = append(kinds, e.Kind)
		}
		slices.Sort(kinds)
		if asked := l.takeAsked(); !slices.Equal(kinds, []string{"all_down", "scheduled"}) || len(asked) == 0 {
			t.Errorf("after its start the pool has the events %q and asked %q", kinds, asked)
		}
	})
}
