package call

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

func TestAskedToWait(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	retryInfo := `{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[
		{"@type":"type.googleapis.com/google.rpc.Help"},
		{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"3.5s"}]}}`
	for _, test := range []struct {
		name   string
		status int
		header []string
		body   string
		want   time.Duration // 0: the answer does not ask us to wait
	}{
		{name: "nothing", status: 429},
		{name: "seconds", status: 429, header: []string{"Retry-After", "7"}, want: 7 * time.Second},
		{name: "date", status: 429, header: []string{"Retry-After", "Sun, 01 Mar 2026 12:00:09 GMT"}, want: 9 * time.Second},
		{name: "far date", status: 503, header: []string{"Retry-After", "Sun, 01 Mar 2026 13:00:00 GMT"}, want: outcome.MaxHold},
		{name: "past date", status: 429, header: []string{"Retry-After", "Sun, 01 Mar 2026 11:00:00 GMT"}},
		{name: "milliseconds before seconds", status: 429, header: []string{"Retry-After-Ms", "1250", "Retry-After", "2"}, want: 1250 * time.Millisecond},
		{name: "too many milliseconds", status: 429, header: []string{"Retry-After-Ms", "1e300"}, want: outcome.MaxHold},
		{name: "no number", status: 429, header: []string{"Retry-After-Ms", "NaN", "Retry-After", "soon"}},
		{name: "OpenAI, requests used up", status: 429, header: []string{
			"X-Ratelimit-Remaining-Requests", "0", "X-Ratelimit-Reset-Requests", "1m30s",
			"X-Ratelimit-Remaining-Tokens", "149984", "X-Ratelimit-Reset-Tokens", "6ms"}, want: 90 * time.Second},
		{name: "OpenAI, none used up", status: 429, header: []string{
			"X-Ratelimit-Remaining-Requests", "59", "X-Ratelimit-Reset-Requests", "1s",
			"X-Ratelimit-Remaining-Tokens", "12", "X-Ratelimit-Reset-Tokens", "7.66s"}, want: time.Second},
		{name: "Groq, both used up", status: 429, header: []string{
			"X-Ratelimit-Remaining-Requests", "0", "X-Ratelimit-Reset-Requests", "2m59.56s",
			"X-Ratelimit-Remaining-Tokens", "0", "X-Ratelimit-Reset-Tokens", "7.66s"}, want: 179560 * time.Millisecond},
		{name: "Anthropic", status: 429, header: []string{
			"Anthropic-Ratelimit-Requests-Remaining", "20", "Anthropic-Ratelimit-Requests-Reset", "2026-03-01T12:00:01Z",
			"Anthropic-Ratelimit-Input-Tokens-Remaining", "0", "Anthropic-Ratelimit-Input-Tokens-Reset", "2026-03-01T12:00:42Z"}, want: 42 * time.Second},
		{name: "OpenRouter, milliseconds", status: 429, header: []string{
			"X-Ratelimit-Remaining", "0", "X-Ratelimit-Reset", "1772366405000"}, want: 5 * time.Second},
		{name: "seconds since 1970", status: 429, header: []string{
			"X-Ratelimit-Remaining", "0", "X-Ratelimit-Reset", "1772366403"}, want: 3 * time.Second},
		{name: "several values", status: 429, header: []string{"Retry-After", "2", "Retry-After", "2.542", "Retry-After", "soon"}, want: 2542 * time.Millisecond},
		{name: "blanks", status: 503, header: []string{"Retry-After-Ms", " +80 "}, want: 80 * time.Millisecond},
		{name: "quotas say nothing of a 503", status: 503, header: []string{
			"X-Ratelimit-Remaining-Requests", "0", "X-Ratelimit-Reset-Requests", "1m30s"}},
		{name: "RetryInfo", status: 429, header: []string{"Content-Type", "application/json; charset=UTF-8"}, body: retryInfo, want: 3500 * time.Millisecond},
		{name: "RetryInfo in a list", status: 429, header: []string{"Content-Type", "application/json"}, body: "[" + retryInfo + "]", want: 3500 * time.Millisecond},
		{name: "RetryInfo in text", status: 429, header: []string{"Content-Type", "text/plain"}, body: retryInfo},
		{name: "no RetryInfo", status: 429, header: []string{"Content-Type", "application/json"}, body: `{"error":{"details":[{"retryDelay":"3s"}]}}`},
	} {
		a := &Attempt{Call: &Call{}, Began: now, client: t.Context()}
		resp := &http.Response{StatusCode: test.status, Header: make(http.Header), Body: io.NopCloser(strings.NewReader(test.body))}
		for i := 0; i < len(test.header); i += 2 {
			resp.Header.Add(test.header[i], test.header[i+1])
		}
		o := outcome.FailedStatus
		if test.status == http.StatusTooManyRequests {
			o = outcome.RateLimited
		}
		if got := a.askedToWait(resp, o, now); got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != test.body {
			t.Errorf("%s: the body is then %q (%v)", test.name, body, err)
		}
	}
}
