package failover

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"

	"github.com/apifailover/caddy-failover/internal/sla"
)

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
		rep, warnings := runningPool(t, "api").Report(t.Context(), time.Now().Add(-time.Hour), time.Now().Add(time.Minute), time.Now())
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
		var batch sla.Batch
		batch.AddMany(sla.Success, 100)
		var other sla.History
		other.Pool().RecordBatch(time.Now(), &batch)
		dir := strings.Fields(storage)[2]
		keeper := sla.NewKeeper(&certmagic.FileStorage{Path: dir}, "failover", "api", "another")
		if _, err := keeper.Save(t.Context(), &other, time.Now()); err != nil {
			t.Fatal(err)
		}
		expect("with another instance", 104)
	})
	t.Run("damaged", func(t *testing.T) {
		instance, err := caddy.InstanceID()
		if err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(strings.Fields(storage)[2], "failover", "api", instance.String(), "*"))
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
			aside, _ := filepath.Glob(filepath.Join(strings.Fields(storage)[2], "failover", "api", instance.String(), "damaged.*"))
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
		pool.Keeping.SaveNow()
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
