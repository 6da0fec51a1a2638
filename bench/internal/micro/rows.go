package micro

import (
	"strconv"
	"strings"

	"github.com/apifailover/caddy-failover/bench/internal/stats"
)

// A Row is the median of a benchmark over the rounds.
type Row struct {
	Name   string  `json:"name"`
	Cores  int     `json:"cores"` // 1 or 2
	Nanos  float64 `json:"ns_per_op"`
	Allocs float64 `json:"allocs_per_op"`
}

// benchmarkPrefix is the prefix of Go's benchmarks.
const benchmarkPrefix = "Benchmark"

// medians parses go test's lines: name-cores, count, then values and units. Rows are in the
// order in which their names first appear.
func medians(lines string) (rows []Row) {
	nanos, allocs := make(map[string][]float64), make(map[string][]float64)
	var names []string
	for line := range strings.Lines(lines) {
		fields := strings.Fields(line)
		for i := 2; i+1 < len(fields); i += 2 {
			value, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				continue
			}
			name := fields[0]
			switch fields[i+1] {
			case "ns/op":
				if nanos[name] == nil {
					names = append(names, name)
				}
				nanos[name] = append(nanos[name], value)
			case "allocs/op":
				allocs[name] = append(allocs[name], value)
			}
		}
	}
	for _, full := range names {
		name, cores := strings.TrimPrefix(full, benchmarkPrefix), 1
		if base, ok := strings.CutSuffix(name, "-2"); ok {
			name, cores = base, 2
		}
		rows = append(rows, Row{name, cores, stats.Median(nanos[full]), stats.Median(allocs[full])})
	}
	return rows
}
