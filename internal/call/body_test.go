package call

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestRecordsOnlyRepeatableBodies checks that a body is kept only if it may be sent again.
func TestRecordsOnlyRepeatableBodies(t *testing.T) {
	for _, test := range []struct {
		name   string
		method string
		rules  RetryRules
		quotas bool
		keeps  bool
	}{
		{"idempotent", "PUT", RetryRules{Attempts: 3, Buffer: 10}, false, true},
		{"not idempotent", "POST", RetryRules{Attempts: 3, Buffer: 10}, false, false},
		{"not idempotent, but an endpoint may refuse it", "POST", RetryRules{Attempts: 3, Buffer: 10}, true, true},
		{"any", "POST", RetryRules{Attempts: 3, Buffer: 10, Any: true}, false, true},
		{"one attempt", "PUT", RetryRules{Attempts: 1, Buffer: 10}, true, false},
	} {
		h := &Handler{Rules: Rules{Retry: test.rules, HasQuotas: test.quotas}}
		r, err := http.NewRequest(test.method, "http://api.test/", strings.NewReader("0123"))
		if err != nil {
			t.Fatal(err)
		}
		if kept := h.recordingOptions(r).Limit >= 0; kept != test.keeps {
			t.Errorf("%s: the body is kept: %v", test.name, kept)
		}
	}
	for _, body := range []io.ReadCloser{nil, http.NoBody} {
		if rec := new(Handler).record(&http.Request{Body: body}); rec != nil {
			t.Error("a request without a body has a recording")
		}
	}
}
