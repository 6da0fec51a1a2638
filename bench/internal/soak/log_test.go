package soak

import (
	"strings"
	"testing"
)

func TestJudgeLog(t *testing.T) {
	const line = "==================\n"
	race := func(frames ...string) string {
		return line + "WARNING: DATA RACE\nRead at 0x00c0004529a0 by goroutine 1:\n  " + strings.Join(frames, "()\n\nPrevious write at 0x00c0004529a0 by goroutine 2:\n  ") +
			"()\n\nGoroutine 1 (running) created at:\n  github.com/apifailover/caddy-failover.start()\n" + line
	}
	const (
		closes = "caddyhttp.(*hijackedConn).Write()\n  reverseproxy.writeCloseControl"
		copies = "caddyhttp.(*hijackedConn).ReadFrom"
	)
	for _, step := range []struct {
		log   string
		bad   int
		known int
	}{
		{"{\"level\":\"error\"}\n", 0, 0},
		{race(closes, copies) + "{\"level\":\"error\"}\n" + race(copies, closes), 0, 2},
		{race(closes, "[failed to restore the stack]"), 0, 1},
		{race(closes, "github.com/apifailover/caddy-failover.(*upgraded).Close"), 1, 0},
		{race(closes, "github.com/apifailover/caddy-failover.(*upgraded).Read()\n  "+copies), 1, 0},
		{race(copies, copies) + race(closes, copies) + "panic: nil\n", 2, 1},
		{"fatal error: concurrent map writes\n", 1, 0},
	} {
		if bad, known := judgeLog(step.log); len(bad) != step.bad || known != step.known {
			t.Errorf("%s\ngot %d problems and %d known races, want %d and %d", step.log, len(bad), known, step.bad, step.known)
		}
	}
}
