package report

import (
	"fmt"

	"github.com/apifailover/caddy-failover/bench/internal/micro"
)

// micro writes the Go benchmarks side by side.
func (p *page) micro(r micro.Report) error {
	p.line("\n## Go benchmarks")
	p.ranOn(r.Machine)
	p.line(`
%d rounds in turns, compared by benchstat. %[2]s-2%[2]s uses two cores and two goroutines at once. %[2]sSelect/.../failover%[2]s is a whole first
Select and the recording of a success: it creates the call's record, takes the endpoint's permit and returns it, which Caddy's policies do not need. %[2]sfailover-attempt%[2]s is the same
without the call's record (draw, permit, two clock reads and the recording). %[2]sfailover-draw%[2]s is the choice alone and is what compares with Caddy's policies.
%[2]sBreaker%[2]s asks a closed breaker for a permit and reports a success.`, r.Rounds, "`")
	for _, s := range r.Subjects {
		p.line("\n```text\n%s```", s.Benchstat)
	}
	allocs := make([][]string, 0, len(r.Rows))
	for _, row := range r.Rows {
		if row.Cores == 1 && row.Allocs > 0 {
			allocs = append(allocs, []string{row.Name, fmt.Sprintf("%.0f", row.Allocs)})
		}
	}
	p.line("\nAllocations, if any:")
	p.table([]string{"", "per operation"}, allocs)
	p.line("Better here: Caddy's `first` and `round_robin` choose in a few nanoseconds, because they use neither share nor score. failsafe-go's breaker is faster than ours, which keeps a sliding window and its endpoint's history under one mutex.")
	return nil
}
