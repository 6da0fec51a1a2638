package failover

import (
	"net/http"
	"slices"
	"testing"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

func TestMethods(t *testing.T) {
	all := []string{"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "POST", "PATCH", "CONNECT", "QUERY", "get"}
	for _, test := range []struct {
		name  string
		retry Retry
		key   bool
		want  []string
	}{
		{"default", Retry{}, false, all[:6]},
		{"idempotent", Retry{Methods: []string{"idempotent"}}, false, all[:6]},
		{"with an Idempotency-Key", Retry{}, true, all},
		{"any", Retry{Methods: []string{"any"}}, false, all},
		{"a list", Retry{Methods: []string{"POST", "QUERY"}}, false, []string{"POST", "QUERY"}},
		{"a list says it all", Retry{Methods: []string{"GET"}}, true, []string{"GET"}},
	} {
		if err := test.retry.validate(); err != nil {
			t.Fatal(err)
		}
		rules := test.retry.rules()
		for _, method := range all {
			r := &http.Request{Method: method, Header: make(http.Header)}
			if test.key {
				r.Header.Set("Idempotency-Key", "1")
			}
			want := slices.Contains(test.want, method)
			if got := rules.Repeatable(r); got != want {
				t.Errorf("%s: %s may be repeated: %v", test.name, method, got)
			}
			for o := outcome.FailedDial; o < outcome.Cancelled; o++ {
				if got := rules.Allows(r, o); got != (want || o.Unprocessed()) {
					t.Errorf("%s: %s may be repeated after %s: %v", test.name, method, o, got)
				}
			}
		}
	}
}
