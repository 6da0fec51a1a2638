package report

import (
	"fmt"

	"github.com/apifailover/caddy-failover/bench/internal/soak"
)

// soak writes whether all counts agree.
func (p *page) soak(r soak.Report) error {
	p.ranOn(r.Machine)
	p.line(`
%.0f minutes of small and large requests, slow uploads, event streams, WebSockets and clients that leave, in equal parts over HTTP/1.1 and over HTTP/2 with and without TLS (WebSockets
only over HTTP/1.1). Meanwhile, two of the three endpoints fail at random in nine ways, and the configuration is reloaded every 5 s (every fifth one is invalid and must be refused).
At the end, every breaker must be closed, nothing may be in flight, and goroutines and heap must not have grown. The counts of clients, endpoints, events, metrics and the SLA's history must agree exactly:
requests = successes + failures + cancelled = attempts − failovers, and each of the three must agree too. "Failed as allowed" counts streams that broke off after they had begun because their endpoint broke them off.
"WebSockets cut off" ended in the same way, or by a reload that announced it (in the race build; in the plain build %[2]sstream_close_delay%[2]s keeps them). They count as successes. "Sent again" counts requests
on connections that a reload had just closed as idle before the request was read. Every client with persistent connections sends such requests again.`, r.Minutes, "`")
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
	p.table([]string{"build", "requests", "over HTTP/2", "failed without reason", "failed as allowed", "WebSockets cut off", "cancelled by clients", "sent again", "faults", "reloads", "attempts", "failovers",
		"goroutines", "live heap", "problems"}, rows)
	for _, s := range r.Runs {
		if s.CaddyRaces > 0 {
			p.line("- %s: %d report(s) of a known data race in Caddy: when a reload ends a WebSocket, the reload and the copying of the response both add to the response's size", s.Build, s.CaddyRaces)
		}
	}
	for _, s := range r.Runs {
		for _, problem := range s.Problems {
			p.line("- %s: %s", s.Build, problem)
		}
	}
	return nil
}

// soakInShort writes how much of the traffic failed without a reason.
func (p *page) soakInShort(r soak.Report) error {
	p.ranOn(r.Machine)
	var rows [][]string
	for _, s := range r.Runs {
		faults := 0
		for _, n := range s.Faults {
			faults += n
		}
		rows = append(rows, []string{s.Build, fmt.Sprintf("%.0f", r.Minutes), fmt.Sprint(s.Calls.Sent), fmt.Sprint(faults), fmt.Sprint(s.Reloads),
			fmt.Sprint(s.Calls.Unexplained), fmt.Sprint(len(s.Problems))})
	}
	p.table([]string{"build", "minutes", "requests", "faults", "reloads", "failed without reason", "counts or resources that disagree"}, rows)
	return nil
}
