package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A terminal is the slave of a pseudo-terminal. shown has the text written to it.
type terminal struct {
	*os.File
	shown screen
}

func newTerminal(t *testing.T, columns uint16) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	term := &terminal{File: slave}
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := master.Read(buffer)
			_, _ = term.shown.Write(buffer[:n])
			if err != nil {
				return
			}
		}
	}()
	return term
}

// TestTheCommandHasColoursOnATerminal checks that the command prints colours unless NO_COLOR is set, and that its
// lines fit the terminal.
func TestTheCommandHasColoursOnATerminal(t *testing.T) {
	const wide = "an-endpoint-whose-name-takes-more-columns-than-there-are-for-names"
	one, two := newAPI(t, "one"), newAPI(t, wide)
	p := startCaddy(t, site("", one, two))
	p.trip("one")
	t.Setenv("TERM", "xterm")
	for _, test := range []struct {
		noColour string
		columns  uint16
		want     string
	}{
		{"", 80, "\x1b[1;31mtaken out\x1b[0m"}, {"1", 80, "taken out  "}, {"", 132, "\x1b[1;31mtaken out\x1b[0m"},
	} {
		t.Setenv("NO_COLOR", test.noColour)
		term := newTerminal(t, test.columns)
		if code := runCommand(t.Context(), t, term.File, term.File, append([]string{"status"}, p.at()...)...); code != exitDone {
			t.Fatalf("exit code %d", code)
		}
		eventually(t, "the terminal shows all lines", func() bool { return strings.Count(term.shown.String(), "\n") >= 5 })
		text := term.shown.String()
		if !strings.Contains(text, test.want) || !strings.Contains(text, wide) || (test.noColour == "") != strings.Contains(text, "\x1b[") {
			t.Errorf("NO_COLOR=%q: got %q", test.noColour, text)
		}
		if test.noColour == "" {
			continue
		}
		for _, line := range strings.Split(text, "\r\n") {
			if len(line) > int(test.columns) {
				t.Errorf("a line of %d columns: %q", len(line), line)
			}
		}
	}
}

// TestWatchingLogsOneLine checks that --watch causes one line in Caddy's admin log, however often it
// refreshes, and so does waiting for a drain.
func TestWatchingLogsOneLine(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	release := one.hang()
	t.Cleanup(release)
	p := startCaddy(t, site("timeout 60s", one))
	logged := func(uri string) (n int) {
		for _, line := range p.lines("received request") {
			if text, _ := line["uri"].(string); strings.HasPrefix(text, uri) {
				n++
			}
		}
		return n
	}
	ctx, cancel := context.WithCancel(t.Context())
	var out, errs screen
	done := make(chan int)
	go func() {
		done <- runCommand(ctx, t, &out, &errs, append([]string{"status", "--watch", "--interval", "100ms"}, p.at()...)...)
	}()
	eventually(t, "it refreshes ten times", func() bool { return strings.Count(out.String(), "pool api: ") >= 10 })
	if n := logged("/failover/pools"); n != 1 {
		t.Errorf("watching logged %d lines", n)
	}
	cancel()
	if code := <-done; code != exitDone || errs.String() != "" {
		t.Errorf("interrupted: %d %s", code, errs.String())
	}

	answers := p.waiting(http.MethodGet, "/")
	eventually(t, "a request is in flight", func() bool { return p.endpoint("api", "one").InFlight == 1 })
	go func() {
		done <- runCommand(t.Context(), t, &out, &errs, append([]string{"drain", "api", "one", "--wait", "30s"}, p.at()...)...)
	}()
	eventually(t, "the command waits for the drain", func() bool { return logged("/failover/pools/api/endpoints/one?") == 1 })
	release()
	receive(t, "the answer to the request", answers)
	if code := <-done; code != exitDone || !strings.Contains(errs.String(), "no request is in flight") {
		t.Errorf("drained: %d %s", code, errs.String())
	}
	if n := logged("/failover/pools/api/endpoints/one?"); n != 1 {
		t.Errorf("waiting logged %d lines", n)
	}
	if code, _, errs := p.command("status", "other", "--watch"); code != exitUnknown || !strings.Contains(errs, "no pool") {
		t.Errorf("an unknown pool: %d %s", code, errs)
	}
	p.reload(site("", two))
}

// TestStreamsOfStatuses checks that streams refuse bad parameters, and end when their pool is removed.
func TestStreamsOfStatuses(t *testing.T) {
	one := newAPI(t, "one")
	p := startCaddy(t, site("", one))
	for uri, want := range map[string]int{
		"pools?every=50ms": 400, "pools?every=2h": 400, "pools?every=x": 400, "pools?each=1s": 400, "pools/api?every=50ms": 400,
		"pools/other?every=1s": 404, "pools/api/endpoints/two?every=1s": 404,
	} {
		resp, err := p.stream(uri)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %s, want %d", uri, resp.Status, want)
		}
	}
	if code, text, err := p.send("GET", "/failover/pools?every=1s", ""); err != nil || code != 400 || !strings.Contains(text, "stream") {
		t.Errorf("without a stream: %d %s %v", code, text, err)
	}
	resp, err := p.stream("pools/api?every=100ms")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	ended := make(chan struct{})
	var got screen
	go func() {
		defer close(ended)
		buffer := make([]byte, 4096)
		for {
			n, err := resp.Body.Read(buffer)
			_, _ = got.Write(buffer[:n])
			if err != nil {
				return
			}
		}
	}()
	eventually(t, "three messages", func() bool { return strings.Count(got.String(), "\ndata: {\"name\":\"api\"") >= 3 })
	p.reload(pooled("other", "", one))
	receiveEnd(t, "the stream", ended)
}

// stream requests an event stream from the admin API. The caller closes its body.
func (p *proxy) stream(uri string) (*http.Response, error) {
	r, err := http.NewRequest(http.MethodGet, "http://"+p.adminHost+"/failover/"+uri, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "text/event-stream")
	return p.admin.Do(r)
}
