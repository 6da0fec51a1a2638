package outcome

import (
	"cmp"
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/apifailover/caddy-failover/internal/jsondoc"
)

// QuotaReset returns how long it takes until all quotas that are used up are full again,
// at most MaxHold. If no quota says that it is used up, the shortest reset counts. ok is
// false if no header names a reset in the future. It reads all fields whose names have the form of
//
//   - X-Ratelimit-Reset-Tokens, a duration (OpenAI, Azure OpenAI, Groq), seconds or a time
//     https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers
//   - Anthropic-Ratelimit-Tokens-Reset, a time
//     https://docs.anthropic.com/en/api/rate-limits#response-headers
//   - X-Ratelimit-Reset or X-Rate-Limit-Reset, a time (GitHub, OpenRouter) or seconds
//     https://openrouter.ai/docs/api-reference/limits
//   - Ratelimit-Reset, in seconds: drafts of the IETF up to 06
//     https://www.ietf.org/archive/id/draft-ietf-httpapi-ratelimit-headers-06.txt
//
// and RateLimit.
func QuotaReset(h http.Header, now time.Time) (wait time.Duration, ok bool) {
	var shortest time.Duration
	take := func(reset time.Duration, usedUp bool) {
		if reset <= 0 {
			return
		}
		if usedUp {
			wait = max(wait, reset)
		}
		if shortest == 0 || reset < shortest {
			shortest = reset
		}
	}
	at := serverTime(h, now)
	for name := range h {
		if !strings.Contains(name, "Ratelimit") && !strings.Contains(name, "Rate-Limit") || !strings.Contains(name, "Reset") {
			continue
		}
		if reset, valid := parseReset(strings.TrimSpace(h.Get(name)), at); valid {
			left, stated := parseAmount(h.Get(strings.Replace(name, "Reset", "Remaining", 1)))
			take(reset, stated && left == 0)
		}
	}
	if _, _, left, reset, stated := parseRateLimit(h["Ratelimit"]); stated {
		take(reset, left == 0)
	}
	if wait == 0 {
		wait = shortest
	}
	return min(wait, MaxHold), wait > 0
}

// parseReset reads a duration (6m0s, 1d2h), a number of seconds, or a time (a date of HTTP, RFC 3339,
// or Unix in seconds to nanoseconds) as a wait from now.
func parseReset(value string, now time.Time) (time.Duration, bool) {
	if value == "" {
		return 0, false
	}
	if number, err := strconv.ParseFloat(value, 64); err == nil {
		switch {
		case !(number >= 0 && number < 1e19):
			return 0, false
		case number > 1e8:
			perSecond := 1.0
			for number/perSecond > 1e11 {
				perSecond *= 1000
			}
			seconds, part := math.Modf(number / perSecond)
			return waitUntil(time.Unix(int64(seconds), int64(part*float64(time.Second))), now)
		}
		return time.Duration(min(number, MaxHold.Seconds()) * float64(time.Second)), true
	}
	if wait, err := time.ParseDuration(value); err == nil {
		return wait, true
	}
	if days, rest, ok := strings.Cut(value, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		wait, restErr := time.ParseDuration(cmp.Or(rest, "0s"))
		if err == nil && restErr == nil {
			return time.Duration(n)*24*time.Hour + wait, true
		}
	}
	if at, ok := parseDate(value); ok {
		return waitUntil(at, now)
	}
	return 0, false
}

// waitUntil returns the wait until a time; 0 and false if that is more than a year ahead, so not meant.
func waitUntil(at, now time.Time) (time.Duration, bool) {
	if wait := at.Sub(now); wait < 366*24*time.Hour {
		return wait, true
	}
	return 0, false
}

// clockError is the largest difference between a server's Date and our clock that says nothing: the
// response took that long.
const clockError = 10 * time.Second

// serverTime returns now by the clock of the server that sent a response, for times that it states: its
// Date, unless our clock says about the same or a cache sent the response.
func serverTime(h http.Header, now time.Time) time.Time {
	at, err := http.ParseTime(h.Get("Date"))
	if err != nil || h.Get("Age") != "" || at.Sub(now).Abs() <= clockError {
		return now
	}
	return at
}

// ParseRetryInfo reads the retry delay from an error of Google's APIs, at most MaxHold.
// https://cloud.google.com/apis/design/errors#error_details
func ParseRetryInfo(body []byte) (time.Duration, bool) {
	if jsondoc.Check(body, jsondoc.MaxDepth) != nil {
		return 0, false
	}
	type status struct {
		Error struct {
			Details []struct {
				Type       string `json:"@type"`
				RetryDelay string `json:"retryDelay"`
			} `json:"details"`
		} `json:"error"`
	}
	var all []status
	if json.Unmarshal(body, &all) != nil { // a stream sends a list of errors
		all = make([]status, 1)
		if json.Unmarshal(body, &all[0]) != nil {
			return 0, false
		}
	}
	for _, s := range all {
		for _, d := range s.Error.Details {
			if d.Type != "type.googleapis.com/google.rpc.RetryInfo" {
				continue
			}
			if wait, err := time.ParseDuration(d.RetryDelay); err == nil && wait > 0 {
				return min(wait, MaxHold), true
			}
		}
	}
	return 0, false
}
