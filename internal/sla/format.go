package sla

import (
	"cmp"
	"math"
	"strconv"
	"strings"
	"time"
)

// unknown replaces a missing value in reports.
const unknown = "–"

// formatPercent formats a ratio in percent with three decimals. It rounds down, so a missed
// objective never looks met.
func formatPercent(r float64) string {
	return strconv.FormatFloat(math.Floor(r*1e5+1e-6)/1e3, 'f', 3, 64) + "%"
}

// formatBudget formats what is left of an error budget, in percent.
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
func formatObjective(o Objective, l Language) string {
	var parts []string
	if o.Availability > 0 {
		parts = append(parts, l.say("%s of requests succeed", formatShare(o.Availability)))
	}
	if o.LatencyTarget > 0 {
		parts = append(parts, l.say("%s of successes within %s", formatShare(o.LatencyQuantile), o.LatencyTarget.String()))
	}
	return cmp.Or(strings.Join(parts, l.say(", ")), l.say("none"))
}

// formatShare formats a ratio in percent with up to six decimals, without trailing zeros.
func formatShare(r float64) string {
	return strconv.FormatFloat(math.Round(r*1e8)/1e6, 'f', -1, 64) + "%"
}

// formatFailures formats failures by kind, such as "timed out ×3, connection reset ×1".
func formatFailures(f Failures, l Language) string {
	var parts []string
	for i, n := range f {
		if n > 0 {
			parts = append(parts, l.reason((Dial+Kind(i)).String())+" ×"+strconv.FormatUint(n, 10))
		}
	}
	return cmp.Or(strings.Join(parts, l.say(", ")), unknown)
}

// formatStep formats the length of a step without minutes and seconds that are 0.
func formatStep(d Duration) string {
	return strings.NewReplacer("m0s", "m", "h0m0s", "h").Replace(time.Duration(d).String())
}

// formatDestination formats the destination of failovers. An empty name means several endpoints.
func formatDestination(to string, l Language) string { return cmp.Or(to, l.say("other endpoints")) }

// formatWho formats the name of an endpoint. An empty name means the whole pool.
func formatWho(endpoint string, l Language) string { return cmp.Or(endpoint, l.say("whole pool")) }

// formatCause formats the cause of an incident: why the breaker opened or the pool was down and,
// if it is known, the kind of the latest failure.
func formatCause(cause string, l Language) string {
	reason, last, known := strings.Cut(cause, ", last: ")
	if !known {
		return l.reason(reason)
	}
	return l.say("%s, last: %s", l.reason(reason), l.reason(last))
}
