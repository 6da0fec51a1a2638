package report

import (
	"fmt"

	"github.com/apifailover/caddy-failover/bench/internal/soak"
)

// soak writes whether everything added up.
func (p *page) soak(r soak.Report) error {
	p.line("\n## Soak")
	p.ranOn(r.Machine)
	p.line(`
%.0f minutes of small and large requests, slow uploads, event streams, WebSockets and clients that go away, in equal parts over HTTP/1.1 and over HTTP/2 with and without TLS (WebSockets
over HTTP/1.1 alone), while two of three endpoints fail at random in nine ways and the configuration is loaded anew every 5 s (every fifth is broken and must be refused).
At the end every breaker must be closed, nothing in flight, nothing grown, and the counts of clients, endpoints, events, metrics and the SLA's history must agree exactly:
calls = successes + failures + cancelled = attempts − failovers, and the same for each of the three. "As the rules say" are streams that broke off after they had begun, when their endpoint did as it knows itself;
"WebSockets cut off" ended so too, or by a reload, which says so (in the race build; in the other %[2]sstream_close_delay%[2]s keeps them), and count as answered. "Sent again" are requests
that met a connection which a reload had just closed as idle, before they were read, as any client that keeps connections does.`, r.Minutes, "`")
	var rows [][]string
	for _, s := range r.Runs {
		faults := 0
		for _, n := range s.Faults {
			faults += n
		}
		rows = append(rows, []string{s.Build, fmt.Sprint(s.Calls.Sent), fmt.Sprint(s.Calls.OverHTTP2()), fmt.Sprint(s.Calls.Unexplained), fmt.Sprint(s.Calls.Explained),
			fmt.Sprint(s.Calls.SocketsCut), fmt.Sprint(s.Calls.Cancelled), fmt.Sprint(s.Calls.Resent), fmt.Sprint(faults), fmt.Sprint(s.Reloads), fmt.Sprint(s.Counts.Attempts), fmt.Sprint(s.Counts.FailoverEvents),
			fmt.Sprintf("%d → %d", s.Growth.GoroutinesBefore, s.Growth.GoroutinesAfter),
			fmt.Sprintf("%.1f → %.1f MiB", s.Growth.HeapBefore, s.Growth.HeapAfter), fmt.Sprint(len(s.Problems))})
	}
	p.table([]string{"build", "calls", "over HTTP/2", "failed without reason", "as the rules say", "WebSockets cut off", "cancelled by clients", "sent again", "faults", "reloads", "attempts", "failovers",
		"goroutines", "live heap", "problems"}, rows)
	for _, s := range r.Runs {
		if s.CaddyRaces > 0 {
			p.line("- %s: %d reports of a data race of Caddy's own: ending a WebSocket, a reload and the copying of the answer both add to its size", s.Build, s.CaddyRaces)
		}
	}
	for _, s := range r.Runs {
		for _, problem := range s.Problems {
			p.line("- %s: %s", s.Build, problem)
		}
	}
	return nil
}
