package pool

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/sla"
)

// keptIn is the environment variable with the storage's directory of the process that TestKilled kills.
const keptIn = "FAILOVER_TEST_KEPT_IN"

// init makes the test binary a process that counts and saves calls without end, if keptIn is set. It
// writes lines to its standard output: known, sent or saved, and the number of calls.
func init() {
	dir := os.Getenv(keptIn)
	if dir == "" {
		return
	}
	p := keptPool("killed", &certmagic.FileStorage{Path: dir}, &sla.Objective{Availability: 0.99, LatencyQuantile: sla.DefaultQuantile, Window: sla.DefaultWindow})
	known := func() uint64 {
		now := time.Now()
		return p.History.Pool().Counts(now, now.Add(-time.Hour), now.Add(time.Minute)).Calls
	}
	p.Keeping.SaveNow() // loads first
	calls := known()
	fmt.Println("known", calls)
	for {
		calls += 10
		fmt.Println("sent", calls)
		pretend(p, outcome.Success, 10)
		p.Keeping.SaveNow()
		fmt.Println("saved", calls)
	}
}

// TestKilled checks that a process knows all calls that its predecessor had saved before a SIGKILL, and
// none that never happened.
func TestKilled(t *testing.T) {
	home := t.TempDir()
	var saved, sent uint64
	for round := range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), keptIn+"="+home, "HOME="+home, "XDG_DATA_HOME=")
		var errors strings.Builder
		cmd.Stderr = &errors
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		began := false
		saves := 0
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var what string
			var n uint64
			if _, err := fmt.Sscan(lines.Text(), &what, &n); err != nil {
				continue // a line of the log
			}
			switch what {
			case "known":
				began = true
				if n < saved || n > sent {
					t.Errorf("round %d: %d calls are known, %d were saved before the kill and %d sent", round, n, saved, sent)
				}
			case "sent":
				sent = n
			case "saved":
				saved = n
				if saves++; saves == 5 {
					_ = cmd.Process.Kill()
				}
			}
		}
		_ = cmd.Wait()
		if !began || saves < 5 {
			t.Fatalf("the process did not save 5 times: %s", errors.String())
		}
	}
}
