package main

import (
	"os"
	"strings"
	"time"
)

// judge looks whether everything adds up when all is quiet.
func (s *soakRun) judge(traffic *soakTraffic, sizes []size) {
	s.Calls = traffic.counts()
	for _, what := range traffic.unexplained {
		s.problem("a client failed: %s", what)
	}
	if c := s.Calls; c.Sent != c.OK+c.SocketsCut+c.Explained+c.Unexplained+c.Cancelled {
		s.problem("clients: %d sent, but %d good + %d WebSockets cut off + %d explained + %d unexplained + %d cancelled",
			c.Sent, c.OK, c.SocketsCut, c.Explained, c.Unexplained, c.Cancelled)
	}
	// what is folded leaves within a second, what is counted is taken every tick
	time.Sleep(2500 * time.Millisecond)
	if err := s.admin.follow(); err != nil {
		s.problem("reading events: %v", err)
	}
	s.count()

	var err error
	traffic.close()
	time.Sleep(3 * time.Second) // idle connections to endpoints close
	if s.Growth.GoroutinesAfter, s.Growth.HeapAfter, err = s.admin.size(); err != nil {
		s.problem("reading the size of the process: %v", err)
	}
	g := &s.Growth
	quarter := len(sizes) / 4
	goroutines := func(z size) float64 { return float64(z.goroutines) }
	heap := func(z size) float64 { return z.heap }
	if quarter > 0 {
		early, late := sizes[quarter:2*quarter], sizes[len(sizes)-quarter:]
		g.GoroutinesEarly, g.GoroutinesLate = median(column(early, goroutines)), median(column(late, goroutines))
		g.HeapEarly, g.HeapLate = median(column(early, heap)), median(column(late, heap))
	}
	if g.GoroutinesAfter > g.GoroutinesBefore+15 {
		s.problem("goroutines: %d before, %d after", g.GoroutinesBefore, g.GoroutinesAfter)
	}
	if g.GoroutinesLate > 1.5*g.GoroutinesEarly+50 {
		s.problem("goroutines grow: %.0f in the second quarter, %.0f in the last", g.GoroutinesEarly, g.GoroutinesLate)
	}
	if g.HeapAfter > 1.3*max(g.HeapBefore, g.HeapEarly)+8 {
		s.problem("the heap grows: %.1f MiB before, %.1f in the second quarter, %.1f after", g.HeapBefore, g.HeapEarly, g.HeapAfter)
	}
	s.proxy.stop()
	log, _ := os.ReadFile(s.proxy.log)
	bad, known := judgeLog(string(log))
	s.CaddyRaces = known
	for _, text := range bad {
		s.problem("in the log: %s", text)
	}
}

// judgeLog finds what must not be in a log, but for data races that are Caddy's.
func judgeLog(log string) (bad []string, known int) {
	const line = "==================\n" // around each report of the race detector
	for part := range strings.SplitSeq(log, line) {
		if isCaddysRace(part) {
			known++
			continue
		}
		for _, sign := range []string{"DATA RACE", "panic", "fatal error"} {
			if i := strings.Index(part, sign); i >= 0 {
				bad = append(bad, part[max(0, i-200):min(len(part), i+4000)])
				break
			}
		}
	}
	return bad, known
}

// isCaddysRace knows the one that WebSockets meet in Caddy v2.11.9 when a reload
// ends them: the close frame and what is copied from the endpoint both add to the
// size of the answer.
func isCaddysRace(report string) bool {
	_, between, ok := strings.Cut(report, "WARNING: DATA RACE\n")
	between, _, _ = strings.Cut(between, "\n\nGoroutine ") // the two accesses
	return ok && strings.Contains(between, "reverseproxy.writeCloseControl()") && !strings.Contains(between, "apifailover/") &&
		(strings.Contains(between, "caddyhttp.(*hijackedConn).ReadFrom()") || strings.Contains(between, "[failed to restore the stack]"))
}
