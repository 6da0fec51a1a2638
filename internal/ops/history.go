package ops

import (
	"math"
	"time"

	"github.com/apifailover/caddy-failover/internal/pool"
)

// minutes are the last minutes of all endpoints, as the dashboard draws them.
type minutes struct {
	// The first minute, in minutes since 1970.
	From int64 `json:"from"`

	// By pool and endpoint.
	Pools map[string]map[string]*columns `json:"pools"`
}

// columns are the minutes of one endpoint, from the first to the last in which
// anything happened.
type columns struct {
	Calls    []uint64  `json:"calls"` // successes and failures
	Failures []uint64  `json:"failures"`
	P50      []float64 `json:"p50"` // seconds to the first byte of successes, 0 if unknown
	P95      []float64 `json:"p95"`
}

// lastMinutes returns what happened at every endpoint from a time on.
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
				c.Calls = upTo(c.Calls, at, m.Calls)
				c.Failures = upTo(c.Failures, at, m.Failures.Total())
				c.P50 = upTo(c.P50, at, roughly(m.P50))
				c.P95 = upTo(c.P95, at, roughly(m.P95))
			}
			if len(c.Calls) > 0 {
				endpoints[name] = c
			}
		}
	}
	return last
}

// upTo sets the value at a place at or after the end; those between are 0.
func upTo[T any](list []T, at int, value T) []T {
	for len(list) < at {
		list = append(list, *new(T))
	}
	return append(list, value)
}

// roughly is a latency in seconds, to the three digits that can be seen.
func roughly(d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	s := d.Seconds()
	scale := math.Pow(10, 2-math.Floor(math.Log10(s)))
	return math.Round(s*scale) / scale
}
