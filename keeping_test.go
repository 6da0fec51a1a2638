package failover

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/sla"
)

// memory is a storage that counts what is stored.
type memory struct {
	mu     sync.Mutex
	values map[string][]byte
	stored int
	broken bool
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

// keptPool is a pool whose history is kept in a storage, without a loop.
func keptPool(name string, storage sla.Storage, objective *sla.Objective) *pool {
	// a bubble's clock begins in 2000, which Keeper takes for one that is not set
	time.Sleep(time.Until(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)))
	p := newTestPool(name)
	g := &generation{logger: caddy.Log()}
	cfg := breaker.Defaults(time.Minute)
	g.breaker.Store(&cfg)
	g.sla.Store(objective)
	p.generation.Store(g)
	p.keeping.storage = func() (sla.Storage, bool) { return storage, g.sla.Load() != nil }
	p.keeping.start(p)
	return p
}

// calls makes calls that came to an outcome.
func pretend(p *pool, o outcome.Outcome, n int) {
	p.mu.Lock()
	s := p.joinLocked(endpointKey{"one", "one:80"})
	p.mu.Unlock()
	s.mu.Lock()
	for range n {
		s.freshLocked().attempt(o, time.Millisecond)
		s.freshLocked().call(o, time.Millisecond)
	}
	s.mu.Unlock()
}

// TestKeepsEveryMinute looks at when the history is saved, and what a successor
// finds after the pool died without a last save.
func TestKeepsEveryMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := new(memory)
		p := keptPool("kept", storage, &sla.Objective{LatencyQuantile: sla.DefaultQuantile, Window: sla.DefaultWindow})
		defer p.outbox.Close()
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
			defer successor.outbox.Close()
			keeper := sla.NewKeeper(storage, storagePrefix, "kept", instanceName())
			if warnings, err := keeper.Load(t.Context(), &successor.history, time.Now()); err != nil || len(warnings) > 0 {
				t.Fatalf("loading: %v, %v", warnings, err)
			}
			now := time.Now()
			return successor.history.Pool().Counts(now, now.Add(-time.Hour), now.Add(time.Minute)).Calls
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
		step(30*time.Second, false) // and now it is killed
		if n := found(); n != 7 {
			t.Errorf("found %d calls, want the 7 of the last save", n)
		}
		storage.breakDown(true)
		step(time.Minute, false)
		storage.breakDown(false)
		step(time.Minute, true) // what could not be saved is saved later
		pretend(p, outcome.Success, 1)
		p.keeping.stop() // saves at the end
		if n := found(); n != 13 {
			t.Errorf("found %d calls, want all 13", n)
		}
	})
}

// TestKeepsNothingUnasked leaves the storage alone where there is no sla option.
func TestKeepsNothingUnasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		storage := new(memory)
		p := keptPool("unkept", storage, nil)
		defer p.outbox.Close()
		pretend(p, outcome.Success, 3)
		time.Sleep(time.Hour)
		p.keeping.stop()
		if n := storage.count(); n > 0 {
			t.Errorf("stored %d values", n)
		}
	})
}

// TestBurnEvents lets a budget burn and recover.
func TestBurnEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, sub := event.Latest.Subscribe(^uint64(0))
		defer sub.Close()
		p := keptPool("burning", new(memory), &sla.Objective{Availability: 0.999, LatencyQuantile: sla.DefaultQuantile, Window: sla.DefaultWindow})
		defer p.outbox.Close()
		defer p.keeping.stop()
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
			t.Fatalf("while all is well: %+v", e)
		}
		e, ok := next(2*time.Minute, outcome.FailedStatus)
		if !ok || e.Kind != event.SLABurning || e.Reason != "availability" || e.Endpoint != "" || e.Details["limit"] != 14.4 {
			t.Fatalf("while all fails: %v, %+v", ok, e)
		}
		if s := p.keeping.standing.Load(); !s.alert.Burning(sla.Availability) || s.pool.Availability.BudgetLeft >= 0 {
			t.Errorf("standing: %+v", s)
		}
		e, ok = next(100*time.Hour, outcome.Success)
		if !ok || e.Kind != event.SLAMetAgain {
			t.Errorf("when all is well again: %v, %+v", ok, e)
		}
	})
}

// keptSite keeps its history in a directory.
func keptSite(t testing.TB, dir string) string {
	t.Helper()
	return fmt.Sprintf("\tstorage file_system %s", dir)
}

// TestHistorySurvivesReloadsAndRestarts counts calls over a reload, a restart, and
// with what another instance kept in the same storage.
func TestHistorySurvivesReloadsAndRestarts(t *testing.T) {
	one := newAPI(t, "one")
	storage := keptSite(t, t.TempDir())
	var p *proxy
	calls := func() (n uint64) {
		rep, warnings := runningPool(t, "api").report(t.Context(), time.Now().Add(-time.Hour), time.Now().Add(time.Minute), time.Now())
		if len(warnings) > 0 {
			t.Errorf("warnings: %v", warnings)
		}
		return rep.Total.Calls
	}
	expect := func(what string, n uint64) {
		t.Helper()
		var got uint64
		defer func() {
			if got != n {
				t.Logf("there are %d", got)
			}
		}()
		eventually(t, 5*time.Second, fmt.Sprint(what, ": ", n, " calls"), func() bool { got = calls(); return got == n })
	}
	kept := site("\n\tsla", one)
	t.Run("first", func(t *testing.T) {
		p = startCaddy(t, kept)
		if err := p.loadGlobal(storage, kept); err != nil {
			t.Fatal(err)
		}
		p.get("/")
		p.get("/")
		expect("before the reload", 2)
		if err := p.loadGlobal(storage, kept+"\nheader X 1"); err != nil {
			t.Fatal(err)
		}
		p.get("/")
		expect("after the reload", 3)
	})
	t.Run("restarted", func(t *testing.T) {
		p = startCaddy(t, "respond 200")
		if err := p.loadGlobal(storage, kept); err != nil {
			t.Fatal(err)
		}
		expect("after the restart", 3)
		p.get("/")
		expect("after one more", 4)
		other := newTestPool("api")
		defer other.outbox.Close()
		pretend(other, outcome.Success, 100)
		other.fold(time.Now())
		dir := strings.Fields(storage)[2]
		keeper := sla.NewKeeper(&certmagic.FileStorage{Path: dir}, storagePrefix, "api", "another")
		if _, err := keeper.Save(t.Context(), &other.history, time.Now()); err != nil {
			t.Fatal(err)
		}
		expect("with another instance", 104)
	})
	t.Run("damaged", func(t *testing.T) {
		files, err := filepath.Glob(filepath.Join(strings.Fields(storage)[2], storagePrefix, "api", instanceName(), "*"))
		if err != nil || len(files) == 0 {
			t.Fatalf("files: %v, %v", files, err)
		}
		for _, file := range files {
			if err := os.WriteFile(file, []byte("rubbish"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		p = startCaddy(t, "respond 200")
		if err := p.loadGlobal(storage, kept); err != nil {
			t.Fatal(err)
		}
		if status, _ := p.get("/"); status != 200 {
			t.Errorf("status %d", status)
		}
		expect("what the other instance kept, and the new one", 101)
		eventually(t, 5*time.Second, "what is damaged is set aside, with a warning", func() bool {
			log, _ := os.ReadFile(p.log)
			aside, _ := filepath.Glob(filepath.Join(strings.Fields(storage)[2], storagePrefix, "api", instanceName(), "damaged.*"))
			return strings.Contains(string(log), "history is damaged") && len(aside) == len(files)
		})
	})
}

// TestCaddyProcess is Caddy for TestKilled.
func TestCaddyProcess(t *testing.T) {
	file := os.Getenv("FAILOVER_TEST_CADDY")
	if file == "" {
		return // not asked for
	}
	config, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(config, true); err != nil {
		t.Fatal(err)
	}
	pool := runningPool(t, "api")
	ticker := time.NewTicker(200 * time.Millisecond)
	for range ticker.C { // minutes, for the test
		known := counts(pool, t, "").Calls
		pool.keeping.saveNow()
		if err := os.WriteFile(file+".saved", strconv.AppendUint(nil, known, 10), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKilled kills a Caddy with SIGKILL in the middle of traffic, again and again,
// and wants its successor to know at least what was saved before that, and nothing
// that never was.
func TestKilled(t *testing.T) {
	one := newAPI(t, "one")
	dir := t.TempDir()
	p := &proxy{t: t, admin: "off", socket: filepath.Join(dir, "s"), log: filepath.Join(dir, "log")}
	p.client = clientOf(p.socket)
	config := filepath.Join(dir, "config.json")
	text := p.withGlobal(keptSite(t, filepath.Join(dir, "storage")), site("\n\tsla {\n\t\tavailability 99%\n\t}", one))
	if err := os.WriteFile(config, adapt(t, text), 0o600); err != nil {
		t.Fatal(err)
	}
	var sent uint64
	var kept uint64
	for round := range 3 {
		if err := os.Remove(config + ".saved"); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		caddy := exec.Command(os.Args[0], "-test.run=^TestCaddyProcess$")
		caddy.Env = append(os.Environ(), "FAILOVER_TEST_CADDY="+config, "HOME="+dir, "XDG_DATA_HOME=")
		var output strings.Builder
		caddy.Stdout, caddy.Stderr = &output, &output
		if err := caddy.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if t.Failed() {
				log, _ := os.ReadFile(p.log)
				t.Logf("%s\n%s", output.String(), log)
			}
		})
		saved := func() uint64 {
			text, err := os.ReadFile(config + ".saved")
			if err != nil {
				return 0
			}
			n, _ := strconv.ParseUint(string(text), 10, 64)
			return n
		}
		eventually(t, 15*time.Second, "Caddy serves, and knows what was kept", func() bool {
			return saved() > 0 || kept == 0 && fileExists(p.socket)
		})
		if n := saved(); n < kept || n > sent+uint64(round) { // of each kill's last call the client may not know
			t.Errorf("round %d: %d calls are known, %d were saved before the kill and %d sent", round, n, kept, sent)
		}
		quit, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for {
				select {
				case <-quit:
					return
				default:
				}
				if resp, err := p.do(http.MethodGet, "/", nil); err == nil {
					sent++
					resp.Body.Close()
				}
			}
		}()
		eventually(t, 30*time.Second, "calls are saved", func() bool { return saved() > kept+50 })
		kept = saved()
		if err := caddy.Process.Kill(); err != nil {
			t.Error(err)
		}
		close(quit)
		<-done
		_ = caddy.Wait()
		os.Remove(p.socket)
		p.client.CloseIdleConnections()
	}
	t.Logf("%d calls sent, %d of them known at the last kill", sent, kept)
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
