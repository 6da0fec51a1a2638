package ops

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/incident"
	"github.com/apifailover/caddy-failover/internal/pool"
)

const (
	// detailFor is how long a detail is reused.
	detailFor = 10 * time.Second
	// detailsKept is the number of details that are kept for reuse.
	detailsKept = 128
	// incidentsShown is the number of incidents of all pools that the dashboard gets.
	incidentsShown = 50
	// budgetPoints is the number of points of a chart of an error budget.
	budgetPoints = 60
)

// A detail is what the dashboard shows of one pool, or of one endpoint in its own view.
type detail struct {
	Pool     string `json:"pool"`
	Endpoint string `json:"endpoint,omitempty"`

	// The latest failures of the endpoint, newest first.
	Failures []api.FailureStatus `json:"failures,omitempty"`

	// What happened at the endpoint in the last hour (1h), day (24h) and month (30d).
	Spans map[string]*span `json:"spans,omitempty"`

	// How the pool's error budgets were spent. Absent without an objective.
	Budget *budget `json:"budget,omitempty"`
}

// A span holds columns of steps of one length.
type span struct {
	From int64 `json:"from"` // start of the first step, in seconds since 1970
	Step int64 `json:"step"` // in seconds
	columns
}

// budget is the part of each error budget that was left at each time.
type budget struct {
	At           []int64   `json:"at"` // in seconds since 1970
	Availability []float64 `json:"availability,omitempty"`
	Latency      []float64 `json:"latency,omitempty"`
}

// spans are the spans of a detail and their steps. Each has at most 120 steps.
var spans = []struct {
	name       string
	long, step time.Duration
}{
	{"1h", time.Hour, time.Minute},
	{"24h", 24 * time.Hour, 15 * time.Minute},
	{"30d", 30 * 24 * time.Hour, 6 * time.Hour},
}

// details makes details one at a time and reuses them, so that many viewers cost as much as
// one.
var details struct {
	sync.Mutex
	known map[[2]string]knownDetail
}

type knownDetail struct {
	at    time.Time
	value *detail
}

// detailOf returns the detail of an endpoint, or of the pool if endpoint is "". It returns
// nil if there is no such pool or endpoint.
func detailOf(now time.Time, poolName, endpoint string) any {
	p := pool.Find(poolName)
	if p == nil {
		return nil
	}
	details.Lock()
	defer details.Unlock()
	key := [2]string{poolName, endpoint}
	if k, ok := details.known[key]; ok && now.Sub(k.at) < detailFor && !now.Before(k.at) {
		return k.value
	}
	value := makeDetail(now, p, endpoint)
	if value == nil {
		return nil
	}
	if details.known == nil || len(details.known) >= detailsKept {
		details.known = make(map[[2]string]knownDetail)
	}
	details.known[key] = knownDetail{now, value}
	return value
}

func makeDetail(now time.Time, p *pool.Pool, endpoint string) *detail {
	d := &detail{Pool: p.Name, Endpoint: endpoint}
	if endpoint == "" {
		d.Budget = budgetOf(p, now)
		return d
	}
	var known bool
	if d.Failures, known = p.RecentFailures(endpoint); !known {
		return nil
	}
	d.Spans = make(map[string]*span)
	series := p.History.Endpoint(endpoint)
	for _, s := range spans {
		from := now.Add(-s.long).Truncate(s.step)
		one := &span{From: from.Unix(), Step: int64(s.step / time.Second)}
		for _, step := range series.Steps(now, from, now, s.step, 0) {
			at := int(step.Start.Sub(from) / s.step)
			one.Calls = appendAt(one.Calls, at, step.Calls)
			one.Failures = appendAt(one.Failures, at, step.Failures.Total())
			one.P50 = appendAt(one.P50, at, roundedSeconds(step.P50))
			one.P95 = appendAt(one.P95, at, roundedSeconds(step.P95))
		}
		d.Spans[s.name] = one
	}
	return d
}

// budgetOf returns how a pool's error budgets were spent, nil without an objective.
func budgetOf(p *pool.Pool, now time.Time) *budget {
	points := p.Objective().BudgetOverTime(p.History.Pool(), now, budgetPoints)
	if len(points) == 0 {
		return nil
	}
	b := new(budget)
	for _, point := range points {
		b.At = append(b.At, point.At.Unix())
		if !math.IsNaN(point.Availability) {
			b.Availability = append(b.Availability, api.Tidy(point.Availability))
		}
		if !math.IsNaN(point.Latency) {
			b.Latency = append(b.Latency, api.Tidy(point.Latency))
		}
	}
	return b
}

// latestIncidents returns the latest incidents of all pools, oldest first.
func latestIncidents() any {
	all := []incident.Incident{}
	for _, p := range pool.Running() {
		all = append(all, p.Incidents.Incidents()...)
	}
	slices.SortStableFunc(all, func(a, b incident.Incident) int { return a.Start.Compare(b.Start) })
	return all[max(0, len(all)-incidentsShown):]
}
