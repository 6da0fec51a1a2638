package dialect_test

import (
	"net/http"
	"testing"

	"github.com/apifailover/caddy-failover/internal/answer"
	"github.com/apifailover/caddy-failover/internal/dialect"
)

// TestUsage: documented responses state these tokens, by their own dialect and by AnyUsage.
func TestUsage(t *testing.T) {
	const events = "text/event-stream"
	for _, test := range []struct {
		name, api, kind, body string
		want                  int64 // 0: none
	}{
		{"a completion", "openai", asJSON, `{"id":"x","choices":[{"message":{"content":"{\"usage\":{\"total_tokens\":99}}"}}],"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,
			"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}`, 29},
		{"a stream", "openai", events, "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}],\"usage\":null}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":10,\"total_tokens\":29}}\n\ndata: [DONE]\n\n", 29},
		{"a stream without usage", "openai", events, "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\ndata: [DONE]\n\n", 0},
		{"a response", "openai", asJSON, `{"object":"response","output":[],"usage":{"input_tokens":36,"output_tokens":87,"total_tokens":123}}`, 123},
		{"a response's stream", "openai", events, "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"usage\":null}}\n\n" +
			"event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"output\":[],\"usage\":{\"input_tokens\":36,\"output_tokens\":87,\"total_tokens\":123}}}\n\n", 123},
		{"embeddings", "openai", asJSON, `{"object":"list","data":[{"embedding":[0.1,-0.2]}],"usage":{"prompt_tokens":8,"total_tokens":8}}`, 8},
		{"no total", "openai", asJSON, `{"usage":{"prompt_tokens":8,"completion_tokens":3}}`, 11},
		{"a message", "anthropic", asJSON, `{"type":"message","content":[{"type":"text","text":"Hi"}],"usage":{"input_tokens":2095,"output_tokens":503,"cache_creation_input_tokens":20,"cache_read_input_tokens":300,
			"cache_creation":{"ephemeral_5m_input_tokens":20}}}`, 2918},
		{"a message's stream", "anthropic", events, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"content\":[],\"usage\":{\"input_tokens\":25,\"cache_read_input_tokens\":7,\"output_tokens\":1}}}\n\n" +
			"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":15}}\n\n", 47},
		{"a stream that states all at its end", "anthropic", events, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":472,\"output_tokens\":2}}}\n\n" +
			"event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"input_tokens\":10682,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\"output_tokens\":510}}\n\n", 11192},
		{"generated content", "gemini", asJSON, `{"candidates":[],"usageMetadata":{"promptTokenCount":4,"candidatesTokenCount":20,"thoughtsTokenCount":6,"totalTokenCount":30}}`, 30},
		{"a list as a stream", "gemini", asJSON, `[{"candidates":[],"usageMetadata":{"promptTokenCount":4,"totalTokenCount":4}},` + "\r\n" + `{"usageMetadata":{"promptTokenCount":4,"candidatesTokenCount":20,"totalTokenCount":24}}]`, 24},
		{"a stream of events", "gemini", events, "data: {\"usageMetadata\":{\"totalTokenCount\":4}}\r\n\r\ndata: {\"usageMetadata\":{\"totalTokenCount\":24}}\r\n\r\n", 24},
		{"an error", "openai", asJSON, `{"error":{"message":"no","type":"x"}}`, 0},
	} {
		own, any := dialect.Of(test.api).Usage, dialect.AnyUsage()
		for by, u := range map[string]dialect.Usage{test.api: own, "any": any} {
			usage := answer.NewUsageRule(u.Total, u.Parts).Read(http.Header{"Content-Type": {test.kind}})
			usage.Add([]byte(test.body))
			if got, ok := usage.Tokens(); got != test.want || ok != (test.want > 0) {
				t.Errorf("%s, by %s: %d, want %d", test.name, by, got, test.want)
			}
		}
	}
	if rpc := dialect.Of("jsonrpc").Usage; !rpc.IsZero() {
		t.Error("calls of jsonrpc have tokens")
	}
}
