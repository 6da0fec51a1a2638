package outcome

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// MaxHold is the longest hold that an endpoint can ask for.
const MaxHold = 5 * time.Minute

// RetryAfter reads how long a response asks to wait, at most MaxHold: its Retry-After-Ms
// (OpenAI, Azure OpenAI) or, without one, its Retry-After. The longest of several values
// counts. ok is false if there is no valid value.
func RetryAfter(h http.Header, now time.Time) (wait time.Duration, ok bool) {
	for _, value := range h["Retry-After-Ms"] {
		if ms, valid := parseNumber(value); valid && ms > 0 {
			wait, ok = max(wait, waitFor(ms, time.Millisecond)), true
		}
	}
	if ok {
		return wait, true
	}
	at := serverTime(h, now)
	for _, value := range h["Retry-After"] {
		if one, valid := parseRetryAfter(value, at); valid {
			wait, ok = max(wait, one), true
		}
	}
	return wait, ok
}

// parseRetryAfter reads a Retry-After field as a wait from now, at most MaxHold: seconds or
// a date (RFC 9110, section 10.2.3). It also takes what servers send beyond the RFC: lists,
// of which the longest counts, fractions, rounded up to a millisecond, a plus sign, and
// other date formats. A number below 0 is invalid.
func parseRetryAfter(value string, now time.Time) (wait time.Duration, ok bool) {
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

// waitFor returns number units as a duration, rounded up to a millisecond, at most MaxHold.
func waitFor(number float64, unit time.Duration) time.Duration {
	if number >= float64(MaxHold/unit) {
		return MaxHold
	}
	ms := number * float64(unit/time.Millisecond)
	return time.Duration(math.Ceil(ms-1e-6)) * time.Millisecond // 2.542 has no exact float
}

// parseNumber reads a decimal number of 0 or more, also with an exponent.
func parseNumber(value string) (float64, bool) {
	value = strings.TrimSpace(value)
	if strings.Trim(value, "0123456789.eE+-") != "" {
		return 0, false
	}
	number, err := strconv.ParseFloat(value, 64)
	return number, number >= 0 && (err == nil || math.IsInf(number, 1))
}

// dateFormats are accepted besides the three formats of HTTP.
var dateFormats = [...]string{
	"Mon, 2 Jan 2006 15:04:05 GMT",
	"Mon, 2 Jan 2006 15:04:05 UTC",
	"Mon, 2 Jan 2006 15:04:05 -0700", // RFC 5322
	time.RFC3339,
}

// parseDate reads a date in one of the formats of HTTP or in dateFormats.
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
