package sla

import (
	"fmt"
	"html"
	"io"
	"strconv"
	"strings"
)

// WriteMarkdown writes the report in English as GitHub Flavored Markdown. It escapes names and
// causes, so they always show as plain text.
func (rep Report) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# SLA report: %s\n\n", markdownSafe(rep.Pool))
	fmt.Fprintf(&b, "%s to %s UTC, in steps of %s, from %d instance(s). Generated %s.\n\n",
		formatTime(rep.From), formatTime(rep.To), formatStep(rep.Step), rep.Instances, formatTime(rep.Generated))
	fmt.Fprintf(&b, "Objective: %s.\n", formatObjective(rep.Objective, English))

	rep.markdownResults(&b)
	rep.markdownIncidents(&b)
	rep.markdownFailovers(&b)
	rep.markdownWorstHours(&b)
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("writing report: %w", err)
	}
	return nil
}

func (rep Report) markdownResults(b *strings.Builder) {
	results := append([]Result{rep.Total}, rep.Endpoints...)
	section(b, "Results", "", true,
		[]string{"", "Requests", "Failed", "Availability", "Objective", "Error budget left", "Within latency target", "Latency objective", "Latency budget left", "Down"},
		[]string{"---", "---:", "---:", "---:", "---", "---:", "---:", "---", "---:", "---:"})
	for _, r := range results {
		within := unknown
		if r.Latency.Objective > 0 {
			within = formatAchieved(r.Latency)
		}
		row(b, markdownSafe(formatWho(r.Name, English)), strconv.FormatUint(r.Calls, 10), strconv.FormatUint(r.Failed, 10),
			formatAchieved(r.Availability), formatMet(r.Availability), formatBudget(r.Availability),
			within, formatMet(r.Latency), formatBudget(r.Latency), formatDuration(r.Down))
	}
	section(b, "Latency and failures", "", true,
		[]string{"", "p50", "p90", "p95", "p99", "Failures", "Cancelled"},
		[]string{"---", "---:", "---:", "---:", "---:", "---", "---:"})
	for _, r := range results {
		row(b, markdownSafe(formatWho(r.Name, English)), formatLatency(r.P50), formatLatency(r.P90), formatLatency(r.P95),
			formatLatency(r.P99), markdownSafe(formatFailures(r.Failures, English)), strconv.FormatUint(r.Cancelled, 10))
	}
}

func (rep Report) markdownIncidents(b *strings.Builder) {
	section(b, "Incidents", "None.", len(rep.Incidents) > 0,
		[]string{"Start", "End", "Where", "Cause", "Requests affected"}, []string{"---", "---", "---", "---", "---:"})
	for _, in := range rep.Incidents {
		row(b, formatTime(in.Start), formatTime(in.End), markdownSafe(formatWho(in.Endpoint, English)),
			markdownSafe(formatCause(in.Cause, English)), strconv.FormatUint(in.Calls, 10))
	}
}

func (rep Report) markdownFailovers(b *strings.Builder) {
	section(b, "Failovers", "None.", len(rep.Failovers) > 0, []string{"From", "To", "Requests"}, []string{"---", "---", "---:"})
	for _, f := range rep.Failovers {
		row(b, markdownSafe(f.From), markdownSafe(formatDestination(f.To, English)), strconv.FormatUint(f.Count, 10))
	}
}

func (rep Report) markdownWorstHours(b *strings.Builder) {
	section(b, "Worst hours", "None: no request failed.", len(rep.WorstHours) > 0,
		[]string{"Hour", "Requests", "Failed", "Availability", "p95"}, []string{"---", "---:", "---:", "---:", "---:"})
	for _, h := range rep.WorstHours {
		row(b, formatTime(h.Start), strconv.FormatUint(h.Calls, 10), strconv.FormatUint(h.Failed, 10),
			formatPercent(h.Availability), formatLatency(h.P95))
	}
}

// section writes a heading and the head of a table or, if there are no rows, the text none.
func section(b *strings.Builder, title, none string, hasRows bool, head, alignment []string) {
	b.WriteString("\n## " + title + "\n\n")
	if !hasRows {
		b.WriteString(none + "\n")
		return
	}
	row(b, head...)
	row(b, alignment...)
}

// row writes a row of a table.
func row(b *strings.Builder, cells ...string) {
	fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
}

// markdownSafe escapes s so that it shows as plain text in a cell or a heading, on one line.
func markdownSafe(s string) string {
	var b strings.Builder
	for _, c := range strings.Join(strings.Fields(s), " ") {
		switch {
		case strings.ContainsRune("\\`*_{}[]()#+!|~$:@", c):
			b.WriteByte('\\')
			b.WriteRune(c)
		case strings.ContainsRune("<>&", c):
			b.WriteString(html.EscapeString(string(c)))
		case c < ' ' || c == 0x7f:
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}
