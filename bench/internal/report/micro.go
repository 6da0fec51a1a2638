package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/apifailover/caddy-failover/bench/internal/micro"
)

// micro writes the Go benchmarks side by side.
func (p *page) micro(r micro.Report) error {
	p.ranOn(r.Machine)
	p.line(`
%d rounds in turns, compared by benchstat. %[2]s-2%[2]s uses two cores and two goroutines at once. %[2]sSelect/.../failover%[2]s is a whole first
Select and the recording of a success: it creates the request's record, takes the endpoint's permit and returns it, which Caddy's policies do not need. %[2]sfailover-attempt%[2]s is the same
without the request's record (draw, permit, two clock reads and the recording). %[2]sfailover-draw%[2]s is the choice alone and is what compares with Caddy's policies.
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
	return nil
}

// microInShort writes the medians on one core: a row for each number of endpoints, and a column
// for each policy; then the breakers.
func (p *page) microInShort(r micro.Report) error {
	p.ranOn(r.Machine)
	var groups, columns []string
	cells := make(map[string]string)
	for _, row := range r.Rows {
		group, column, _ := strings.Cut(row.Name, "/")
		if i := strings.LastIndex(row.Name, "/"); i >= 0 {
			group, column = row.Name[:i], row.Name[i+1:]
		}
		_, column, _ = strings.Cut(column, "=")
		if row.Cores != 1 {
			continue
		}
		if !slices.Contains(groups, group) {
			groups = append(groups, group)
		}
		if !slices.Contains(columns, column) {
			columns = append(columns, column)
		}
		cells[group+column] = fmt.Sprintf("%.0f ns", row.Nanos)
	}
	rows := make([][]string, 0, len(groups))
	for _, group := range groups {
		row := []string{"`" + group + "`"}
		for _, column := range columns {
			row = append(row, cells[group+column])
		}
		rows = append(rows, row)
	}
	p.table(append([]string{"one core, per operation"}, columns...), rows)
	return nil
}
