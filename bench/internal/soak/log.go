package soak

import "strings"

// judgeLog returns what must not be in a log, and how many reports of data races in
// it are known to be Caddy's own.
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

// isCaddysRace reports whether a data race is the one of Caddy v2.11.9 when a reload
// ends a WebSocket: the close frame and what is copied from the endpoint both add
// to the size of the answer.
func isCaddysRace(report string) bool {
	_, between, ok := strings.Cut(report, "WARNING: DATA RACE\n")
	between, _, _ = strings.Cut(between, "\n\nGoroutine ") // the two accesses
	return ok && strings.Contains(between, "reverseproxy.writeCloseControl()") && !strings.Contains(between, "apifailover/") &&
		(strings.Contains(between, "caddyhttp.(*hijackedConn).ReadFrom()") || strings.Contains(between, "[failed to restore the stack]"))
}
