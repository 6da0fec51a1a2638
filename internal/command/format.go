package command

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// formatBudget writes what is left of an error budget.
func formatBudget(left float64) string {
	if left < 0 {
		return "overspent by " + formatPart(-left)
	}
	return formatPart(left) + " left"
}

// formatScore writes a score. An endpoint that gets no requests has none.
func formatScore(score, share float64) string {
	if share == 0 {
		return "-"
	}
	return strconv.FormatFloat(score, 'f', 2, 64)
}

// formatPart writes a part of 1 in percent, rounded to one decimal.
func formatPart(part float64) string {
	return strconv.FormatFloat(math.Round(1000*part)/10, 'f', -1, 64) + "%"
}

// formatPercent writes a part of 1 in percent, rounded down to three decimals, so a missed objective
// never looks met.
func formatPercent(part float64) string {
	return strconv.FormatFloat(math.Floor(1e5*part+1e-6)/1e3, 'f', -1, 64) + "%"
}

func formatRate(rate float64) string { return strconv.FormatFloat(math.Round(rate*10)/10, 'f', -1, 64) }

// formatSeconds writes a duration with three significant digits; "-" if it is unknown.
func formatSeconds(seconds float64) string {
	if seconds <= 0 {
		return "-"
	}
	d := time.Duration(seconds * float64(time.Second))
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit).String()
}

// formatWait writes the time from now to until in whole seconds; 0s if it has passed.
func formatWait(until, now time.Time) string {
	return max(0, until.Sub(now)).Round(time.Second).String()
}

// formatDuration writes a duration without trailing units that are 0: 1m, not 1m0s.
func formatDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// formatTime writes a time in the local zone, with the zone.
func formatTime(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 MST") }
