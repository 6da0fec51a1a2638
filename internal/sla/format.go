package sla

import (
	"cmp"
	"math"
	"strconv"
	"strings"
	"time"
)

// unknown is what reports show where there is nothing to show.
const unknown = "–"

// formatPercent returns r to three decimals, rounded down, so that what was missed
// never looks met.
func formatPercent(r float64) string {
	return strconv.FormatFloat(math.Floor(r*1e5+1e-6)/1e3, 'f', 3, 64) + "%"
}

// formatBudget returns the part of an error budget that is left.
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

// formatLatency returns d to three digits.
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

// formatObjective returns an objective in words.
func formatObjective(o Objective) string {
	var parts []string
	if o.Availability > 0 {
		parts = append(parts, formatShare(o.Availability)+" of calls succeed")
	}
	if o.LatencyTarget > 0 {
		parts = append(parts, formatShare(o.LatencyQuantile)+" of successes within "+o.LatencyTarget.String())
	}
	return cmp.Or(strings.Join(parts, ", "), "none")
}

// formatShare returns r in percent with the digits it has.
func formatShare(r float64) string {
	return strconv.FormatFloat(math.Round(r*1e8)/1e6, 'f', -1, 64) + "%"
}

// formatFailures returns failures by kind, such as "timeout 3, reset 1".
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

// formatDestination returns where calls failed over to.
func formatDestination(to string) string { return cmp.Or(to, "other endpoints") }

// formatWho returns whose incident it was.
func formatWho(endpoint string) string { return cmp.Or(endpoint, "whole pool") }
