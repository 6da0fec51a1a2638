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

	b.WriteString("\n## Results\n\n")
	results := append([]Result{rep.Total}, rep.Endpoints...)
	row(&b, "", "Requests", "Failed", "Availability", "Objective", "Error budget left", "Within latency target", "Latency objective", "Latency budget left", "Down")
	row(&b, "---", "---:", "---:", "---:", "---", "---:", "---:", "---", "---:", "---:")
	for _, r := range results {
		within := unknown
		if r.Latency.Objective > 0 {
			within = formatAchieved(r.Latency)
		}
		row(&b, markdownSafe(formatWho(r.Name, English)), strconv.FormatUint(r.Calls, 10), strconv.FormatUint(r.Failed, 10),
			formatAchieved(r.Availability), formatMet(r.Availability), formatBudget(r.Availability),
			within, formatMet(r.Latency), formatBudget(r.Latency), formatDuration(r.Down))
	}

	b.WriteString("\n## Latency and failures\n\n")
	row(&b, "", "p50", "p90", "p95", "p99", "Failures", "Cancelled")
	row(&b, "---", "---:", "---:", "---:", "---:", "---", "---:")
	for _, r := range results {
		row(&b, markdownSafe(formatWho(r.Name, English)), formatLatency(r.P50), formatLatency(r.P90), formatLatency(r.P95),
			formatLatency(r.P99), markdownSafe(formatFailures(r.Failures, English)), strconv.FormatUint(r.Cancelled, 10))
	}

	b.WriteString("\n## Incidents\n\n")
	if len(rep.Incidents) == 0 {
		b.WriteString("None.\n")
	} else {
		row(&b, "Start", "End", "Where", "Cause", "Requests affected")
		row(&b, "---", "---", "---", "---", "---:")
	}
	for _, in := range rep.Incidents {
		row(&b, formatTime(in.Start), formatTime(in.End), markdownSafe(formatWho(in.Endpoint, English)),
			markdownSafe(formatCause(in.Cause, English)), strconv.FormatUint(in.Calls, 10))
	}

	b.WriteString("\n## Failovers\n\n")
	if len(rep.Failovers) == 0 {
		b.WriteString("None.\n")
	} else {
		row(&b, "From", "To", "Requests")
		row(&b, "---", "---", "---:")
	}
	for _, f := range rep.Failovers {
		row(&b, markdownSafe(f.From), markdownSafe(formatDestination(f.To, English)), strconv.FormatUint(f.Count, 10))
	}

	b.WriteString("\n## Worst hours\n\n")
	if len(rep.WorstHours) == 0 {
		b.WriteString("None: no request failed.\n")
	} else {
		row(&b, "Hour", "Requests", "Failed", "Availability", "p95")
		row(&b, "---", "---:", "---:", "---:", "---:")
	}
	for _, h := range rep.WorstHours {
		row(&b, formatTime(h.Start), strconv.FormatUint(h.Calls, 10), strconv.FormatUint(h.Failed, 10),
			formatPercent(h.Availability), formatLatency(h.P95))
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("writing report: %w", err)
	}
	return nil
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
