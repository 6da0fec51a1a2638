package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// TestHistoryOutlivesReloadsAndRestarts counts calls over a reload and a restart, together with those of another
// instance in the same storage, and with damaged files.
func TestHistoryOutlivesReloadsAndRestarts(t *testing.T) {
	one := newAPI(t, "one")
	dir := t.TempDir()
	storage := "storage file_system " + dir
	var p *proxy
	expect := func(what string, n uint64) {
		t.Helper()
		var got uint64
		defer func() {
			if got != n {
				t.Logf("got %d calls", got)
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
		// a copy of this instance's files stands for another instance
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
		expect("the other instance's and a new one", 4)
		eventually(t, "damaged files are set aside, with a warning", func() bool {
			log, _ := os.ReadFile(p.file("log"))
			aside, _ := filepath.Glob(filepath.Join(dir, "failover", "api", instance(t), "damaged.*"))
			return strings.Contains(string(log), "history is damaged") && len(aside) == len(files)
		})
	})
}

// instance returns the ID of this Caddy, which is the name of its directory in the storage.
func instance(t *testing.T) string {
	t.Helper()
	id, err := caddy.InstanceID()
	if err != nil {
		t.Fatal(err)
	}
	return id.String()
}
