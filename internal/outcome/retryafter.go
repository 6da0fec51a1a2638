package outcome

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// MaxHold bounds how long an endpoint can ask us to stay away.
const MaxHold = 5 * time.Minute

// RetryAfter reads how long an answer's Retry-After-Ms or, without one, Retry-After asks to stay
// away, at most MaxHold; false: neither says. Of several values the longest counts.
// Retry-After-Ms is OpenAI's and Azure's finer form of Retry-After.
func RetryAfter(h http.Header, now time.Time) (wait time.Duration, ok bool) {
	for _, value := range h["Retry-After-Ms"] {
		if ms, valid := parseNumber(value); valid && ms > 0 {
			wait, ok = max(wait, waitFor(ms, time.Millisecond)), true
		}
	}
	if ok {
		return wait, true
	}
	for _, value := range h["Retry-After"] {
		if one, valid := ParseRetryAfter(value, now); valid {
			wait, ok = max(wait, one), true
		}
	}
	return wait, ok
}

// ParseRetryAfter reads a Retry-After field as a wait from now, at most MaxHold: seconds, a list
// of them, of which the most count, or a date (RFC 9110, section 10.2.3). Servers also send parts
// of seconds, which are rounded up to a millisecond, a plus sign, and dates in other formats. A
// number below 0 says nothing.
func ParseRetryAfter(value string, now time.Time) (wait time.Duration, ok bool) {
	value = strings.TrimSpace(value)
	if at, isDate := parseDate(value); isDate {
		return min(max(0, at.Sub(now)), MaxHold), true
	}
	for one := range strings.SplitSeq(value, ",") {
		if seconds, valid := parseNumber(one); valid {
			wait, ok = max(wait, waitFor(seconds, time.Second)), true
		}
	}
	return wait, ok
}

// waitFor is a number of units as a wait, at most MaxHold.
func waitFor(number float64, unit time.Duration) time.Duration {
	if number >= float64(MaxHold/unit) {
		return MaxHold
	}
	ms := number * float64(unit/time.Millisecond)
	return time.Duration(math.Ceil(ms-1e-6)) * time.Millisecond // 2.542 has no exact float
}

// parseNumber reads a decimal number that is not below 0, as programs print it.
func parseNumber(value string) (float64, bool) {
	value = strings.TrimSpace(value)
	if strings.Trim(value, "0123456789.eE+-") != "" {
		return 0, false
	}
	number, err := strconv.ParseFloat(value, 64)
	return number, number >= 0 && (err == nil || math.IsInf(number, 1))
}

// dateFormats are those of dates beyond the three of HTTP.
var dateFormats = [...]string{
	"Mon, 2 Jan 2006 15:04:05 GMT",
	"Mon, 2 Jan 2006 15:04:05 UTC",
	"Mon, 2 Jan 2006 15:04:05 -0700", // RFC 5322
	time.RFC3339,
}

// parseDate reads a date.
func parseDate(value string) (time.Time, bool) {
	if value == "" || strings.Trim(value, "0123456789.+-, ") == "" {
		return time.Time{}, false
	}
	if at, err := http.ParseTime(value); err == nil {
		return at, true
	}
	for _, format := range dateFormats {
		if at, err := time.Parse(format, value); err == nil {
			return at, true
		}
	}
	return time.Time{}, false
}
