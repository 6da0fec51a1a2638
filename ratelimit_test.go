package failover

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
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
		want   time.Duration // 0: nothing was asked
	}{
		{name: "nothing", status: 429},
		{name: "seconds", status: 429, header: []string{"Retry-After", "7"}, want: 7 * time.Second},
		{name: "date", status: 429, header: []string{"Retry-After", "Sun, 01 Mar 2026 12:00:09 GMT"}, want: 9 * time.Second},
		{name: "far date", status: 503, header: []string{"Retry-After", "Sun, 01 Mar 2026 13:00:00 GMT"}, want: maxHold},
		{name: "past date", status: 429, header: []string{"Retry-After", "Sun, 01 Mar 2026 11:00:00 GMT"}},
		{name: "milliseconds before seconds", status: 429, header: []string{"Retry-After-Ms", "1250", "Retry-After", "2"}, want: 1250 * time.Millisecond},
		{name: "too many milliseconds", status: 429, header: []string{"Retry-After-Ms", "1e300"}, want: maxHold},
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
		{name: "quotas say nothing of a 503", status: 503, header: []string{
			"X-Ratelimit-Remaining-Requests", "0", "X-Ratelimit-Reset-Requests", "1m30s"}},
		{name: "RetryInfo", status: 429, header: []string{"Content-Type", "application/json; charset=UTF-8"}, body: retryInfo, want: 3500 * time.Millisecond},
		{name: "RetryInfo in a list", status: 429, header: []string{"Content-Type", "application/json"}, body: "[" + retryInfo + "]", want: 3500 * time.Millisecond},
		{name: "RetryInfo in text", status: 429, header: []string{"Content-Type", "text/plain"}, body: retryInfo},
		{name: "no RetryInfo", status: 429, header: []string{"Content-Type", "application/json"}, body: `{"error":{"details":[{"retryDelay":"3s"}]}}`},
	} {
		a := &attempt{call: &call{}, began: now, client: t.Context()}
		resp := &http.Response{StatusCode: test.status, Header: make(http.Header), Body: io.NopCloser(strings.NewReader(test.body))}
		for i := 0; i < len(test.header); i += 2 {
			resp.Header.Set(test.header[i], test.header[i+1])
		}
		if got, _ := askedToWait(a, resp, now); got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != test.body {
			t.Errorf("%s: the body is %q (%v) after that", test.name, body, err)
		}
	}
}

// TestWaitsForRetryAfter wants a short Retry-After waited for and a long one not.
func TestWaitsForRetryAfter(t *testing.T) {
	limited := func(a *api, header ...string) {
		a.behave(func(w http.ResponseWriter, r *http.Request) {
			if a.hits.Load()%2 == 1 {
				for i := 0; i < len(header); i += 2 {
					w.Header().Set(header[i], header[i+1])
				}
				w.WriteHeader(http.StatusTooManyRequests)
				return
			}
			a.fine(w, r)
		})
	}
	for _, test := range []struct {
		name          string
		retry, header string
		value         string
		want          string
		least, most   time.Duration
	}{
		{"at most D", "wait_retry_after 500ms", "Retry-After-Ms", "200", "one", 200 * time.Millisecond, 450 * time.Millisecond},
		{"longer than D", "wait_retry_after 500ms", "Retry-After", "1", "two", 0, 190 * time.Millisecond},
		{"not by default", "attempts 3", "Retry-After-Ms", "200", "two", 0, 190 * time.Millisecond},
		{"not past the deadline", "wait_retry_after 500ms\ndeadline 150ms", "Retry-After-Ms", "200", "two", 0, 150 * time.Millisecond},
		{"same endpoint, no Retry-After", "same_endpoint 1\nbackoff 50ms", "X-Nothing", "", "one", 0, 190 * time.Millisecond},
		{"same endpoint, Retry-After", "same_endpoint 1\nbackoff 50ms", "Retry-After", "1", "two", 0, 190 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			limited(one, test.header, test.value)
			p := startCaddy(t, site("quota endpoint\nretry {\n"+test.retry+"\n}", one, two))
			began := time.Now()
			status, body := p.get("/")
			took := time.Since(began)
			if status != 200 || body != test.want {
				t.Errorf("got %d %q", status, body)
			}
			if took < test.least || took > test.most {
				t.Errorf("took %v", took)
			}
		})
	}
}

// TestClientLeavesWhileWaiting wants the wait to end with its client.
func TestClientLeavesWhileWaiting(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.answer(http.StatusTooManyRequests, "Retry-After", "60")
	p := startCaddy(t, site("quota endpoint\nretry {\nwait_retry_after 60s\n}", one, two))
	ctx, leave := context.WithCancel(t.Context())
	request, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://api.test/", nil)
	left := make(chan error)
	go func() {
		resp, err := p.client.Do(request)
		if err == nil {
			resp.Body.Close()
		}
		left <- err
	}()
	state := stateOf(t, "api", "one")
	eventually(t, time.Second, "the call waits", func() bool { return state.totalsNow().Attempts == 2 })
	leave()
	if err := <-left; err == nil {
		t.Error("the call was answered")
	}
	took := eventually(t, time.Second, "nothing is in flight", func() bool { return state.busy.Load() == 0 })
	if got := state.totalsNow(); got != (totals{Attempts: 2, Failures: 1, Cancelled: 1}) || two.hits.Load() != 0 {
		t.Errorf("totals are %+v after %v; two was asked %d times", got, took, two.hits.Load())
	}
}
