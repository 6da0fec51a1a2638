package lab

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	failover "github.com/apifailover/caddy-failover"
)

// anomalies returns the anomalies of the pool's endpoints since the lab was opened, as
// "endpoint kind begins" and "... ends".
func (l *lab) anomalies() (story []string, list []event) {
	for _, e := range l.events() {
		if e.Kind != "anomaly" {
			continue
		}
		what := "ends"
		if e.Details["began"] == true {
			what = "begins"
		}
		story = append(story, fmt.Sprintf("%s %s %s", e.Endpoint, e.Reason, what))
		list = append(list, e)
	}
	return story, list
}

// TestAnomaliesAreEvents checks the events of traffic that becomes slower and then stops.
func TestAnomaliesAreEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &failover.Policy{}, "one:80", "two:80")
		at := func(median time.Duration) {
			l.on("one:80", func(r *http.Request) (*http.Response, error) {
				return after(time.Duration(float64(median)*(0.8+0.4*rand.Float64())), http.StatusOK)(r)
			})
		}
		at(10 * time.Millisecond)
		l.load(2, 20*time.Minute)
		if story, _ := l.anomalies(); len(story) > 0 {
			t.Errorf("nothing is unusual yet, and %v", story)
		}
		at(20 * time.Millisecond)
		l.load(2, 3*time.Minute)
		story, list := l.anomalies()
		if !slices.Equal(story, []string{"one:80 latency begins"}) {
			t.Fatalf("latency doubled: %v", story)
		}
		if e := list[0]; e.Details["expected"].(float64) > 0.012 || e.Details["seen"].(float64) < 0.017 {
			t.Errorf("expected and seen: %v", e.Details)
		}
		at(10 * time.Millisecond)
		l.load(2, 10*time.Minute)
		time.Sleep(2 * time.Minute)
		story, _ = l.anomalies()
		if !slices.Equal(story, []string{"one:80 latency begins", "one:80 latency ends", "one:80 traffic begins"}) {
			t.Errorf("back to normal, and then no calls: %v", story)
		}
	})
}

// TestFlappingStaysOutLonger checks that an endpoint that fails each time it is back stays out longer
// and longer.
func TestFlappingStaysOutLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &failover.Policy{Breaker: &failover.Breaker{OpenFor: caddy.Duration(2 * time.Second), Step: caddy.Duration(100 * time.Millisecond)}},
			"one:80", "two:80")
		one := l.endpoint("one:80")
		var periods []time.Duration
		for range 5 {
			l.on("one:80", after(time.Millisecond, http.StatusServiceUnavailable))
			l.load(50, 500*time.Millisecond)
			c := one.status()
			if c.State != "open" {
				t.Fatalf("%v", c.State)
			}
			periods = append(periods, c.Until.Sub(c.Since))
			l.on("one:80", after(time.Millisecond, http.StatusOK))
			for one.state() != "closed" {
				l.load(50, 100*time.Millisecond)
			}
		}
		story, _ := l.anomalies()
		if !slices.Contains(story, "one:80 flapping begins") {
			t.Errorf("%v", story)
		}
		t.Logf("out for %v", periods)
		lasted(t, "at first", periods[0], 1600*time.Millisecond, 2400*time.Millisecond)
		if last := periods[len(periods)-1]; last < 5*time.Second {
			t.Errorf("flaps, and is out for %v", last)
		}
		// it is forgiven in time
		l.load(5, 15*time.Minute)
		story, _ = l.anomalies()
		if !slices.Contains(story, "one:80 flapping ends") {
			t.Errorf("calm for 15 minutes: %v", story)
		}
	})
}

// TestOutageIsNoFlapping checks that an endpoint that stays down does not count as flapping.
func TestOutageIsNoFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &failover.Policy{Breaker: &failover.Breaker{OpenFor: caddy.Duration(time.Second), OpenMax: caddy.Duration(2 * time.Second)}}, "one:80", "two:80")
		l.on("one:80", after(time.Millisecond, http.StatusServiceUnavailable))
		l.load(50, 2*time.Minute)
		if story, _ := l.anomalies(); slices.Contains(story, "one:80 flapping begins") {
			t.Errorf("%v", story)
		}
	})
}

// TestStandbyShare checks that the reserve gets its share of the calls, and that clients see none of
// its failures.
func TestStandbyShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &failover.Policy{StandbyShare: 0.05}, "one:80", "two:80", "three:80")
		s := l.load(200, time.Minute)
		two, three := l.endpoint("two:80").totals().Attempts, l.endpoint("three:80").totals().Attempts
		if part := float64(two+three) / float64(s.calls); part < 0.04 || part > 0.06 || two < three/2 || three < two/2 {
			t.Errorf("%d and %d of %d calls", two, three, s.calls)
		}
		l.on("two:80", after(time.Millisecond, http.StatusServiceUnavailable))
		l.on("three:80", func(*http.Request) (*http.Response, error) { return nil, errCut })
		if s := l.load(200, time.Minute); s.failed > 0 {
			t.Errorf("%d calls failed", s.failed)
		}
		// a request that must not be repeated does not go to the reserve
		l.endpoint("two:80").order("reset", "")
		time.Sleep(time.Second)
		before := l.endpoint("two:80").totals().Attempts
		for range 500 {
			if status := l.call(http.MethodPost, "/", "").Code; status != http.StatusOK {
				t.Fatalf("status %d", status)
			}
		}
		if n := l.endpoint("two:80").totals().Attempts - before; n > 0 {
			t.Errorf("%d of 500 POSTs went to the reserve", n)
		}
	})
}
