package soak

import "strings"

// judgeLog returns the lines that must not be in a log, and the number of reports of known
// data races in Caddy itself.
func judgeLog(log string) (bad []string, known int) {
	const line = "==================\n" // frames each report of the race detector
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

// isCaddysRace reports whether a data race is the known one of Caddy v2.11.9 when a reload
// ends a WebSocket: the close frame and the copying of the response both add to the
// response's size.
func isCaddysRace(report string) bool {
	_, between, ok := strings.Cut(report, "WARNING: DATA RACE\n")
	between, _, _ = strings.Cut(between, "\n\nGoroutine ") // keep the two accesses
	return ok && strings.Contains(between, "reverseproxy.writeCloseControl()") && !strings.Contains(between, "apifailover/") &&
		(strings.Contains(between, "caddyhttp.(*hijackedConn).ReadFrom()") || strings.Contains(between, "[failed to restore the stack]"))
}
