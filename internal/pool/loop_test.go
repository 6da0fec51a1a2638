package pool

import (
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/target"
)

// running returns a pool of one endpoint. Its loop runs until stop.
func running(t *testing.T) (p *Pool, one *target.Target, stop func()) {
	p = New(t.Name())
	p.Loop.start(p)
	one = &target.Target{Name: "one", Address: "one:80", Priority: 1, Weight: 1}
	h := handlerOf(t, p, one)
	return p, one, func() {
		p.Detach(h)
		p.Loop.stop()
		p.Outbox.Close()
	}
}

// TestLookOutRelaxes checks that the loop looks at attempts as often as their timeouts need, and less
// often again when these attempts are over.
func TestLookOutRelaxes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, one, stop := running(t)
		want := func(when string, want time.Duration) {
			t.Helper()
			synctest.Wait()
			if got := time.Duration(p.Loop.every.Load()); got != want {
				t.Errorf("%s: every %v, want %v", when, got, want)
			}
		}
		attempt := func(timeout time.Duration) *fakeAttempt {
			f := begin(t, one.State, time.Now(), timeout)
			p.Watch(timeout)
			return f
		}
		slow := attempt(time.Minute) // keeps the loop from parking
		time.Sleep(time.Second)
		want("at first", watchAtMost)
		quick := attempt(320 * time.Millisecond)
		time.Sleep(time.Millisecond)
		want("a quick one", watchAtLeast)
		time.Sleep(310 * time.Millisecond)
		want("it is in flight", watchAtLeast)
		settle(one.State, quick, time.Now(), outcome.Success)
		time.Sleep(time.Second)
		want("it is over", watchAtMost)
		for range 20 { // an attempt in each tick
			settle(one.State, attempt(320*time.Millisecond), time.Now(), outcome.Success)
			time.Sleep(TickEvery / 2)
		}
		want("quick ones again and again", watchAtLeast)
		time.Sleep(time.Second)
		want("they are over", watchAtMost)
		settle(one.State, slow, time.Now(), outcome.Success)
		stop()
	})
}

// TestLoopParks checks that the control loop of an idle pool is parked, wakes up for the next attempt,
// and watches attempts to their end after the pool has stopped.
func TestLoopParks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, one, stop := running(t)
		for range 3 {
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			if !p.Loop.parked.Load() {
				t.Fatal("an idle pool's loop is not parked")
			}
			f := begin(t, one.State, time.Now(), time.Second)
			p.Watch(time.Second)
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if p.Loop.parked.Load() {
				t.Fatal("the loop is parked while an attempt is in flight")
			}
			settle(one.State, f, time.Now(), outcome.Success)
		}
		f := begin(t, one.State, time.Now(), time.Second)
		p.Watch(time.Second)
		stop()
		time.Sleep(time.Minute)
		settle(one.State, f, time.Now(), outcome.Success)
		time.Sleep(watchAtMost) // the loop ends, or the bubble fails
	})
}

// notStarted is the event source of a configuration that has not started.
type notStarted struct{ noSubscribers }

func (notStarted) Usable() bool { return false }

// TestRequestsBeforeTheStartAreServedAsAfter: Caddy's server takes requests while other apps still start. Breakers that they open do not wait
// for the last app.
func TestRequestsBeforeTheStartAreServedAsAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTestPool("starting")
		defer p.Outbox.Close()
		one := &target.Target{Name: "one", Address: "one:80", Weight: 1}
		h := &Handler{Pool: p, Targets: []*target.Target{one}, Breaker: defaultBreaker(), Longest: 2 * time.Second, Logger: zap.NewNop(), Source: notStarted{}}
		if err := p.Attach(h, h); err != nil {
			t.Fatal(err)
		}
		defer p.Detach(h)
		p.Rebuild(time.Now())
		p.Turn()
		h.GoLive()
		for now := time.Now(); !isOpen(one.State, now); {
			settle(one.State, begin(t, one.State, now, time.Second), now, outcome.FailedDial)
		}
		p.Tick(time.Now())
		if r := h.Table.Load(); r == nil || r.Total > 0 {
			t.Errorf("its table is %+v", r)
		}
	})
}
