package call

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/budget"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/pool"
	"github.com/apifailover/caddy-failover/internal/target"
)

// agreeing are terms that agree with any others.
type agreeing struct{}

func (agreeing) AgreesWith(pool.Terms) error { return nil }

// An outage is a pool of two endpoints in virtual time.
type outage struct {
	*Handler
	t       *testing.T
	down    bool // both endpoints fail
	log     *observer.ObservedLogs
	events  *event.Subscription
	request *http.Request
	refused int
}

func newOutage(t *testing.T, name string) *outage { return newOutageWith(t, name, 0) }

func newOutageWith(t *testing.T, name string, standbyShare float64) *outage {
	core, log := observer.New(zap.DebugLevel)
	p, err := pool.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	h := &Handler{
		Handler: pool.Handler{Pool: p, Longest: time.Second, StandbyShare: standbyShare, Terms: agreeing{}, Logger: zap.New(core)},
		Rules:   Rules{Name: name, Retry: RetryRules{Attempts: 2, Any: true, Budget: budget.Rules{Ratio: 0.2, Floor: 3}}},
	}
	for i, name := range []string{"one", "two"} {
		h.Targets = append(h.Targets, &target.Target{
			Name: name, Address: name + ":80", Priority: i + 1, Weight: 1, Timeout: time.Second,
			Upstream: &reverseproxy.Upstream{Dial: name + ":80"},
		})
	}
	if err := p.Attach(&h.Handler, h); err != nil {
		t.Fatal(err)
	}
	h.Rebuild(time.Now())
	o := &outage{Handler: h, t: t, log: log}
	_, o.events = event.Latest.Subscribe(^uint64(0))
	if o.request, err = http.NewRequest(http.MethodPost, "http://api.test/v1/chat?key=x", nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.events.Close)
	return o
}

func (o *outage) end() {
	_, _ = pool.Pools.Delete(o.Name)
}

// call makes a call and reports whether it succeeded.
func (o *outage) call() bool {
	now := time.Now()
	c := &Call{Handler: o.Handler, Request: o.request}
	t := o.Table.Load()
	a := o.choose(c, t, now)
	if a == nil {
		if a = o.lastChance(c, t, now); a == nil {
			o.Pool.Refused(pool.AllDown)
			o.refused++
			return false
		}
	}
	c.Attempts++
	for {
		a.Begin(context.Background(), 0)
		a.Answered(now)
		if !o.down {
			a.final = true
			if a.Watchful {
				a.Target.State.BeganAnswer(a, now, o.BreakerConfig())
			}
			c.answeredWell(now)
			a.BodyEnds(outcome.Success)
			return true
		}
		a.settleFor("503", now, outcome.FailedStatus, true, endpoint.NoDoubt)
		if !c.moveOn(a, outcome.FailedStatus, "503", now) {
			c.record(a, outcome.FailedStatus)
			return false
		}
		a = c.Next
	}
}

// calls makes five calls a second and returns how many failed.
func (o *outage) calls(during time.Duration) (failed int) {
	for until := time.Now().Add(during); time.Now().Before(until); {
		if !o.call() {
			failed++
		}
		time.Sleep(200 * time.Millisecond)
	}
	synctest.Wait()
	return failed
}

// news returns the pool's events since it was called last.
func (o *outage) news() (list []event.Event) {
	synctest.Wait()
	for len(o.events.Events) > 0 {
		if e := <-o.events.Events; e.Pool == o.Name {
			list = append(list, e)
		}
	}
	return list
}

func count(list []event.Event, kind, of string) (n int) {
	for _, e := range list {
		if e.Kind == kind && (of == "" || e.Endpoint == of) {
			n++
		}
	}
	return n
}

// TestAnOutageKeepsItsEvidence has both endpoints down for five minutes at five calls a second. That must cause only a
// few events and log lines, and the status must keep the beginning and the cause throughout.
func TestAnOutageKeepsItsEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutage(t, "evidence")
		defer o.end()
		o.calls(20 * time.Second)
		if list := o.news(); len(list) > 0 {
			t.Fatalf("events before the outage: %+v", list)
		}
		o.down = true
		began := time.Now()
		failed := o.calls(10 * time.Second)
		first := o.Pool.Status(time.Now())
		if !first.Down || first.Incident == nil || !first.Incident.End.IsZero() {
			t.Fatalf("after 10 s: down %v, incident %+v", first.Down, first.Incident)
		}
		for range 58 {
			failed += o.calls(5 * time.Second)
			now := o.Pool.Status(time.Now())
			for i, e := range now.Endpoints {
				was := first.Endpoints[i]
				if e.State != "open" || !e.Since.Equal(was.Since) || !e.DownSince.Equal(was.DownSince) || e.Reason != was.Reason || e.Until.Before(now.At) {
					t.Fatalf("after %v: %+v\nwas %+v", now.At.Sub(began), e, was)
				}
				if e.Cause == nil || e.Cause.What != "503" || e.Cause.Path != "/v1/chat" {
					t.Fatalf("cause %+v", e.Cause)
				}
			}
		}
		list := o.news()
		for _, e := range list {
			t.Logf("%v %s %s %s %v", e.At.Sub(began), e.Kind, e.Endpoint, e.Reason, e.Details)
		}
		if len(list) > 12 || count(list, event.BreakerOpened, "one") != 1 || count(list, event.BreakerOpened, "two") != 1 ||
			count(list, event.BreakerRecovering, "") != 0 || count(list, event.AllDown, "") != 1 {
			t.Errorf("%d events", len(list))
		}
		for _, e := range list {
			if e.Kind == event.AllDown && (e.Details["endpoints"] != 2 || e.Details["causes"] != "one: 503 from POST /v1/chat; two: 503 from POST /v1/chat") {
				t.Errorf("all_down: %v", e.Details)
			}
		}
		o.down = false
		failed += o.calls(90 * time.Second)
		list = o.news()
		for _, e := range list {
			t.Logf("%v %s %s %s %v", e.At.Sub(began), e.Kind, e.Endpoint, e.Reason, e.Details)
		}
		if count(list, event.PoolUp, "") != 1 || count(list, event.BreakerClosed, "one") != 1 || count(list, event.BreakerRecovering, "one") != 1 || count(list, event.IncidentOver, "") != 1 {
			t.Errorf("%d events", len(list))
		}
		for _, e := range list {
			if e.Incident != first.Incident.ID {
				t.Errorf("%s belongs to incident %d, not %d", e.Kind, e.Incident, first.Incident.ID)
			}
			if n, _ := e.Details["calls_failed"].(uint64); e.Kind == event.PoolUp && (n < uint64(failed)-20 || n > uint64(failed)) {
				t.Errorf("pool_up: %v, %d calls failed", e.Details, failed)
			}
			if s, _ := e.Details["down_seconds"].(float64); e.Kind == event.PoolUp && (s < 290 || s > 302) {
				t.Errorf("pool_up: %v", e.Details)
			}
		}
		if n := o.log.Len(); n > 25 {
			t.Errorf("%d log lines", n)
		}
		incidents := o.Pool.Incidents.Incidents()
		if len(incidents) != 1 {
			t.Fatalf("%d incidents", len(incidents))
		}
		i := incidents[0]
		if i.Kind != "down" || i.Failed != uint64(failed) || i.Down < 290 || len(i.Endpoints) != 2 || !strings.HasPrefix(i.Cause, "503 from POST /v1/chat") ||
			i.Start.Sub(began) > 2*time.Second || i.End.Before(began.Add(5*time.Minute)) || i.End.After(began.Add(6*time.Minute)) {
			t.Errorf("%d calls failed; the incident: %+v", failed, i)
		}
		if status := o.Pool.Status(time.Now()); status.Incident != nil {
			t.Errorf("an incident after the outage: %+v", status.Incident)
		}
	})
}

// TestCallsToTheReserveCount checks that calls to a standby endpoint count for the budgets and the rate.
func TestCallsToTheReserveCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutageWith(t, "reserve", 1)
		defer o.end()
		before := o.Pool.Budget.Calls.Load()
		for range 100 {
			if !o.call() {
				t.Fatal("a call failed")
			}
		}
		if n := o.Pool.Budget.Calls.Load() - before; n != 100 {
			t.Errorf("100 calls to the standby endpoint count as %d", n)
		}
	})
}

// TestTrialsCount checks that trials count for the budgets and the rate.
func TestTrialsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutage(t, "trials")
		defer o.end()
		one := o.Targets[0].State
		one.ChangeBreaker(func(b *breaker.Breaker) { b.Trip(time.Now(), o.BreakerConfig(), breaker.ReasonConsecutive) })
		time.Sleep(time.Minute)
		o.Rebuild(time.Now())
		before := o.Pool.Budget.Calls.Load()
		if !o.call() || one.Busy.Load() != 0 {
			t.Fatal("the trial failed")
		}
		if n := o.Pool.Budget.Calls.Load() - before; n != 1 {
			t.Errorf("a trial counts as %d calls", n)
		}
		if one.Status(time.Now(), o.BreakerConfig()).Attempts == 0 {
			t.Error("there was no trial")
		}
	})
}
