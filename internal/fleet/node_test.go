package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apifailover/caddy-failover/internal/fleet"
	"github.com/apifailover/caddy-failover/internal/fleettest"
)

// A member is a node with what it was told.
type member struct {
	*fleet.Node
	stop func()

	mu      sync.Mutex
	facts   []fleet.Fact
	lives   []bool
	changes []string
	renamed string
}

func join(t *testing.T, e fleet.Engine, name string) *member {
	t.Helper()
	m := new(member)
	m.Node = fleet.NewNode(fleet.Settings{
		Fleet: "eu", Secret: "s3cret", Instance: name, Release: "v1",
		Take: func(f *fleet.Fact, live bool, _ time.Time) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.facts, m.lives = append(m.facts, *f), append(m.lives, live)
		},
		Active: func(time.Time) []string { return nil },
		Changed: func(c fleet.Change) {
			m.mu.Lock()
			defer m.mu.Unlock()
			switch {
			case c.Err == nil:
				m.changes = append(m.changes, "back")
			case c.Connected:
				m.changes = append(m.changes, "full")
			default:
				m.changes = append(m.changes, "lost")
			}
		},
		Renamed: func(name string) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.renamed = name
		},
	})
	m.stop = m.Run(e)
	t.Cleanup(m.stop)
	return m
}

// got returns how often a fact of a kind was taken, and the latest.
func (m *member) got(k fleet.Kind) (n int, last fleet.Fact) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.facts {
		if f.Kind == k {
			n, last = n+1, f
		}
	}
	return n, last
}

func (m *member) id() string { return m.ID("api", "https://one.test", "key") }

func (m *member) hold(d time.Duration) {
	m.Tell(fleet.Fact{Kind: fleet.Hold, Endpoint: m.id(), Left: d, Reason: "rate_limited"}, time.Now())
}

func (m *member) order(action string) {
	now := time.Now()
	m.Tell(fleet.Fact{
		Kind: fleet.Order, Endpoint: m.id(), Left: fleet.MaxOrder, Slot: fleet.Steering, State: action,
		Version: m.NextVersion(m.id(), fleet.Steering, now),
	}, now)
}

func (m *member) inForce() string {
	action := "nothing"
	for _, f := range m.Book.About(m.id(), time.Now()) {
		if f.Kind == fleet.Order {
			action = f.State
		}
	}
	return action
}

func TestOthersHearAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := fleettest.NewHub()
		a, b, c := join(t, hub, "a"), join(t, hub, "b"), join(t, hub, "c")
		time.Sleep(time.Second)
		a.hold(20 * time.Second)
		time.Sleep(10 * time.Millisecond)
		for _, m := range []*member{b, c} {
			if n, f := m.got(fleet.Hold); n != 1 || f.Instance != "a" || f.Left < 19*time.Second || f.Left > 20*time.Second {
				t.Errorf("got %d holds, the last %+v", n, f)
			}
		}
		if n, _ := a.got(fleet.Hold); n != 0 {
			t.Error("an instance hears itself")
		}
		if n := b.Book.Others(time.Now()); n != 2 {
			t.Errorf("%d others are there", n)
		}
	})
}

// TestLatecomersHearWhatStillCounts, with what is left of it.
func TestLatecomersHearWhatStillCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := fleettest.NewHub()
		a := join(t, hub, "a")
		a.hold(20 * time.Second)
		a.order("drain")
		time.Sleep(15 * time.Second)
		b := join(t, hub, "b")
		time.Sleep(time.Second)
		if n, f := b.got(fleet.Hold); n != 1 || f.Left > 5*time.Second || f.Left < 4*time.Second {
			t.Errorf("got %d holds, the last %+v", n, f)
		}
		if b.inForce() != "drain" {
			t.Errorf("%s is in force", b.inForce())
		}
		time.Sleep(10 * time.Second)
		c := join(t, hub, "c")
		time.Sleep(time.Second)
		if n, _ := c.got(fleet.Hold); n != 0 {
			t.Error("a hold that is over is heard")
		}
	})
}

// TestOrdersOutliveTheirInstances, and what an engine forgets is told again within 2 s.
func TestOrdersOutliveTheirInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := fleettest.NewHub()
		a, b := join(t, hub, "a"), join(t, hub, "b")
		time.Sleep(time.Second)
		a.order("drain")
		time.Sleep(time.Second)
		a.stop()
		hub.Empty()
		time.Sleep(2 * time.Second)
		c := join(t, hub, "c")
		time.Sleep(100 * time.Millisecond)
		if c.inForce() != "drain" {
			t.Errorf("%s is in force", c.inForce())
		}
		c.order("enable")
		time.Sleep(100 * time.Millisecond)
		if b.inForce() != "enable" {
			t.Errorf("%s is in force", b.inForce())
		}
	})
}

// TestTheNewestOrderWins, whatever was told while an instance was away.
func TestTheNewestOrderWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub, lonely := fleettest.NewHub(), fleettest.NewHub()
		a, b := join(t, hub, "a"), join(t, lonely, "b")
		time.Sleep(time.Second)
		a.order("drain")
		time.Sleep(time.Second)
		b.order("trip") // later
		time.Sleep(time.Second)
		stop := b.Run(hub)
		defer stop()
		time.Sleep(2 * time.Second)
		for _, m := range []*member{a, b} {
			if m.inForce() != "trip" {
				t.Errorf("%s is in force", m.inForce())
			}
		}
	})
}

// TestOrdersOfOneMomentAreOneOrder: two that are told at the same time at two instances are the same one at all, and at latecomers.
func TestOrdersOfOneMomentAreOneOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := fleettest.NewHub()
		a, b, c := join(t, hub, "a"), join(t, hub, "b"), join(t, hub, "c")
		time.Sleep(time.Second)
		b.order("trip")
		a.order("drain")
		time.Sleep(2 * time.Second)
		late := join(t, hub, "late")
		time.Sleep(time.Second)
		for name, m := range map[string]*member{"a": a, "b": b, "c": c, "late": late} {
			if m.inForce() != "trip" {
				t.Errorf("%s is in force at %s", m.inForce(), name)
			}
		}
	})
}

// readOnlyHub is a Hub to which nothing can be written.
type readOnlyHub struct{ *fleettest.Hub }

func (readOnlyHub) Publish(context.Context, []fleet.Record) (bool, error) {
	return false, errors.New("READONLY")
}

// TestEngineThatCanOnlyBeReadIsLostOnce: it is not back each time it can be read.
func TestEngineThatCanOnlyBeReadIsLostOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := fleettest.NewHub()
		a := join(t, readOnlyHub{hub}, "a")
		time.Sleep(time.Minute)
		if a.Connected() {
			t.Error("it is connected")
		}
		stop := a.Run(hub)
		defer stop()
		time.Sleep(2 * time.Second)
		a.mu.Lock()
		defer a.mu.Unlock()
		if fmt.Sprint(a.changes) != "[lost back]" {
			t.Errorf("the changes were %v", a.changes)
		}
	})
}

func TestEngineThatGoesCostsTheNewsAlone(t *testing.T) {
	for name, lose := range map[string]func(*fleettest.Hub){"it fails": (*fleettest.Hub).Down, "it hangs": (*fleettest.Hub).Hang} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := fleettest.NewHub()
				a, b := join(t, hub, "a"), join(t, hub, "b")
				time.Sleep(time.Second)
				lose(hub)
				began := time.Now()
				for range 10_000 {
					a.Tell(fleet.Fact{Kind: fleet.Event, Pool: "api", What: "failover", Count: 1}, time.Now())
				}
				a.hold(time.Minute)
				if time.Since(began) != 0 {
					t.Error("telling waits")
				}
				if a.Dropped(fleet.DroppedQueue) == 0 {
					t.Error("nothing was dropped")
				}
				time.Sleep(20 * time.Second)
				if a.Connected() {
					t.Error("the engine is not lost")
				}
				if lag := a.Lag(time.Now()); lag < 15*time.Second {
					t.Errorf("the lag is %v", lag)
				}
				hub.Empty()
				hub.Up()
				time.Sleep(2 * time.Second)
				if !a.Connected() {
					t.Error("the engine is not back")
				}
				if n, f := b.got(fleet.Hold); n != 1 || f.Left > 40*time.Second {
					t.Errorf("got %d holds, the last %+v", n, f)
				}
				a.mu.Lock()
				defer a.mu.Unlock()
				if fmt.Sprint(a.changes) != "[lost back]" {
					t.Errorf("the changes were %v", a.changes)
				}
			})
		})
	}
}

func TestInstanceThatEndsIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := fleettest.NewHub()
		a, b := join(t, hub, "a"), join(t, hub, "b")
		join(t, hub, "c")
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		b.Leave(ctx)
		b.stop()
		time.Sleep(10 * time.Millisecond)
		if n := a.Book.Others(time.Now()); n != 1 {
			t.Errorf("%d others are there after one has left", n)
		}
		d := join(t, hub, "d")
		time.Sleep(time.Second)
		d.stop()
		time.Sleep(5 * time.Second)
		if n := a.Book.Others(time.Now()); n != 1 {
			t.Errorf("%d others are there after one was killed", n)
		}
	})
}

// TestOrdersHaveRoom: an order reaches others while more is out than instances can tell and remember.
func TestOrdersHaveRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := fleettest.NewHub()
		a, b := join(t, hub, "a"), join(t, hub, "b")
		time.Sleep(time.Second)
		for i := range 21_000 {
			f := fleet.Fact{Kind: fleet.Breaker, State: fleet.Opened, Endpoint: a.ID("api", fmt.Sprint(i), ""), Left: 5 * time.Minute, Instance: "x", Boot: "x", Serial: uint64(i)}
			b.Book.Take(&f, time.Now())
			if i < 5000 {
				a.Tell(f, time.Now())
			}
		}
		a.order("drain")
		time.Sleep(20 * time.Second)
		if a.Dropped(fleet.DroppedQueue) == 0 {
			t.Error("there was room for all facts")
		}
		if action := b.inForce(); action != "drain" {
			t.Errorf("%s is in force at another", action)
		}
	})
}

// TestAfterAPauseTheOthersAreNotKnown: an instance that was stopped for a while does not take the others, of which it has not heard meanwhile, for gone.
func TestAfterAPauseTheOthersAreNotKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var steady []bool
		n := fleet.NewNode(fleet.Settings{Fleet: "eu", Instance: "a", Beat: func(known bool, _ time.Duration, _ time.Time) {
			steady = append(steady, known)
			if len(steady) == 10 {
				time.Sleep(time.Minute)
			}
		}})
		stop := n.Run(fleettest.NewHub())
		time.Sleep(80 * time.Second)
		stop()
		synctest.Wait()
		if !steady[9] || steady[10] || steady[12] || !steady[len(steady)-1] {
			t.Errorf("the others are known: %v, and after the pause: %v", steady[:10], steady[10:])
		}
	})
}

func TestTwoOfOneNameBecomeTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := fleettest.NewHub()
		a := join(t, hub, "edge")
		time.Sleep(time.Second)
		b := join(t, hub, "edge")
		c := join(t, hub, "other")
		time.Sleep(10 * time.Second)
		if a.Instance() == b.Instance() {
			t.Errorf("both are called %s", a.Instance())
		}
		if n := c.Book.Others(time.Now()); n != 2 {
			t.Errorf("%d others are there", n)
		}
	})
}

// TestStrangerThatTakesEachName does not make an instance take a new one all the time.
func TestStrangerThatTakesEachName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub, names := fleettest.NewHub(), 0
		n := fleet.NewNode(fleet.Settings{Fleet: "eu", Instance: "edge", Renamed: func(string) { names++ }})
		stop := n.Run(hub)
		codec := fleet.NewCodec("eu", "")
		for range 600 {
			time.Sleep(500 * time.Millisecond)
			data, err := codec.Encode(&fleet.Fact{Kind: fleet.Hello, Instance: n.Instance(), Boot: "stranger", Left: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			hub.Inject(fleet.Record{Data: data})
		}
		stop()
		synctest.Wait()
		if names == 0 || names > 5 {
			t.Errorf("it took %d names in 5 minutes", names)
		}
	})
}

// TestReloadKeepsTheNewestEngine: the one before is used again if the newer one's configuration fails.
func TestReloadKeepsTheNewestEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := fleettest.NewHub(), fleettest.NewHub()
		a, b, c := join(t, one, "a"), join(t, one, "b"), join(t, two, "c")
		time.Sleep(time.Second)
		stop := a.Run(two)
		time.Sleep(time.Second)
		a.hold(time.Minute)
		time.Sleep(time.Second)
		if n, _ := c.got(fleet.Hold); n != 1 {
			t.Error("the new engine has no news")
		}
		stop()
		time.Sleep(time.Second)
		if n, _ := b.got(fleet.Hold); n != 1 {
			t.Error("the engine before is not used again")
		}
	})
}

func TestStrangersAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := fleettest.NewHub()
		a := join(t, hub, "a")
		time.Sleep(time.Second)
		hub.Inject(fleet.Record{Data: []byte("nonsense")})
		hub.Inject(fleet.Record{Data: []byte(`.{"v":1,"k":"hello","i":"x","b":"B","l":1000}`)})
		time.Sleep(time.Second)
		if a.Dropped(fleet.DroppedInvalid) != 1 || a.Dropped(fleet.DroppedSignature) != 1 {
			t.Errorf("dropped %d and %d", a.Dropped(fleet.DroppedInvalid), a.Dropped(fleet.DroppedSignature))
		}
		if n := a.Book.Others(time.Now()); n != 0 {
			t.Errorf("%d others are there", n)
		}
	})
}

// TestHellosOfALargeFleetAreBounded to about 50 a second.
func TestHellosOfALargeFleetAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := fleettest.NewHub()
		for i := range 100 {
			join(t, hub, fmt.Sprint("edge-", i))
		}
		time.Sleep(30 * time.Second)
		before := hub.Told()
		time.Sleep(20 * time.Second)
		if a := hub.Told() - before; a < 600 || a > 1200 {
			t.Errorf("%d facts were told in 20 s", a)
		}
	})
}

// A fullHub tells but does not store while it is full.
type fullHub struct {
	*fleettest.Hub
	full atomic.Bool
}

func (h *fullHub) Publish(ctx context.Context, records []fleet.Record) (bool, error) {
	if !h.full.Load() {
		return h.Hub.Publish(ctx, records)
	}
	for _, r := range records {
		_, _ = h.Hub.Publish(ctx, []fleet.Record{{Data: r.Data}})
	}
	return false, fleet.ErrFull
}

// TestWhatAFullEngineDidNotStoreIsToldAgain once it has room, even if it was full for a moment.
func TestWhatAFullEngineDidNotStoreIsToldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := &fullHub{Hub: fleettest.NewHub()}
		a := join(t, hub, "a")
		b := join(t, hub, "b")
		time.Sleep(2500 * time.Millisecond)
		hub.full.Store(true)
		a.order("drain")
		a.hold(time.Minute)
		time.Sleep(100 * time.Millisecond)
		if action := b.inForce(); action != "drain" {
			t.Errorf("%s is in force at another", action)
		}
		hub.full.Store(false)
		time.Sleep(2 * time.Second)
		late := join(t, hub, "late")
		time.Sleep(10 * time.Millisecond)
		if action := late.inForce(); action != "drain" {
			t.Errorf("%s is in force at a latecomer", action)
		}
		if n, _ := late.got(fleet.Hold); n != 1 {
			t.Errorf("a latecomer hears of %d holds", n)
		}
		time.Sleep(10 * time.Second)
		a.mu.Lock()
		defer a.mu.Unlock()
		if fmt.Sprint(a.changes) != "[full back]" {
			t.Errorf("the changes were %v", a.changes)
		}
	})
}
