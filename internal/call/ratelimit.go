package call

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

// askedToWait reads how long an answer asks us to stay away, at most outcome.MaxHold.
// Retry-After-Ms is OpenAI's and Azure's finer form of Retry-After; the others are
// where providers say it of a 429 that lacks both.
func askedToWait(a *Attempt, resp *http.Response, now time.Time) (time.Duration, bool) {
	if ms, err := strconv.ParseFloat(resp.Header.Get("Retry-After-Ms"), 64); err == nil && ms > 0 {
		return time.Duration(min(ms, float64(outcome.MaxHold.Milliseconds())) * float64(time.Millisecond)), true
	}
	if wait, ok := outcome.ParseRetryAfter(resp.Header.Get("Retry-After"), now); ok {
		return wait, true
	}
	if resp.StatusCode != http.StatusTooManyRequests {
		return 0, false
	}
	if wait, ok := outcome.QuotaReset(resp.Header, now); ok {
		return wait, true
	}
	if strings.Contains(resp.Header.Get("Content-Type"), "json") {
		return outcome.ParseRetryInfo(decoded(resp, a.peek(resp, bodyLooks)))
	}
	return 0, false
}
