package sla

import (
	"cmp"
	"math"
	"strconv"
	"strings"
	"time"
)

// unknown stands for a missing value in reports.
const unknown = "–"

// formatPercent formats r in percent with three decimals. It rounds down, so a missed
// objective never looks met.
func formatPercent(r float64) string {
	return strconv.FormatFloat(math.Floor(r*1e5+1e-6)/1e3, 'f', 3, 64) + "%"
}

// formatBudget formats the remaining part of an error budget in percent.
func formatBudget(a Attainment) string {
	if a.Objective == 0 || a.Events == 0 {
		return unknown
	}
	return strconv.FormatFloat(math.Floor(a.BudgetLeft*1e3+1e-6)/10, 'f', 1, 64) + "%"
}

func formatAchieved(a Attainment) string {
	if a.Events == 0 {
		return unknown
	}
	return formatPercent(a.Achieved)
}

func formatMet(a Attainment) string {
	switch {
	case a.Objective == 0 || a.Events == 0:
		return unknown
	case a.Met:
		return "met"
	}
	return "missed"
}

// formatLatency formats d with three significant digits.
func formatLatency(d Duration) string {
	if d <= 0 {
		return unknown
	}
	unit := time.Duration(1)
	for time.Duration(d)/unit >= 1000 {
		unit *= 10
	}
	return time.Duration(d).Round(unit).String()
}

func formatDuration(d Duration) string {
	if d < Duration(time.Second) {
		return time.Duration(d).Round(time.Millisecond).String()
	}
	return time.Duration(d).Round(time.Second).String()
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return "going on"
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

// formatObjective formats an objective in words.
func formatObjective(o Objective) string {
	var parts []string
	if o.Availability > 0 {
		parts = append(parts, formatShare(o.Availability)+" of requests succeed")
	}
	if o.LatencyTarget > 0 {
		parts = append(parts, formatShare(o.LatencyQuantile)+" of successes within "+o.LatencyTarget.String())
	}
	return cmp.Or(strings.Join(parts, ", "), "none")
}

// formatShare formats r in percent with as many digits as it has, up to six decimals.
func formatShare(r float64) string {
	return strconv.FormatFloat(math.Round(r*1e8)/1e6, 'f', -1, 64) + "%"
}

// formatFailures formats failures by kind, such as "timeout 3, reset 1".
func formatFailures(f Failures) string {
	var parts []string
	for i, n := range f {
		if n > 0 {
			parts = append(parts, (Dial+Kind(i)).String()+" "+strconv.FormatUint(n, 10))
		}
	}
	return cmp.Or(strings.Join(parts, ", "), unknown)
}

func formatStep(d Duration) string {
	return strings.NewReplacer("m0s", "m", "h0m0s", "h").Replace(time.Duration(d).String())
}

// formatDestination returns the name of a failover's destination; an empty one stands for
// several.
func formatDestination(to string) string { return cmp.Or(to, "other endpoints") }

// formatWho returns the name of the endpoint, or of the pool where it is empty.
func formatWho(endpoint string) string { return cmp.Or(endpoint, "whole pool") }
