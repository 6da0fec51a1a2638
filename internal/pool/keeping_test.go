package pool

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/sla"
)

// memory is a storage in memory. It is safe for concurrent use.
type memory struct {
	mu     sync.Mutex
	values map[string][]byte
	stored int  // number of calls of Store
	broken bool // Store and Load fail
}

func (m *memory) Store(_ context.Context, key string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken {
		return fmt.Errorf("storage is broken")
	}
	if m.values == nil {
		m.values = make(map[string][]byte)
	}
	m.values[key] = slices.Clone(value)
	m.stored++
	return nil
}

func (m *memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stored
}

func (m *memory) breakDown(broken bool) {
	m.mu.Lock()
	m.broken = broken
	m.mu.Unlock()
}

func (m *memory) Load(_ context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken {
		return nil, fmt.Errorf("storage is broken")
	}
	if value, ok := m.values[key]; ok {
		return value, nil
	}
	return nil, fs.ErrNotExist
}

func (m *memory) Delete(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.values, key)
	return nil
}

func (m *memory) Exists(_ context.Context, key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.values[key]
	return ok
}

func (m *memory) List(_ context.Context, prefix string, _ bool) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(m.values)) {
		if strings.HasPrefix(key, prefix+"/") {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// keptPool returns a pool that keeps its history in a storage. Its loop does not run.
func keptPool(name string, storage sla.Storage, objective *sla.Objective) *Pool {
	// A bubble's clock begins in 2000. Keeper takes such a clock for one that is not set.
	time.Sleep(time.Until(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)))
	p := newTestPool(name)
	g := &Generation{logger: caddy.Log()}
	cfg := breaker.Defaults(time.Minute)
	g.Breaker.Store(&cfg)
	g.sla.Store(objective)
	p.generation.Store(g)
	p.Keeping.storage = func() (sla.Storage, bool) { return storage, g.sla.Load() != nil }
	p.Keeping.start(p)
	return p
}

// pretend counts n calls with an outcome.
func pretend(p *Pool, o outcome.Outcome, n int) {
	p.Mu.Lock()
	s := p.joinLocked(endpoint.Key{Name: "one", Address: "one:80"})
	p.Mu.Unlock()
	s.Mu.Lock()
	for range n {
		s.FreshLocked().Attempt(o, time.Millisecond)
		s.FreshLocked().Call(o, time.Millisecond)
	}
	s.Mu.Unlock()
}

// A slowMemory is a storage that takes a while to read a value.
type slowMemory struct{ *memory }

func (m slowMemory) Load(ctx context.Context, key string) ([]byte, error) {
	time.Sleep(300 * time.Millisecond)
	return m.memory.Load(ctx, key)
}

// TestAReportWaitsForTheHistory checks that a report that is asked for while Caddy starts has the history of the
// process before.
func TestAReportWaitsForTheHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := slowMemory{new(memory)}
		start := func() *Pool {
			p := keptPool("restarted", storage, &sla.Objective{Availability: 0.9, Window: sla.DefaultWindow})
			p.Keeping.Poke()
			return p
		}
		p := start()
		pretend(p, outcome.Success, 7)
		p.Keeping.stop()
		p.Outbox.Close()
		time.Sleep(time.Hour)
		p = start()
		defer p.Outbox.Close()
		defer p.Keeping.stop()
		now := time.Now()
		if rep, _ := p.Report(t.Context(), now.Add(-24*time.Hour), now, now); rep.Total.Calls != 7 {
			t.Errorf("the report has %d of 7 calls", rep.Total.Calls)
		}
	})
}

// hungStorage is a storage that answers nothing. It obeys contexts only if obeys is set.
type hungStorage struct {
	*memory
	obeys bool
	end   chan struct{}
}

func (h hungStorage) Store(ctx context.Context, _ string, _ []byte) error {
	if !h.obeys {
		<-h.end
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-h.end:
		return nil
	}
}

// stored is an event source with a storage.
type stored struct {
	noSubscribers
	storage sla.Storage
}

func (s stored) Storage() sla.Storage { return s.storage }

// TestAHungStorageDelaysTheStopOnce stops a configuration with many pools whose storage hangs.
func TestAHungStorageDelaysTheStopOnce(t *testing.T) {
	instanceName() // or many goroutines wait for one that sleeps, and a bubble's clock stands still
	for name, obeys := range map[string]bool{"it obeys contexts": true, "it does not": false} {
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(time.Until(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)))
			storage := hungStorage{new(memory), obeys, make(chan struct{})}
			const pools = 30
			var handlers []*Handler
			for i := range pools {
				p, err := Load(fmt.Sprint("hung ", i))
				if err != nil {
					t.Fatal(err)
				}
				h := &Handler{Pool: p, Logger: zap.NewNop(), Source: stored{storage: storage}, Objective: &sla.Objective{Availability: 0.9, Window: sla.DefaultWindow}}
				if err := p.Attach(h, "config"); err != nil {
					t.Fatal(err)
				}
				handlers = append(handlers, h)
				pretend(p, outcome.Success, 1)
			}
			began := time.Now()
			for _, h := range handlers {
				SaveAll(h.Generation)
			}
			for _, h := range handlers {
				h.Pool.Detach(h)
				if _, err := Pools.Delete(h.Pool.Name); err != nil {
					t.Error(err)
				}
			}
			if took := time.Since(began); took > lastTimeout+pools*hungTimeout+time.Second {
				t.Errorf("%s: the stop took %v", name, took)
			}
			close(storage.end)
			time.Sleep(time.Minute) // or the bubble tells of what goes on
		})
	}
}

// TestAStartIsJudgedAtOnce checks that a pool has its standing soon after its configuration starts, after
// its first calls, and after a reload with another objective.
func TestAStartIsJudgedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		objective := func(availability float64) *sla.Objective {
			return &sla.Objective{Availability: availability, LatencyQuantile: sla.DefaultQuantile, Window: sla.DefaultWindow}
		}
		p := keptPool("started", new(memory), objective(0.9))
		defer p.Outbox.Close()
		defer p.Keeping.stop()
		wants := func(when string, availability float64, failed uint64) {
			t.Helper()
			time.Sleep(time.Second) // Caddy needs a moment to name the instance
			synctest.Wait()
			switch s := p.Keeping.standing.Load(); {
			case s == nil:
				t.Errorf("%s: no standing", when)
			case s.objective.Availability != availability || s.Pool.Failures.Total() != failed || s.endpoints["one"].Failures.Total() != failed:
				t.Errorf("%s: objective %v, failures %d of the pool and %d of one", when, s.objective.Availability, s.Pool.Failures.Total(), s.endpoints["one"].Failures.Total())
			}
		}
		p.Keeping.Poke()
		wants("after the start", 0.9, 0)
		pretend(p, outcome.FailedStatus, 3)
		time.Sleep(judgeEvery)
		wants("after the first calls", 0.9, 3)
		pretend(p, outcome.FailedStatus, 4)
		p.generation.Load().sla.Store(objective(0.5))
		p.Keeping.Poke()
		wants("after a reload", 0.5, 7)
		pretend(p, outcome.FailedStatus, 1)
		p.Keeping.Poke()
		wants("after a reload that changes nothing", 0.5, 8)
	})
}

// TestKeepsEveryMinute checks when a pool saves its history, and what a successor finds if the pool ended
// without a last save.
func TestKeepsEveryMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := new(memory)
		p := keptPool("kept", storage, &sla.Objective{LatencyQuantile: sla.DefaultQuantile, Window: sla.DefaultWindow})
		defer p.Outbox.Close()
		step := func(after time.Duration, saves bool) {
			t.Helper()
			before := storage.count()
			time.Sleep(after)
			synctest.Wait()
			if saved := storage.count() > before; saved != saves {
				t.Errorf("saved %v, want %v", saved, saves)
			}
		}
		found := func() uint64 {
			successor := newTestPool("kept")
			defer successor.Outbox.Close()
			keeper := sla.NewKeeper(storage, storagePrefix, "kept", instanceName())
			if warnings, err := keeper.Load(t.Context(), &successor.History, time.Now()); err != nil || len(warnings) > 0 {
				t.Fatalf("loading: %v, %v", warnings, err)
			}
			now := time.Now()
			return successor.History.Pool().Counts(now, now.Add(-time.Hour), now.Add(time.Minute)).Calls
		}
		step(time.Second, false)
		pretend(p, outcome.Success, 3)
		step(58*time.Second, false)
		step(2*time.Second, true)
		if n := found(); n != 3 {
			t.Errorf("found %d calls, want 3", n)
		}
		step(3*time.Minute, false) // nothing new
		pretend(p, outcome.FailedReset, 4)
		step(61*time.Second, true)
		pretend(p, outcome.Success, 5)
		step(30*time.Second, false) // it is killed here
		if n := found(); n != 7 {
			t.Errorf("found %d calls, want the 7 of the last save", n)
		}
		storage.breakDown(true)
		step(time.Minute, false)
		storage.breakDown(false)
		step(time.Minute, true) // a later save has what an earlier one could not
		pretend(p, outcome.Success, 1)
		p.Keeping.stop() // saves at the end
		if n := found(); n != 13 {
			t.Errorf("found %d calls, want all 13", n)
		}
	})
}

// TestKeepsNothingUnasked checks that a pool without the option sla stores nothing.
func TestKeepsNothingUnasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := new(memory)
		p := keptPool("unkept", storage, nil)
		defer p.Outbox.Close()
		pretend(p, outcome.Success, 3)
		time.Sleep(time.Hour)
		p.Keeping.stop()
		if n := storage.count(); n > 0 {
			t.Errorf("stored %d values", n)
		}
	})
}

// TestBurnEvents checks the events when a budget burns and when that is over.
func TestBurnEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, sub := event.Latest.Subscribe(^uint64(0))
		defer sub.Close()
		p := keptPool("burning", new(memory), &sla.Objective{Availability: 0.999, LatencyQuantile: sla.DefaultQuantile, Window: sla.DefaultWindow})
		defer p.Outbox.Close()
		defer p.Keeping.stop()
		next := func(within time.Duration, o outcome.Outcome) (event.Event, bool) {
			for range within / time.Second {
				pretend(p, o, 10)
				time.Sleep(time.Second)
				synctest.Wait()
				if len(sub.Events) > 0 {
					return <-sub.Events, true
				}
			}
			return event.Event{}, false
		}
		if e, ok := next(10*time.Minute, outcome.Success); ok {
			t.Fatalf("while all succeeds: %+v", e)
		}
		e, ok := next(2*time.Minute, outcome.FailedStatus)
		if !ok || e.Kind != event.SLABurning || e.Reason != "availability" || e.Endpoint != "" || e.Details["limit"] != 14.4 {
			t.Fatalf("while all fails: %v, %+v", ok, e)
		}
		if s := p.Keeping.standing.Load(); !s.Alert.Burning(sla.Availability) || s.Pool.Availability.BudgetLeft >= 0 {
			t.Errorf("standing: %+v", s)
		}
		e, ok = next(100*time.Hour, outcome.Success)
		if !ok || e.Kind != event.SLAMetAgain {
			t.Errorf("when all succeeds again: %v, %+v", ok, e)
		}
	})
}

// TestHistoryOfAnyName checks that files can keep the history of a pool with any name.
func TestHistoryOfAnyName(t *testing.T) {
	storage := &certmagic.FileStorage{Path: t.TempDir()}
	now := time.Now()
	names := []string{strings.Repeat("模", 29), "llm", "LLM", "../../llm", "con", "a/b", "a.", strings.Repeat("x", 300)}
	for i, name := range names {
		var h sla.History
		for range i + 1 {
			h.Pool().Record(now, sla.Outcome{Latency: time.Millisecond})
		}
		if warnings, err := sla.NewKeeper(storage, storagePrefix, name, "one").Save(t.Context(), &h, now); err != nil || len(warnings) > 0 {
			t.Errorf("%.40q: %v, %v", name, warnings, err)
		}
	}
	for i, name := range names {
		var h sla.History
		warnings, err := sla.NewKeeper(storage, storagePrefix, name, "one").Load(t.Context(), &h, now)
		calls := h.Pool().Counts(now, now.Add(-time.Hour), now.Add(time.Minute)).Calls
		if err != nil || len(warnings) > 0 || calls != uint64(i+1) {
			t.Errorf("%.40q: %d calls, %v, %v", name, calls, warnings, err)
		}
	}
}
