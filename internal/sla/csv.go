package sla

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// WriteCSV writes the report as one table with one value in each row. The columns are
// section, name, to, start, end, measure and value:
//
//	report      name is the pool, start and end are the range
//	objective   the values of the objective
//	result      name is the endpoint, empty for the pool
//	failover    from the endpoint name to the endpoint to
//	incident    name as in result, start and end are the incident
//	worst_hour  start and end are the hour
//
// Ratios are 0 to 1, times are RFC 3339 in UTC, and durations are seconds. The end of an
// incident that goes on is empty. A cell that a spreadsheet would take for a formula gets an
// apostrophe in front.
func (rep Report) WriteCSV(w io.Writer) error {
	c := table{csv.NewWriter(w)}
	c.row("section", "name", "to", "start", "end", "measure", "value")
	from, to := csvTime(rep.From), csvTime(rep.To)
	c.row("report", rep.Pool, "", from, to, "instances", strconv.Itoa(rep.Instances))
	c.row("report", rep.Pool, "", from, to, "step_seconds", csvSeconds(rep.Step))
	if o := rep.Objective; o.Availability > 0 {
		c.row("objective", "", "", "", "", "availability", csvFloat(o.Availability))
	}
	if o := rep.Objective; o.LatencyTarget > 0 {
		c.row("objective", "", "", "", "", "latency_quantile", csvFloat(o.LatencyQuantile))
		c.row("objective", "", "", "", "", "latency_target_seconds", csvSeconds(Duration(o.LatencyTarget)))
	}
	c.result(rep.Total)
	for _, r := range rep.Endpoints {
		c.result(r)
	}
	for _, f := range rep.Failovers {
		c.row("failover", f.From, f.To, "", "", "count", csvCount(f.Count))
	}
	for _, in := range rep.Incidents {
		start, end := csvTime(in.Start), csvTime(in.End)
		c.row("incident", in.Endpoint, "", start, end, "cause", in.Cause)
		c.row("incident", in.Endpoint, "", start, end, "calls", csvCount(in.Calls))
	}
	for _, h := range rep.WorstHours {
		start, end := csvTime(h.Start), csvTime(h.Start.Add(time.Hour))
		c.row("worst_hour", "", "", start, end, "calls", csvCount(h.Calls))
		c.row("worst_hour", "", "", start, end, "failed", csvCount(h.Failed))
		c.row("worst_hour", "", "", start, end, "availability", csvFloat(h.Availability))
		c.row("worst_hour", "", "", start, end, "p95_seconds", csvSeconds(h.P95))
	}
	c.w.Flush()
	if err := c.w.Error(); err != nil {
		return fmt.Errorf("writing report: %w", err)
	}
	return nil
}

// table writes rows. csv.Writer keeps the first error until the end.
type table struct{ w *csv.Writer }

func (c table) row(cells ...string) {
	for i, s := range cells {
		cells[i] = csvSafe(s)
	}
	_ = c.w.Write(cells)
}

func (c table) result(r Result) {
	value := func(measure, v string) { c.row("result", r.Name, "", "", "", measure, v) }
	value("calls", csvCount(r.Calls))
	value("failed", csvCount(r.Failed))
	for i, n := range r.Failures {
		if n > 0 {
			value("failed_"+(Dial+Kind(i)).String(), csvCount(n))
		}
	}
	value("cancelled", csvCount(r.Cancelled))
	value("down_seconds", csvSeconds(r.Down))
	value("p50_seconds", csvSeconds(r.P50))
	value("p90_seconds", csvSeconds(r.P90))
	value("p95_seconds", csvSeconds(r.P95))
	value("p99_seconds", csvSeconds(r.P99))
	for _, a := range []struct {
		name string
		Attainment
	}{{"availability", r.Availability}, {"latency", r.Latency}} {
		if a.Objective == 0 && a.name == "latency" {
			continue
		}
		value(a.name, csvFloat(a.Achieved))
		if a.Objective > 0 {
			value(a.name+"_met", strconv.FormatBool(a.Met))
			value(a.name+"_budget_total", csvFloat(a.BudgetTotal))
			value(a.name+"_budget_left", csvFloat(a.BudgetLeft))
		}
	}
}

// csvSafe returns s as a cell that no spreadsheet takes for a formula. It puts an apostrophe
// before text that starts like a formula and is not a number. See OWASP, CSV Injection.
func csvSafe(s string) string {
	trimmed := strings.TrimLeft(s, " \u00a0")
	if trimmed == "" || !strings.ContainsAny(string([]rune(trimmed)[0]), "=+-@\t\r\n＝＋－＠") {
		return s
	}
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return s
	}
	return "'" + s
}

func csvTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func csvCount(n uint64) string { return strconv.FormatUint(n, 10) }

func csvFloat(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func csvSeconds(d Duration) string { return csvFloat(time.Duration(d).Seconds()) }
