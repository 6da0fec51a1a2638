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
only over HTTP/1.1), to a fleet of three instances, whose engine is a Redis server. Each request to the first pool names one of six models, its scope. Two of its three endpoints fail at random in thirteen ways, of
which three concern one model and one is a quota that is stated to be used up; one endpoint has a limit of requests, and an operator drains the two in turn. The second pool has one endpoint with a limit, which
fails in four ways; its requests wait. The engine hangs for up to 4 s at a time. The configuration of each instance is reloaded every 5 s (every fifth one is invalid and must be refused). Every 15 s one of two
instances is killed and started again 2 s later: in turn with requests in flight, so that its counts are lost, and after its counts have been compared.
At the end, every breaker must be closed for every model, nothing may be in flight or wait, every instance must know the others, and goroutines and heap must not have grown. The counts of clients, endpoints,
models, events, waits, metrics and the SLA's history must agree exactly, for each process and pool:
requests = successes + failures + cancelled = attempts − failovers − attempts at the same endpoint after a wait, and each of the three must agree too. "Failed as allowed" counts streams that broke off after they had begun because their endpoint broke them off,
and requests that failed within 15 s after other work had kept the machine from running for 400 ms.
"WebSockets cut off" ended in the same way, or by a reload that announced it (in the race build; in the plain build %[2]sstream_close_delay%[2]s keeps them). They count as successes. "Sent again" counts requests
on connections that a reload had just closed as idle before the request was read. Every client with persistent connections sends such requests again. "Lost" counts requests to processes that were killed with
requests in flight, and how many of them the kill cut off.`, r.Minutes, "`")
	var rows [][]string
	for _, s := range r.Runs {
		faults := 0
		for _, n := range s.Faults {
			faults += n
		}
		rows = append(rows, []string{s.Build, fmt.Sprint(s.Calls.Sent), fmt.Sprint(s.Calls.OverHTTP2()), fmt.Sprint(s.Calls.Unexplained), fmt.Sprint(s.Calls.Explained + s.Calls.Starved),
			fmt.Sprint(s.Calls.SocketsCut), fmt.Sprint(s.Calls.Cancelled), fmt.Sprint(s.Calls.Resent), fmt.Sprint(faults), fmt.Sprint(s.Reloads), fmt.Sprint(s.Kills), fmt.Sprintf("%d (%d)", s.Lost.Calls, s.Lost.Cut),
			fmt.Sprint(s.Counts.Attempts), fmt.Sprint(s.Counts.FailoverEvents), fmt.Sprint(s.Counts.Waits),
			fmt.Sprintf("%d → %d", s.Growth.GoroutinesBefore, s.Growth.GoroutinesAfter),
			fmt.Sprintf("%.1f → %.1f MiB", s.Growth.HeapBefore, s.Growth.HeapAfter), fmt.Sprint(len(s.Problems))})
	}
	p.table([]string{"build", "requests", "over HTTP/2", "failed without reason", "failed as allowed", "WebSockets cut off", "cancelled by clients", "sent again", "faults", "reloads", "kills", "lost (cut off)", "attempts", "failovers", "waits",
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
		rows = append(rows, []string{s.Build, fmt.Sprintf("%.0f", r.Minutes), fmt.Sprint(s.Calls.Sent), fmt.Sprint(faults), fmt.Sprint(s.Reloads), fmt.Sprint(s.Kills),
			fmt.Sprint(s.Calls.Unexplained), fmt.Sprint(len(s.Problems))})
	}
	p.table([]string{"build", "minutes", "requests", "faults", "reloads", "kills", "failed without reason", "counts or resources that disagree"}, rows)
	return nil
}
