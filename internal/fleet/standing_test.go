package fleet_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apifailover/caddy-failover/internal/fleet"
	"github.com/apifailover/caddy-failover/internal/fleettest"
)

// TestEngineThatComesAndGoesCausesFewChanges, whatever its period and its fault, and none is missing at the end.
func TestEngineThatComesAndGoesCausesFewChanges(t *testing.T) {
	type step struct {
		fault string
		lasts time.Duration
	}
	for name, c := range map[string]struct {
		steps []step // for 10 minutes
		want  string // of the changes until then
	}{
		"cut each second":        {[]step{{"cut", 0}, {"", time.Second}}, "lost back lost"},
		"gone every other 3 s":   {[]step{{"down", 3 * time.Second}, {"", 3 * time.Second}}, "lost back lost"},
		"gone 1 s of each 15":    {[]step{{"down", time.Second}, {"", 14 * time.Second}}, "lost back lost back lost back lost"},
		"full every other 3 s":   {[]step{{"full", 3 * time.Second}, {"", 3 * time.Second}}, "full"},
		"full, and cut":          {[]step{{"full", time.Second}, {"cut", 0}}, "full lost full lost"},
		"gone 1 s each 6th min.": {[]step{{"down", time.Second}, {"", 359 * time.Second}}, "lost back lost back"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := &fullHub{Hub: fleettest.NewHub()}
				a := join(t, hub, "a")
				time.Sleep(10300 * time.Millisecond) // not together with a Hello
				changes := func() string {
					a.mu.Lock()
					defer a.mu.Unlock()
					return strings.Join(a.changes, " ")
				}
				for began := time.Now(); time.Since(began) < 10*time.Minute; {
					for _, s := range c.steps {
						hub.Up()
						hub.full.Store(s.fault == "full")
						switch s.fault {
						case "cut":
							hub.Down()
							hub.Up()
						case "down":
							hub.Down()
						}
						time.Sleep(s.lasts)
					}
				}
				if got := changes(); got != c.want {
					t.Errorf("the changes were %s, want %s", got, c.want)
				}
				hub.full.Store(false)
				hub.Up()
				time.Sleep(6 * time.Minute)
				if got := changes(); !strings.HasSuffix(got, "back") {
					t.Errorf("after 6 good minutes the changes were %s", got)
				}
			})
		})
	}
}

// TestReloadOfALostEngineIsNoChange: it is lost and back once, whichever configuration sees that.
func TestReloadOfALostEngineIsNoChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := fleettest.NewHub()
		a := join(t, hub, "a")
		time.Sleep(time.Second)
		hub.Down()
		for range 3 {
			time.Sleep(10 * time.Second)
			defer a.Run(hub)()
		}
		time.Sleep(10 * time.Second)
		hub.Up()
		time.Sleep(3 * time.Second)
		a.mu.Lock()
		defer a.mu.Unlock()
		if fmt.Sprint(a.changes) != "[lost back]" {
			t.Errorf("the changes were %v", a.changes)
		}
	})
}

// A deafHub takes records but passes none on while it is deaf.
type deafHub struct {
	*fleettest.Hub
	deaf atomic.Bool
}

func (h *deafHub) Watch(ctx context.Context, ready func(), take func(fleet.Record)) error {
	return h.Hub.Watch(ctx, ready, func(r fleet.Record) {
		if !h.deaf.Load() {
			take(r)
		}
	})
}

// TestEngineThatPassesNothingOnIsLost, although it takes all that it is told, and stores it.
func TestEngineThatPassesNothingOnIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := &deafHub{Hub: fleettest.NewHub()}
		a := join(t, hub, "a")
		time.Sleep(time.Minute)
		hub.deaf.Store(true)
		for range 3 {
			time.Sleep(20 * time.Second)
			a.mu.Lock()
			if got := fmt.Sprint(a.changes); !strings.HasPrefix(got, "[lost") || len(a.changes) > 3 {
				t.Errorf("the changes were %s", got)
			}
			a.mu.Unlock()
		}
		hub.deaf.Store(false)
		time.Sleep(20 * time.Second)
		a.mu.Lock()
		defer a.mu.Unlock()
		if got := fmt.Sprint(a.changes); !strings.HasSuffix(got, "back]") || !a.Connected() {
			t.Errorf("in the end the changes were %s", got)
		}
	})
}
