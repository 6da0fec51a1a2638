package sla

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// chartSteps is the largest number of steps in a chart.
const chartSteps = 96

// Query selects the pool, the range and the objective of a report.
type Query struct {
	Pool     string
	From, To time.Time
	Now      time.Time

	// Objective is compared with the results of the pool and of each endpoint over the range. Its
	// window has no effect.
	Objective Objective

	WorstHours int // largest number of worst hours; 0 means 5
}

// Report is what a pool and its endpoints achieved in a range of time. Its times are UTC,
// and its slices are never nil.
type Report struct {
	Pool      string    `json:"pool"`
	From      time.Time `json:"from"` // start of the first step that begins in the range
	To        time.Time `json:"to"`
	Generated time.Time `json:"generated"`
	Step      Duration  `json:"step_seconds"` // length of a step, the precision of the range
	Instances int       `json:"instances"`    // number of instances in the sums
	Objective Objective `json:"objective"`

	Total      Result           `json:"total"` // calls as clients see them
	Endpoints  []Result         `json:"endpoints"`
	Failovers  []Failover       `json:"failovers"`
	Incidents  []ReportIncident `json:"incidents"`
	WorstHours []Hour           `json:"worst_hours"`

	// Language is that of the HTML page.
	Language Language `json:"-"`

	// Timeline and Budget are the charts of the HTML page: the pool in steps, and the part of
	// the error budgets of the range that was left.
	Timeline []Step        `json:"-"`
	Budget   []BudgetPoint `json:"-"`

	ChartStep time.Duration `json:"-"` // length of a step of Timeline
}

// Result is what the pool or one endpoint achieved. Its error budget is the part of the
// calls in the range that may fail.
type Result struct {
	Name      string   `json:"name"`
	Calls     uint64   `json:"calls"` // successes and failures
	Failed    uint64   `json:"failed"`
	Failures  Failures `json:"failures"`
	Cancelled uint64   `json:"cancelled"`

	// Down is how long the pool or endpoint was down. Of several instances, the longest time
	// counts.
	Down Duration `json:"down_seconds"`

	// Latency of successes, 0 if unknown. Quantile is the latency at the objective's
	// quantile.
	P50      Duration `json:"p50_seconds"`
	P90      Duration `json:"p90_seconds"`
	P95      Duration `json:"p95_seconds"`
	P99      Duration `json:"p99_seconds"`
	Quantile Duration `json:"quantile_seconds"`

	Availability Attainment `json:"availability"`
	Latency      Attainment `json:"latency"`
}

// Failover counts calls that moved from one endpoint to another. A step of the history counts up
// to 8 destinations separately; To is empty for the others.
type Failover struct {
	From  string `json:"from"`
	To    string `json:"to"`
	Count uint64 `json:"count"`
}

// ReportIncident is an incident of an endpoint, or of the pool if Endpoint is empty.
// Overlapping incidents of several instances are merged.
type ReportIncident struct {
	Endpoint string `json:"endpoint"`
	Incident
}

// Hour is an hour of the pool in which calls failed.
type Hour struct {
	Start        time.Time `json:"start"`
	Calls        uint64    `json:"calls"`
	Failed       uint64    `json:"failed"`
	Availability float64   `json:"availability"`
	P95          Duration  `json:"p95_seconds"`
}

// NewReport returns the report on the sum of the snapshots. Each snapshot must be from another
// instance of the pool.
func NewReport(q Query, snapshots ...*Snapshot) Report {
	o := q.Objective.withDefaults()
	l := levelFor(q.Now, q.From)
	if q.To.After(q.Now) {
		q.To = q.Now
	}
	rep := Report{
		Pool:       q.Pool,
		From:       levels[l].timeOf(levels[l].firstAt(q.From)),
		To:         q.To.UTC(),
		Generated:  q.Now.UTC(),
		Step:       Duration(levels[l].duration()),
		Instances:  len(snapshots),
		Objective:  o,
		Endpoints:  []Result{},
		Failovers:  []Failover{},
		Incidents:  []ReportIncident{},
		WorstHours: []Hour{},
	}
	var pool []*record
	endpoints := map[string][]*record{}
	for _, s := range snapshots {
		pool = append(pool, &s.pool)
		for name, r := range s.endpoints {
			endpoints[name] = append(endpoints[name], &r)
		}
	}
	rep.Total = rep.result("", pool, l)
	rep.addIncidents("", pool)
	for _, name := range slices.Sorted(maps.Keys(endpoints)) {
		rep.Endpoints = append(rep.Endpoints, rep.result(name, endpoints[name], l))
		rep.addIncidents(name, endpoints[name])
	}
	slices.SortStableFunc(rep.Incidents, func(a, b ReportIncident) int { return a.Start.Compare(b.Start) })
	rep.addFailovers(snapshots, l)
	rep.addWorstHours(pool, l, cmp.Or(q.WorstHours, 5))
	step := stepFor(q.Now, rep.From, rep.To.Sub(rep.From), chartSteps)
	rep.ChartStep = step
	rep.Timeline = stepsOf(pool, q.Now, rep.From, rep.To, step, o.LatencyTarget)
	if o.Availability > 0 || o.latencyRatio() > 0 {
		rep.Budget = o.budgetOf(rep.Timeline, rep.From, rep.To, step)
	}
	return rep
}

// result adds up the records of one series from all instances. l is the level of steps to use.
func (rep *Report) result(name string, records []*record, l int) Result {
	var t tally
	var down time.Duration
	for _, r := range records {
		t.Down = 0
		r.sum(&t, l, rep.From, rep.To, true)
		down = max(down, t.Down)
	}
	q := t.latency.quantiles(0.5, 0.9, 0.95, 0.99, rep.Objective.LatencyQuantile)
	failed := t.Failures.Total()
	return Result{
		Name:         name,
		Calls:        t.Calls,
		Failed:       failed,
		Failures:     t.Failures,
		Cancelled:    t.Cancelled,
		Down:         Duration(down),
		P50:          Duration(q[0]),
		P90:          Duration(q[1]),
		P95:          Duration(q[2]),
		P99:          Duration(q[3]),
		Quantile:     Duration(q[4]),
		Availability: attain(rep.Objective.Availability, failed, t.Calls),
		Latency:      rep.Objective.attainLatency(&t),
	}
}

// addIncidents adds the incidents of one series. It merges those of several instances that
// overlap.
func (rep *Report) addIncidents(name string, records []*record) {
	var all []Incident
	for _, r := range records {
		for _, in := range r.incidents {
			if in.overlaps(rep.From, rep.To) {
				all = append(all, in)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Incident) int { return a.Start.Compare(b.Start) })
	first := len(rep.Incidents)
	for _, in := range all {
		if n := len(rep.Incidents); len(records) > 1 && n > first {
			if last := &rep.Incidents[n-1]; last.End.IsZero() || !in.Start.After(last.End) {
				last.Calls += in.Calls
				if in.End.IsZero() || (!last.End.IsZero() && in.End.After(last.End)) {
					last.End = in.End
				}
				continue
			}
		}
		rep.Incidents = append(rep.Incidents, ReportIncident{Endpoint: name, Incident: in})
	}
}

// addFailovers adds the failovers of all instances, most frequent first.
func (rep *Report) addFailovers(snapshots []*Snapshot, l int) {
	type pair struct{ from, to string }
	counts := map[pair]uint64{}
	for _, s := range snapshots {
		for name, r := range s.endpoints {
			var t tally
			r.sum(&t, l, rep.From, rep.To, false)
			for _, m := range t.moves {
				counts[pair{name, s.names[m.to]}] += m.n
			}
		}
	}
	for p, n := range counts {
		rep.Failovers = append(rep.Failovers, Failover{p.from, p.to, n})
	}
	slices.SortFunc(rep.Failovers, func(a, b Failover) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
}

// addWorstHours adds the hours with the most failures, most first.
func (rep *Report) addWorstHours(pool []*record, l, limit int) {
	scale := levels[hours].step / levels[l].step
	first, end := levels[l].firstAt(rep.From), levels[l].firstAt(rep.To)
	byHour := map[int64]*tally{}
	for _, r := range pool {
		for index, step := range r.rings[l].all(first, end) {
			t := byHour[index/scale]
			if t == nil {
				t = new(tally)
				byHour[index/scale] = t
			}
			_ = t.add(step, nil, false)
		}
	}
	for hour, t := range byHour {
		if failed := t.Failures.Total(); failed > 0 {
			rep.WorstHours = append(rep.WorstHours, Hour{
				Start:        levels[hours].timeOf(hour),
				Calls:        t.Calls,
				Failed:       failed,
				Availability: t.Availability(),
			})
		}
	}
	slices.SortFunc(rep.WorstHours, func(a, b Hour) int {
		return cmp.Or(cmp.Compare(b.Failed, a.Failed), cmp.Compare(a.Calls, b.Calls), a.Start.Compare(b.Start))
	})
	rep.WorstHours = rep.WorstHours[:min(limit, len(rep.WorstHours))]
	for i := range rep.WorstHours {
		h := &rep.WorstHours[i]
		var t tally
		for _, r := range pool {
			r.sum(&t, l, latest(h.Start, rep.From), earliest(h.Start.Add(time.Hour), rep.To), true)
		}
		h.P95 = Duration(t.latency.quantiles(0.95)[0])
	}
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
