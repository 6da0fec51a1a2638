package shelf

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/apifailover/caddy-failover/internal/fleet"
)

// member joins a node to a shelf, as a process of its own.
func member(t *testing.T, storage certmagic.Storage, instance, boot string) (*fleet.Node, *Shelf) {
	t.Helper()
	s := New(storage, "eu", instance, 0)
	s.own = strings.Replace(s.own, process, boot, 1)
	n := fleet.NewNode(fleet.Settings{Fleet: "eu", Instance: instance})
	t.Cleanup(n.Run(s))
	return n, s
}

func fact(n *fleet.Node, kind fleet.Kind, left time.Duration) fleet.Fact {
	f := fleet.Fact{Kind: kind, Endpoint: n.ID("api", "https://one.test", ""), Left: left, Reason: "test"}
	if kind == fleet.Order {
		f.Slot, f.State, f.Version = fleet.Steering, "drain", n.NextVersion(f.Endpoint, fleet.Steering, time.Now())
	}
	return f
}

// knows returns the facts of a kind that a node knows of the endpoint.
func knows(n *fleet.Node, kind fleet.Kind) (facts []fleet.Fact) {
	for _, f := range n.About(n.ID("api", "https://one.test", ""), time.Now()) {
		if f.Kind == kind {
			facts = append(facts, f)
		}
	}
	return facts
}

func TestNewsArrivesWithinThreeSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := newMemory()
		a, _ := member(t, storage, "a", "1")
		b, _ := member(t, storage, "b", "1")
		time.Sleep(5 * time.Second)
		if a.Others(time.Now()) != 1 || b.Others(time.Now()) != 1 {
			t.Fatal("they do not know each other")
		}
		for range 10 {
			a.Tell(fact(a, fleet.Hold, 20*time.Second), time.Now())
			time.Sleep(3 * time.Second)
			if held := knows(b, fleet.Hold); len(held) != 1 || held[0].Left < 16*time.Second {
				t.Errorf("b knows %+v", held)
			}
			a.Tell(fact(a, fleet.Hold, 0), time.Now())
			time.Sleep(3 * time.Second)
			if held := knows(b, fleet.Hold); len(held) != 0 {
				t.Errorf("b still knows %+v", held)
			}
		}
		a.Tell(fleet.Fact{Kind: fleet.Event, Pool: "api", What: "failover", Count: 1}, time.Now())
		time.Sleep(time.Minute)
		if got := len(b.Events()); got != 1 {
			t.Errorf("b knows %d events", got)
		}
	})
}

// TestOrdersOutliveValues: an instance takes over what those say that are gone, and deletes them.
func TestOrdersOutliveValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := newMemory()
		a, shelf := member(t, storage, "a", "1")
		time.Sleep(time.Second)
		a.Tell(fact(a, fleet.Order, time.Hour), time.Now())
		time.Sleep(time.Second)
		a.Leave(t.Context())
		gone := shelf.own
		time.Sleep(5 * time.Minute)
		a, _ = member(t, storage, "a", "2")
		time.Sleep(3 * time.Second)
		if orders := knows(a, fleet.Order); len(orders) != 1 || orders[0].Left > 55*time.Minute {
			t.Fatalf("after a restart it knows %+v", orders)
		}
		time.Sleep(11 * time.Minute)
		if storage.has(gone) {
			t.Error("the value of the process that is gone is still there")
		}
		b, _ := member(t, storage, "b", "1")
		time.Sleep(3 * time.Second)
		if orders := knows(b, fleet.Order); len(orders) != 1 {
			t.Errorf("a latecomer knows %+v", orders)
		}
	})
}

// recorder is a memory that records what is stored.
type recorder struct {
	*memory
	stored []string
}

// all returns what has been stored.
func (r *recorder) all() []string {
	<-r.lock
	defer func() { r.lock <- struct{}{} }()
	return slices.Clone(r.stored)
}

func (r *recorder) Store(ctx context.Context, key string, value []byte) error {
	<-r.lock
	r.stored = append(r.stored, string(value))
	r.lock <- struct{}{}
	return r.memory.Store(ctx, key, value)
}

// TestReloadsKeepOrdersStored: at no moment is an instance's order missing in its value.
func TestReloadsKeepOrdersStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := &recorder{memory: newMemory()}
		a, shelf := member(t, storage, "a", "1")
		time.Sleep(time.Second)
		a.Tell(fact(a, fleet.Order, time.Hour), time.Now())
		time.Sleep(time.Second)
		again := New(storage, "eu", "a", 0)
		again.own = shelf.own
		before := len(storage.all())
		stop := a.Run(again)
		time.Sleep(10 * time.Second)
		stop()
		synctest.Wait()
		if len(storage.all()) == before {
			t.Error("nothing was stored")
		}
		for _, value := range storage.all()[before:] {
			if !strings.Contains(value, "order/") {
				t.Errorf("after a reload it stored %s", value)
			}
		}
	})
}

// TestRestartsLeaveFewValues: an instance that is killed again and again deletes what its earlier processes wrote, but not before it has their
// orders.
func TestRestartsLeaveFewValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := newMemory()
		for i := range 250 {
			s := New(storage, "eu", "a", 0)
			s.own = strings.Replace(s.own, process, fmt.Sprint(i), 1)
			n := fleet.NewNode(fleet.Settings{Fleet: "eu", Instance: "a"})
			stop := n.Run(s)
			time.Sleep(2500 * time.Millisecond)
			if i == 0 {
				n.Tell(fact(n, fleet.Order, 24*time.Hour), time.Now())
			} else if len(knows(n, fleet.Order)) != 1 {
				t.Fatalf("process %d knows %d orders", i, len(knows(n, fleet.Order)))
			}
			time.Sleep(2500 * time.Millisecond)
			stop()
			time.Sleep(time.Second)
		}
		<-storage.lock
		defer func() { storage.lock <- struct{}{} }()
		if n := len(storage.values); n > 110 {
			t.Errorf("%d values are left", n)
		}
	})
}

func TestStorageThatFailsOrHangsIsLostAndBack(t *testing.T) {
	for name, breaks := range map[string]func(*memory, bool){
		"it fails": func(m *memory, broken bool) { m.fail(broken) },
		"it hangs": func(m *memory, broken bool) { m.hang(broken) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				storage := newMemory()
				a, _ := member(t, storage, "a", "1")
				b, _ := member(t, storage, "b", "1")
				time.Sleep(5 * time.Second)
				breaks(storage, true)
				a.Tell(fact(a, fleet.Hold, time.Minute), time.Now())
				time.Sleep(20 * time.Second)
				if a.Connected() || b.Connected() {
					t.Error("the storage is not lost")
				}
				breaks(storage, false)
				time.Sleep(6 * time.Second)
				if !a.Connected() || !b.Connected() {
					t.Error("the storage is not back")
				}
				if held := knows(b, fleet.Hold); len(held) != 1 {
					t.Errorf("b knows %+v", held)
				}
			})
		})
	}
}

func TestValuesOfStrangersDoNoHarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := newMemory()
		a, shelf := member(t, storage, "a", "1")
		for i, text := range []string{
			"", "null", "[]", `{"records":1}`, `{"records":[{"key":"x"}]}`, `{"records":[null,{"key":"k","data":"nonsense","left_ms":-5}]}`,
			strings.Repeat("x", maxValue+1), `{"records":[{"key":"k","data":"x","left_ms":9223372036854775807}]}`, `{"records":[{"key":"k","data":"x","left_ms":60000}]}`,
		} {
			if err := storage.Store(t.Context(), fmt.Sprintf("%s/stranger-%d.json", shelf.folder, i), []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		if !a.Connected() {
			t.Error("the engine is lost")
		}
		if a.Dropped(fleet.DroppedInvalid) == 0 {
			t.Error("nothing was dropped")
		}
	})
}

// TestOneValueThatCannotBeReadIsLeftOut: the others' values count.
func TestOneValueThatCannotBeReadIsLeftOut(t *testing.T) {
	for _, others := range []int{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			storage := newMemory()
			a, shelf := member(t, storage, "a", "1")
			for i := range others {
				member(t, storage, fmt.Sprint("b", i), "1")
			}
			<-storage.lock
			storage.unreadable = shelf.folder + "/stranger.json"
			storage.lock <- struct{}{}
			if err := storage.Store(t.Context(), storage.unreadable, []byte("{}")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Second)
			if !a.Connected() || a.Others(time.Now()) != others {
				t.Errorf("connected: %v, %d others are there, want %d", a.Connected(), a.Others(time.Now()), others)
			}
		})
	}
}

// TestClocksMayDiffer: what is left of an order does not depend on the clock of an instance, nor on the storage's.
func TestClocksMayDiffer(t *testing.T) {
	for _, behind := range []time.Duration{-3 * time.Hour, 3 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			storage := newMemory()
			storage.behind = behind
			a, _ := member(t, storage, "a", "1")
			time.Sleep(time.Second)
			a.Tell(fact(a, fleet.Order, time.Hour), time.Now())
			time.Sleep(time.Second)
			a.Leave(t.Context())
			time.Sleep(10 * time.Minute)
			a, _ = member(t, storage, "a", "2")
			time.Sleep(3 * time.Second)
			if orders := knows(a, fleet.Order); len(orders) != 1 || orders[0].Left > 51*time.Minute || orders[0].Left < 49*time.Minute {
				t.Errorf("with a clock %v behind, it knows %+v", behind, orders)
			}
		})
	}
}

// memory is a storage that can fail and hang.
type memory struct {
	certmagic.Storage // nil: what is not used here panics
	lock              chan struct{}
	values            map[string][]byte
	modified          map[string]time.Time
	broken            bool
	hangs             chan struct{}
	unreadable        string        // key of a value that cannot be read
	behind            time.Duration // of its clock
}

func newMemory() *memory {
	m := &memory{lock: make(chan struct{}, 1), values: make(map[string][]byte), modified: make(map[string]time.Time)}
	m.lock <- struct{}{}
	return m
}

func (m *memory) with(do func() error) error {
	<-m.lock
	hangs := m.hangs
	m.lock <- struct{}{}
	if hangs != nil {
		<-hangs // whatever the context says
	}
	<-m.lock
	defer func() { m.lock <- struct{}{} }()
	if m.broken {
		return errors.New("the disk is full")
	}
	return do()
}

func (m *memory) fail(broken bool) {
	<-m.lock
	m.broken = broken
	m.lock <- struct{}{}
}

func (m *memory) hang(hangs bool) {
	<-m.lock
	if hangs {
		m.hangs = make(chan struct{})
	} else {
		close(m.hangs)
		m.hangs = nil
	}
	m.lock <- struct{}{}
}

func (m *memory) has(key string) bool {
	<-m.lock
	defer func() { m.lock <- struct{}{} }()
	_, ok := m.values[key]
	return ok
}

func (m *memory) Store(_ context.Context, key string, value []byte) error {
	return m.with(func() error {
		m.values[key], m.modified[key] = value, time.Now().Add(-m.behind)
		return nil
	})
}

func (m *memory) Load(_ context.Context, key string) (value []byte, err error) {
	err = m.with(func() error {
		if key == m.unreadable {
			return errors.New("permission denied")
		}
		value = m.values[key]
		return nil
	})
	return value, err
}

func (m *memory) Delete(_ context.Context, key string) error {
	return m.with(func() error {
		delete(m.values, key)
		return nil
	})
}

func (m *memory) List(_ context.Context, prefix string, _ bool) (keys []string, err error) {
	err = m.with(func() error {
		for key := range m.values {
			if strings.HasPrefix(key, prefix) {
				keys = append(keys, key)
			}
		}
		return nil
	})
	return keys, err
}

func (m *memory) Stat(_ context.Context, key string) (info certmagic.KeyInfo, err error) {
	err = m.with(func() error {
		info = certmagic.KeyInfo{Key: key, Modified: m.modified[key]}
		return nil
	})
	return info, err
}
