package dialect_test

import (
	"testing"

	"github.com/apifailover/caddy-failover/internal/dialect"
)

func TestRefusalBody(t *testing.T) {
	down := dialect.Refusal{Status: 503, Type: "service_unavailable", Code: "all_down", Message: "no", RetryAfter: 3}
	held := dialect.Refusal{Status: 429, Type: "rate_limit_exceeded", Code: "all_held", Message: "no", RetryAfter: 3}
	large := dialect.Refusal{Status: 413, Type: "request_too_large", Code: "request_too_large", Message: "no"}
	asks := func(body string) dialect.Refusal {
		r := down
		r.Request = []byte(body)
		return r
	}
	rpc := func(id string) string {
		return `{"error":{"code":-32002,"data":{"reason":"all_down"},"message":"no"},"id":` + id + `,"jsonrpc":"2.0"}`
	}
	for _, test := range []struct {
		api  string
		r    dialect.Refusal
		want string
	}{
		{"", down, `{"error":{"code":"all_down","message":"no","type":"service_unavailable"}}`},
		{"openai", held, `{"error":{"code":"all_held","message":"no","type":"rate_limit_exceeded"}}`},
		{"anthropic", down, `{"error":{"message":"no","type":"overloaded_error"},"type":"error"}`},
		{"anthropic", held, `{"error":{"message":"no","type":"rate_limit_error"},"type":"error"}`},
		{"anthropic", large, `{"error":{"message":"no","type":"request_too_large"},"type":"error"}`},
		{"gemini", down, `{"error":{"code":503,"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"3s"}],"message":"no","status":"UNAVAILABLE"}}`},
		{"gemini", held, `{"error":{"code":429,"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"3s"}],"message":"no","status":"RESOURCE_EXHAUSTED"}}`},
		{"gemini", large, `{"error":{"code":413,"message":"no","status":"INVALID_ARGUMENT"}}`},
		{"jsonrpc", held, `{"error":{"code":-32005,"data":{"reason":"all_held"},"message":"no"},"id":null,"jsonrpc":"2.0"}`},
		{"jsonrpc", large, `{"error":{"code":-32600,"data":{"reason":"request_too_large"},"message":"no"},"id":null,"jsonrpc":"2.0"}`},
		{"jsonrpc", asks(`{"jsonrpc":"2.0","id":7,"method":"eth_call"}`), rpc("7")},
		{"jsonrpc", asks(` {"id":"a\u0031"}`), rpc(`"a\u0031"`)},
		{"jsonrpc", asks(`{"method":"notify"}`), rpc("null")},
		{"jsonrpc", asks(`{"id":`), rpc("null")},
		{"jsonrpc", asks(` [{"id":1},{"method":"notify"},{"id":"b"}]`), "[" + rpc("1") + "," + rpc(`"b"`) + "]"},
		{"jsonrpc", asks(`[]`), rpc("null")},
		{"jsonrpc", asks(`[1]`), rpc("null")},
	} {
		if got := string(dialect.Of(test.api).Body(&test.r)); got != test.want {
			t.Errorf("api %s, %d, %s: %s, want %s", test.api, test.r.Status, test.r.Request, got, test.want)
		}
	}
}
