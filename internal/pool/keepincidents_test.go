package pool

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/target"
)

// TestAnIncidentLeftOpenEnds checks when an incident ends whose process did before it. An endpoint that gets no calls, such as a
// standby without checks, must not keep it open for good.
func TestAnIncidentLeftOpenEnds(t *testing.T) {
	for name, c := range map[string]struct {
		one, two []outcome.Outcome // of their calls, one a minute; then of none
		after    time.Duration     // least time until the end; 0: it does not end
	}{
		"both serve":            {[]outcome.Outcome{outcome.Success}, []outcome.Outcome{outcome.Success}, time.Nanosecond},
		"the standby gets none": {[]outcome.Outcome{outcome.Success}, nil, untriedFor},
		"its clients leave":     {[]outcome.Outcome{outcome.Success}, []outcome.Outcome{outcome.Cancelled}, untriedFor},
		"nothing gets any":      {nil, nil, 0},
		"the standby fails":     {[]outcome.Outcome{outcome.Success}, []outcome.Outcome{outcome.FailedStatus}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				storage := new(memory)
				p := newTestPool("ended")
				for _, one := range []string{"one", "two"} {
					p.Incidents.Take(&event.Event{At: time.Now(), Kind: event.BreakerOpened, Pool: p.Name, Endpoint: one}, "503")
				}
				if err := p.Incidents.Save(t.Context(), storage, "key", time.Now()); err != nil {
					t.Fatal(err)
				}
				p.Outbox.Close()
				p = newTestPool("ended")
				defer p.Outbox.Close()
				one, two := &target.Target{Name: "one", Address: "one:80", Priority: 1, Weight: 1}, &target.Target{Name: "two", Address: "two:80", Priority: 2, Weight: 1}
				defer p.Detach(handlerOf(t, p, one, two))
				if err := p.Incidents.Load(t.Context(), storage, "key", p.Name); err != nil {
					t.Fatal(err)
				}
				began, ended := time.Now(), time.Duration(0) // until the end; 0: it has not ended
				for i := range 60 {
					now := time.Now()
					if i < len(c.one) {
						settle(one.State, begin(t, one.State, now, time.Second), now, c.one[i])
					}
					if i < len(c.two) {
						settle(two.State, begin(t, two.State, now, time.Second), now, c.two[i])
					}
					time.Sleep(time.Second)
					p.Tick(time.Now())
					if _, open := p.Incidents.LeftOpen(); !open {
						ended = time.Since(began)
						break
					}
					time.Sleep(time.Minute - time.Second)
				}
				if (ended > 0) != (c.after > 0) || ended > 0 && ended < c.after {
					t.Errorf("it ended after %v, want at least %v", ended, c.after)
				}
			})
		})
	}
}
