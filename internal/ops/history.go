package ops

import (
	"math"
	"time"

	"github.com/apifailover/caddy-failover/internal/pool"
)

// minutes are the last minutes of all endpoints, for the dashboard's charts.
type minutes struct {
	// The first minute, in minutes since 1970.
	From int64 `json:"from"`

	// The minutes of each endpoint, by pool and endpoint.
	Pools map[string]map[string]*columns `json:"pools"`
}

// columns are the minutes of one endpoint, from Minutes.From to its last minute with calls.
type columns struct {
	Calls    []uint64  `json:"calls"` // successes and failures
	Failures []uint64  `json:"failures"`
	P50      []float64 `json:"p50"` // seconds to the first byte of successes, 0 if unknown
	P95      []float64 `json:"p95"`
}

// lastMinutes returns the minutes of every endpoint since from.
func lastMinutes(now, from time.Time) minutes {
	from = from.Truncate(time.Minute)
	last := minutes{From: from.Unix() / 60, Pools: make(map[string]map[string]*columns)}
	for _, p := range pool.Running() {
		endpoints := make(map[string]*columns)
		last.Pools[p.Name] = endpoints
		for _, name := range p.History.Endpoints() {
			c := new(columns)
			for _, m := range p.History.Endpoint(name).Minutes(now, from, now) {
				at := int(m.Start.Sub(from) / time.Minute)
				c.Calls = appendAt(c.Calls, at, m.Calls)
				c.Failures = appendAt(c.Failures, at, m.Failures.Total())
				c.P50 = appendAt(c.P50, at, roundedSeconds(m.P50))
				c.P95 = appendAt(c.P95, at, roundedSeconds(m.P95))
			}
			if len(c.Calls) > 0 {
				endpoints[name] = c
			}
		}
	}
	return last
}

// appendAt appends zero values up to index at, and value there. at is not below len(list).
func appendAt[T any](list []T, at int, value T) []T {
	for len(list) < at {
		list = append(list, *new(T))
	}
	return append(list, value)
}

// roundedSeconds returns a latency in seconds with three digits; 0 if there is none.
func roundedSeconds(d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	s := d.Seconds()
	scale := math.Pow(10, 2-math.Floor(math.Log10(s)))
	return math.Round(s*scale) / scale
}
