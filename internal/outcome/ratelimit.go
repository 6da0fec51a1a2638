package outcome

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/apifailover/caddy-failover/internal/jsondoc"
)

// quotas are the pairs of header fields in which providers state the rest of a quota and
// when it is full again.
//
//   - OpenAI, Azure OpenAI, Groq: X-Ratelimit-*-Requests and -Tokens, a duration (6m0s)
//     https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers
//   - Anthropic: Anthropic-Ratelimit-*, a time (RFC 3339)
//     https://docs.anthropic.com/en/api/rate-limits#response-headers
//   - OpenRouter, GitHub: X-Ratelimit-Reset, a time (Unix, milliseconds or seconds)
//     https://openrouter.ai/docs/api-reference/limits
//   - drafts of the IETF up to 06: Ratelimit-Reset, in seconds
//     https://www.ietf.org/archive/id/draft-ietf-httpapi-ratelimit-headers-06.txt
var quotas = [...]struct{ remaining, reset string }{
	{"X-Ratelimit-Remaining-Requests", "X-Ratelimit-Reset-Requests"},
	{"X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Tokens"},
	{"Anthropic-Ratelimit-Requests-Remaining", "Anthropic-Ratelimit-Requests-Reset"},
	{"Anthropic-Ratelimit-Tokens-Remaining", "Anthropic-Ratelimit-Tokens-Reset"},
	{"Anthropic-Ratelimit-Input-Tokens-Remaining", "Anthropic-Ratelimit-Input-Tokens-Reset"},
	{"Anthropic-Ratelimit-Output-Tokens-Remaining", "Anthropic-Ratelimit-Output-Tokens-Reset"},
	{"X-Ratelimit-Remaining", "X-Ratelimit-Reset"},
	{"Ratelimit-Remaining", "Ratelimit-Reset"},
}

// QuotaReset returns how long it takes until all quotas that are used up are full again,
// at most MaxHold. If no quota says that it is used up, the shortest reset counts. ok is
// false if no header names a reset in the future.
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
	for _, q := range quotas {
		if reset, valid := parseReset(h.Get(q.reset), now); valid {
			left, stated := parseAmount(h.Get(q.remaining))
			take(reset, stated && left == 0)
		}
	}
	if _, left, reset, stated := parseRateLimit(h["Ratelimit"]); stated {
		take(reset, left == 0)
	}
	if wait == 0 {
		wait = shortest
	}
	return min(wait, MaxHold), wait > 0
}

// parseReset reads a duration (6m0s), a number of seconds, or a time (RFC 3339, or
// Unix in seconds or milliseconds) as a wait from now.
func parseReset(value string, now time.Time) (time.Duration, bool) {
	if value == "" {
		return 0, false
	}
	if number, err := strconv.ParseFloat(value, 64); err == nil {
		switch {
		case !(number >= 0 && number < 1e15):
			return 0, false
		case number > 1e11:
			return time.UnixMilli(int64(number)).Sub(now), true
		case number > 1e8:
			return time.Unix(int64(number), 0).Sub(now), true
		}
		return time.Duration(min(number, MaxHold.Seconds()) * float64(time.Second)), true
	}
	if wait, err := time.ParseDuration(value); err == nil {
		return wait, true
	}
	if at, err := time.Parse(time.RFC3339, value); err == nil {
		return at.Sub(now), true
	}
	return 0, false
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
