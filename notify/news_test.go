package notify

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/event"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// A timeline makes events of the pool llm happen, and records its notices.
type timeline struct {
	t      *testing.T
	n      *news
	second int
	told   []string // second, event, state and count of each notice
}

func newTimeline(t *testing.T, on ...string) *timeline {
	if len(on) == 0 {
		on = defaultKinds
	}
	return &timeline{t: t, n: &news{on: on, pools: map[string]*story{}}}
}

func (l *timeline) now() time.Time { return epoch.Add(time.Duration(l.second) * time.Second) }

// until advances to a second. Each notice arrives when it is due.
func (l *timeline) until(second int) {
	for ; l.second < second; l.second++ {
		s, at := l.n.next()
		if s == nil || at.After(l.now()) {
			continue
		}
		n := s.notice(s.startSending(), nil)
		l.told = append(l.told, fmt.Sprintf("%d %s %s %d", l.second, n.Event, n.State, n.Count))
		s.markSent(l.now())
	}
}

// at makes an event happen at a second.
func (l *timeline) at(second int, kind, endpoint string, incident uint64) *timeline {
	l.until(second)
	l.n.take(event.Event{At: l.now(), Kind: kind, Pool: "llm", Endpoint: endpoint, Incident: incident, Count: 1}, l.now())
	return l
}

// want checks the notices up to ten minutes from now.
func (l *timeline) want(told ...string) {
	l.t.Helper()
	l.until(l.second + 600)
	if got, want := strings.Join(l.told, "\n"), strings.Join(told, "\n"); got != want {
		l.t.Errorf("told:\n%s\nwant:\n%s", got, want)
	}
}

// TestNewsOfAnIncident checks that there is a notice when an incident begins, when it gets worse, and
// when it is over.
func TestNewsOfAnIncident(t *testing.T) {
	newTimeline(t).
		at(10, event.BreakerOpened, "one", 1).
		at(20, event.Failover, "one", 1).
		at(30, event.BreakerRecovering, "one", 1).
		at(31, event.BreakerOpened, "one", 1).
		at(200, event.BreakerOpened, "two", 1).
		at(400, event.AllDown, "", 1).
		at(500, event.PoolUp, "", 1).
		at(510, event.BreakerClosed, "one", 1).
		at(600, event.IncidentOver, "", 1).
		want("11 breaker_opened degraded 1", "201 breaker_opened degraded 1", "401 all_down down 1", "601 incident_over well 1")
}

// TestNewsOfOneMomentAreOneNotice checks that there is one notice when the last endpoint goes out.
func TestNewsOfOneMomentAreOneNotice(t *testing.T) {
	newTimeline(t).
		at(10, event.BreakerOpened, "one", 1).
		at(10, event.AllDown, "", 1).
		at(10, event.BreakerOpened, "two", 1).
		want("11 all_down down 3")
}

// TestAPoolHasAtMostOneNoticeAMinute checks that a pool has at most one notice a minute, and that it has
// the latest state.
func TestAPoolHasAtMostOneNoticeAMinute(t *testing.T) {
	newTimeline(t).
		at(10, event.BreakerOpened, "one", 1).
		at(12, event.BreakerOpened, "two", 1).
		at(14, event.AllDown, "", 1).
		at(20, event.PoolUp, "", 1).
		at(50, event.IncidentOver, "", 1).
		want("11 breaker_opened degraded 1", "71 incident_over well 3")
	newTimeline(t).
		at(10, event.BreakerOpened, "one", 1).
		at(20, event.IncidentOver, "", 1).
		at(30, event.BreakerOpened, "one", 2).
		want("11 breaker_opened degraded 1", "71 breaker_opened degraded 2")
	newTimeline(t).
		at(10, event.BreakerOpened, "one", 1).
		at(20, event.AllDown, "", 1).
		at(25, event.PoolUp, "", 1).
		want("11 breaker_opened degraded 1", "71 all_down degraded 1")
}

// TestFlappingIsToldOnce checks that there is one notice while an endpoint flaps, unless notices also
// tell that it is back.
func TestFlappingIsToldOnce(t *testing.T) {
	l := newTimeline(t)
	for i := range 20 {
		l.at(100*i, event.BreakerOpened, "one", 1).at(100*i+1, event.AllDown, "", 1)
		l.at(100*i+50, event.PoolUp, "", 1).at(100*i+51, event.BreakerClosed, "one", 1)
	}
	l.at(2000, event.IncidentOver, "", 1).want("1 all_down down 2", "2001 incident_over well 1")
	l = newTimeline(t, event.AllDown, event.PoolUp)
	for i := range 3 {
		l.at(200*i, event.AllDown, "", 1).at(200*i+100, event.PoolUp, "", 1)
	}
	l.want("1 all_down down 1", "101 pool_up degraded 1", "201 all_down down 1", "301 pool_up degraded 1", "401 all_down down 1", "501 pool_up degraded 1")
}

// TestFlappingForHoursIsToldLessAndLess checks that incidents of one endpoint after each other cause fewer and fewer notices, while
// other endpoints, outages of the pool and their ends do not wait.
func TestFlappingForHoursIsToldLessAndLess(t *testing.T) {
	l := newTimeline(t)
	for i := range 8 * 40 { // 8 hours
		l.at(90*i, event.BreakerOpened, "one", uint64(i+1)).at(90*i+45, event.IncidentOver, "", uint64(i+1))
	}
	if n := len(l.told); n < 30 || n > 42 {
		t.Errorf("there were %d notices in 8 hours", n)
	}
	last := func(want string) {
		t.Helper()
		l.until(l.second + 61)
		if got := l.told[len(l.told)-1]; !strings.Contains(got, want) {
			t.Errorf("the last notice is %s, want %s", got, want)
		}
	}
	l.at(l.second, event.BreakerOpened, "two", 1000)
	last("breaker_opened degraded")
	l.at(l.second, event.AllDown, "", 1000)
	last("all_down down")
	l.until(l.second + 4000)
	l.at(l.second, event.BreakerOpened, "one", 2000)
	l.until(l.second + 2)
	last("breaker_opened degraded 1")
	l.at(l.second, event.IncidentOver, "", 2000)
	last("incident_over well 1")
}

// TestOnlyWantedEventsAreNews checks that only wanted events cause a notice, and that the end of an
// incident causes one only if a notice told of its beginning.
func TestOnlyWantedEventsAreNews(t *testing.T) {
	outage := func(l *timeline, id uint64, down bool) *timeline {
		l.at(l.second+200, event.BreakerOpened, "one", id)
		if down {
			l.at(l.second+1, event.AllDown, "", id)
		}
		return l.at(l.second+100, event.IncidentOver, "", id)
	}
	outage(outage(newTimeline(t, event.AllDown, event.IncidentOver), 1, false), 2, true).
		want("502 all_down down 1", "602 incident_over well 1")
	outage(newTimeline(t, event.IncidentOver), 1, false).want("301 incident_over well 1")
	newTimeline(t, event.SLABurning).at(1, event.BreakerOpened, "one", 1).at(2, event.SLABurning, "", 0).want("3 sla_burning degraded 1")
	l := newTimeline(t)
	l.n.take(event.Event{Kind: event.BreakerOpened, Pool: "llm", Endpoint: "one", Reason: "operator", Incident: 1}, epoch)
	l.want()
}

// TestAnotherScopeIsNews checks that it is news if an endpoint goes out for another scope.
func TestAnotherScopeIsNews(t *testing.T) {
	l := newTimeline(t)
	for i, scope := range []string{"gpt", "gpt", "mini"} {
		l.until(100 * (i + 1))
		l.n.take(event.Event{Kind: event.BreakerOpened, Pool: "llm", Endpoint: "one", Scope: scope, Incident: 1, Count: 1}, l.now())
	}
	l.want("101 breaker_opened degraded 1", "301 breaker_opened degraded 1")
	if out := l.n.pools["llm"].out; len(out) != 2 || out[1] != "one (mini)" {
		t.Errorf("out: %q", out)
	}
}

// TestPoolsHaveNewsOfTheirOwn checks that the notices of one pool do not delay those of another, and
// that pools without news are forgotten.
func TestPoolsHaveNewsOfTheirOwn(t *testing.T) {
	n := &news{on: defaultKinds, pools: map[string]*story{}}
	for i := range maxPools + 10 {
		n.take(event.Event{Kind: event.Failover, Pool: fmt.Sprint(i)}, epoch)
	}
	if len(n.pools) > maxPools {
		t.Errorf("%d pools, want at most %d", len(n.pools), maxPools)
	}
	for _, pool := range []string{"one", "two"} {
		n.take(event.Event{Kind: event.BreakerOpened, Pool: pool, Endpoint: "a", Incident: 1}, epoch)
	}
	for range 2 {
		s, at := n.next()
		if s == nil || !at.Equal(epoch.Add(gather)) {
			t.Fatalf("due at %v", at)
		}
		s.startSending()
		s.markSent(at)
	}
}

// TestAFailedNoticeIsTriedAgain checks that a notice is tried less and less often, includes later
// events, and is given up after an hour.
func TestAFailedNoticeIsTriedAgain(t *testing.T) {
	n := &news{on: defaultKinds, pools: map[string]*story{}}
	n.take(event.Event{Kind: event.BreakerOpened, Pool: "llm", Endpoint: "one", Incident: 1, Count: 1}, epoch)
	now, tries := epoch, 0
	for waits := []time.Duration{}; ; tries++ {
		s, at := n.next()
		if s == nil {
			break
		}
		waits = append(waits, at.Sub(now))
		now = at
		if i := s.startSending(); tries == 2 {
			n.take(event.Event{Kind: event.AllDown, Pool: "llm", Incident: 1, Count: 1}, now)
		} else if tries == 3 && (i.main.Kind != event.AllDown || i.count != 2) {
			t.Errorf("the 4th try is of %+v", i)
		}
		again := s.markFailed(now, failure{})
		if again != (now.Sub(epoch.Add(gather)) < giveUpAfter) {
			t.Fatalf("after %v: again is %v", now.Sub(epoch), again)
		}
		if tries == 3 && (waits[1] != firstRetry || waits[2] != 2*firstRetry || waits[3] != 4*firstRetry) {
			t.Errorf("it waited %v", waits)
		}
	}
	if tries < 15 || tries > 30 {
		t.Errorf("%d tries", tries)
	}
	n.take(event.Event{Kind: event.IncidentOver, Pool: "llm", Incident: 1}, now)
	if s, _ := n.next(); s != nil {
		t.Error("there is a notice of the end of an incident of which nobody knows")
	}
	n.take(event.Event{Kind: event.BreakerOpened, Pool: "llm", Endpoint: "one", Incident: 2}, now)
	if s, at := n.next(); s == nil || at.Sub(now) != atMostEvery {
		t.Error("there is no notice of the next incident after a minute")
	}
}

// TestHowLongAFailedNoticeWaits checks how the kind of failure changes the wait for the next try.
func TestHowLongAFailedNoticeWaits(t *testing.T) {
	for name, test := range map[string]struct {
		f     failure
		wait  time.Duration
		again bool
	}{
		"refused":           {failure{}, firstRetry, true},
		"may have arrived":  {failure{mayHaveArrived: true}, atMostEvery, true},
		"asked to wait":     {failure{retryAfter: 100 * time.Second}, 100 * time.Second, true},
		"asked for a year":  {failure{retryAfter: 365 * 24 * time.Hour}, longestRetry, true},
		"final":             {failure{final: true}, 0, false},
		"final, yet a wait": {failure{final: true, retryAfter: time.Minute}, 0, false},
	} {
		n := &news{on: defaultKinds, pools: map[string]*story{}}
		n.take(event.Event{Kind: event.AllDown, Pool: "llm", Incident: 1}, epoch)
		s, _ := n.next()
		s.startSending()
		if again := s.markFailed(epoch, test.f); again != test.again {
			t.Errorf("%s: again is %v", name, again)
		}
		if next, at := n.next(); (next != nil) != test.again || test.again && at.Sub(epoch) != test.wait {
			t.Errorf("%s: it waits %v", name, at.Sub(epoch))
		}
	}
}
