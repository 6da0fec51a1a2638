package e2e

import (
	"net/http"
	"testing"
	"time"
)

// TestWaitsForRetryAfter checks that a call waits for a short Retry-After and tries the same endpoint again, and that
// it moves on at once from an endpoint with a long one.
func TestWaitsForRetryAfter(t *testing.T) {
	for _, test := range []struct {
		name          string
		retry         string
		header, value string
		want          string
		least         time.Duration // shortest time of the call, with some tolerance; 0: it does not wait
	}{
		{"at most D", "wait_retry_after 30s", "Retry-After-Ms", "600", "one", 400 * time.Millisecond},
		{"longer than D", "wait_retry_after 500ms", "Retry-After", "60", "two", 0},
		{"not by default", "attempts 3", "Retry-After-Ms", "600", "two", 0},
		{"not past the deadline", "wait_retry_after 60s\ndeadline 20s", "Retry-After", "40", "two", 0},
		{"same endpoint, no Retry-After", "same_endpoint 1\nbackoff 50ms", "X-Nothing", "", "one", 0},
		{"same endpoint, Retry-After", "same_endpoint 1\nbackoff 50ms", "Retry-After", "60", "two", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			one.behave(func(w http.ResponseWriter, r *http.Request) {
				if one.hits.Load()%2 == 1 {
					w.Header().Set(test.header, test.value)
					w.WriteHeader(http.StatusTooManyRequests)
					return
				}
				one.fine(w, r)
			})
			p := startCaddy(t, site("quota endpoint\nretry {\n"+test.retry+"\n}", one, two))
			began := time.Now()
			p.get().want(t, "the call", 200, test.want)
			took := time.Since(began)
			if took < test.least {
				t.Errorf("took %v, less than the endpoint asked for", took)
			}
			if test.least == 0 && took > 15*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// TestClientLeavesWhileWaiting checks that the wait ends when the client leaves.
func TestClientLeavesWhileWaiting(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.answer(http.StatusTooManyRequests, "Retry-After", "60")
	p := startCaddy(t, site("quota endpoint\nretry {\nwait_retry_after 60s\n}", one, two))
	leave, left := p.leaving(http.MethodGet, "/")
	eventually(t, "the call waits", func() bool { return p.one("one").Attempts == 2 })
	leave()
	if err := receive(t, "the client's end", left); err == nil {
		t.Error("the call was answered")
	}
	p.wantTotals("one", totals{Attempts: 2, Failures: 1, Cancelled: 1})
	if hits := two.hits.Load(); hits != 0 {
		t.Errorf("two got %d requests", hits)
	}
}
