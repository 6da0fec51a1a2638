package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
)

// TestRefusalsHaveTheShapeOfTheAPI checks that a refusal has a status, a Retry-After and the form of the API's own
// errors if the client accepts JSON or has no Accept, and that it is text otherwise.
func TestRefusalsHaveTheShapeOfTheAPI(t *testing.T) {
	const request = `{"jsonrpc":"2.0","id":"a1","method":"eth_call","model":"x"}`
	for _, test := range []struct{ api, down, held string }{
		{"", `{"error":{"code":"all_down","message":"*","type":"service_unavailable"}}`, `{"error":{"code":"all_held","message":"*","type":"rate_limit_exceeded"}}`},
		{"openai", `{"error":{"code":"all_down","message":"*","type":"service_unavailable"}}`, `{"error":{"code":"all_held","message":"*","type":"rate_limit_exceeded"}}`},
		{"anthropic", `{"error":{"message":"*","type":"overloaded_error"},"type":"error"}`, `{"error":{"message":"*","type":"rate_limit_error"},"type":"error"}`},
		{"gemini", `{"error":{"code":503,"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"*s"}],"message":"*","status":"UNAVAILABLE"}}`,
			`{"error":{"code":429,"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"*s"}],"message":"*","status":"RESOURCE_EXHAUSTED"}}`},
		{"jsonrpc", `{"error":{"code":-32002,"data":{"reason":"all_down"},"message":"*"},"id":"a1","jsonrpc":"2.0"}`,
			`{"error":{"code":-32005,"data":{"reason":"all_held"},"message":"*"},"id":"a1","jsonrpc":"2.0"}`},
	} {
		t.Run("api "+test.api, func(t *testing.T) {
			options := ""
			if test.api != "" {
				options = "api " + test.api
			}
			one := newAPI(t, "one")
			p := startCaddy(t, edited("api", options, []*api{one}, "limit 1 requests per 1h"))
			p.call(http.MethodPost, "/", request, "Content-Type", "application/json").want(t, "the first call", 200, "one"+digest(request))
			refused := func(status int, want string) {
				t.Helper()
				for _, accept := range []string{"", "*/*", "application/json"} {
					got := p.call(http.MethodPost, "/", request, "Content-Type", "application/json", "Accept", accept)
					after := got.header.Get("Retry-After")
					if got.status != status || after == "" || got.header.Get("Content-Type") != "application/json" {
						t.Errorf("accepting %q: %d, %v", accept, got.status, got.header)
					}
					if text := anyMessage(t, got.body, after); text != want {
						t.Errorf("accepting %q: %s, want %s", accept, text, want)
					}
				}
				got := p.call(http.MethodPost, "/", request, "Accept", "text/html")
				if got.status != status || got.header.Get("Retry-After") == "" || json.Valid([]byte(got.body)) {
					t.Errorf("accepting HTML: %d, %v, %s", got.status, got.header, got.body)
				}
			}
			refused(http.StatusTooManyRequests, test.held)
			p.order(http.MethodPost, "api/endpoints/one/trip", "")
			refused(http.StatusServiceUnavailable, test.down)
		})
	}
}

// anyMessage returns an error with * in place of its message and of the seconds until another try.
func anyMessage(t *testing.T, body, after string) string {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal([]byte(body), &all); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	one, _ := all["error"].(map[string]any)
	if message, ok := one["message"].(string); ok && strings.Contains(message, "API") {
		one["message"] = "*"
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), fmt.Sprintf(`"retryDelay":"%ss"`, after), `"retryDelay":"*s"`)
}

// TestRefusedGRPC checks that a refused gRPC client gets a gRPC status with a message, and a Retry-After.
func TestRefusedGRPC(t *testing.T) {
	one := newGRPC(t, "one")
	p := startCaddy(t, overKeyedGRPC("", "limit 1 requests per 1h", one))
	cc := p.dialGRPC()
	wantUnary(t, cc, "one")
	refused := func(code codes.Code) {
		t.Helper()
		var header, trailer metadata.MD
		_, err := unary(t.Context(), cc, "hi", grpc.Header(&header), grpc.Trailer(&trailer))
		if s := grpcstatus.Convert(err); s.Code() != code || !strings.Contains(s.Message(), `API "api"; try again in`) {
			t.Errorf("got %v", err)
		}
		if len(header["retry-after"])+len(trailer["retry-after"]) == 0 {
			t.Errorf("no Retry-After in %v and %v", header, trailer)
		}
	}
	refused(codes.ResourceExhausted)
	p.order(http.MethodPost, "api/endpoints/one/trip", "")
	refused(codes.Unavailable)
}
