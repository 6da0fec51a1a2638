package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// TestHistorySurvivesReloadsAndRestarts counts calls over a reload, a restart, and
// with what another instance kept in the same storage.
func TestHistorySurvivesReloadsAndRestarts(t *testing.T) {
	one := newAPI(t, "one")
	dir := t.TempDir()
	storage := "storage file_system " + dir
	var p *proxy
	expect := func(what string, n uint64) {
		t.Helper()
		var got uint64
		defer func() {
			if got != n {
				t.Logf("there are %d", got)
			}
		}()
		eventually(t, fmt.Sprint(what, ": ", n, " calls"), func() bool { got = p.report().Total.Calls; return got == n })
	}
	kept := site("\n\tsla", one)
	t.Run("first", func(t *testing.T) {
		p = startCaddyWith(t, storage, kept)
		p.get()
		p.get()
		expect("before the reload", 2)
		if err := p.loadWith(storage, kept+"\nheader X 1"); err != nil {
			t.Fatal(err)
		}
		p.get()
		expect("after the reload", 3)
	})
	t.Run("restarted", func(t *testing.T) {
		p = startCaddyWith(t, storage, kept)
		expect("after the restart", 3)
		p.get()
		expect("after one more", 4)
		// another instance has the same calls in the same storage
		if err := os.CopyFS(filepath.Join(dir, "failover", "api", "another"), os.DirFS(filepath.Join(dir, "failover", "api", instance(t)))); err != nil {
			t.Fatal(err)
		}
		expect("with another instance", 7)
	})
	t.Run("damaged", func(t *testing.T) {
		files, err := filepath.Glob(filepath.Join(dir, "failover", "api", instance(t), "*"))
		if err != nil || len(files) == 0 {
			t.Fatalf("files: %v, %v", files, err)
		}
		for _, file := range files {
			if err := os.WriteFile(file, []byte("rubbish"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		p = startCaddyWith(t, storage, kept)
		p.get().want(t, "a call", 200, "one")
		expect("what the other instance kept, and the new one", 4)
		eventually(t, "what is damaged is set aside, with a warning", func() bool {
			log, _ := os.ReadFile(p.file("log"))
			aside, _ := filepath.Glob(filepath.Join(dir, "failover", "api", instance(t), "damaged.*"))
			return strings.Contains(string(log), "history is damaged") && len(aside) == len(files)
		})
	})
}

// instance is the name under which this Caddy keeps what it keeps.
func instance(t *testing.T) string {
	t.Helper()
	id, err := caddy.InstanceID()
	if err != nil {
		t.Fatal(err)
	}
	return id.String()
}
