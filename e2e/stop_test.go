package e2e

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestWaitingCallsAreAnsweredBeforeCaddyEnds ends a Caddy while calls wait. They must get their refusal before the grace
// period is over, since then Caddy cuts all connections.
func TestWaitingCallsAreAnsweredBeforeCaddyEnds(t *testing.T) {
	one := newAPI(t, "one")
	one.down()
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &proxy{t: t, dir: dir, adminHost: "127.0.0.1"}
	p.client, p.admin = clientOf(p.file("site"), true), clientOf(p.file("admin"), false)
	text := p.caddyfile("", site("all_down wait 60s", one))
	config, err := adapt(strings.NewReplacer("SOCKET", p.file("site"), "grace_period 5s", "grace_period 2s").Replace(text))
	if err == nil {
		err = os.WriteFile(p.file("config"), config, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), actAsCaddy+"=run\n--config\n"+p.file("config"), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	var output strings.Builder
	c.Stdout, c.Stderr = &output, &output
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill() })
	eventually(t, "Caddy runs", func() bool {
		conn, err := net.Dial("unix", p.file("site"))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	var answers []<-chan string
	for range 20 {
		answers = append(answers, p.waiting("POST", "/"))
	}
	p.awaitWaiting(len(answers))
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for _, one := range answers {
		if got := receive(t, "an answer", one); !strings.HasPrefix(got, "503 ") {
			t.Errorf("a call got %s", got)
		}
	}
	if err := c.Wait(); err != nil {
		t.Errorf("%v: %s", err, output.String())
	}
}
