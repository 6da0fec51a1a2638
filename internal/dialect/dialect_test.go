package dialect_test

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"testing"

	"github.com/apifailover/caddy-failover/internal/answer"
	"github.com/apifailover/caddy-failover/internal/dialect"
	"github.com/apifailover/caddy-failover/internal/jsondoc"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// rules returns the rules of a dialect.
func rules(t testing.TB, name string) *answer.Rules {
	t.Helper()
	d := dialect.Of(name)
	var list []answer.Rule
	for _, a := range d.Answers {
		rule := ruleOf(t, &a)
		rule.First = d.FirstElement
		if a.Unless != nil {
			unless := ruleOf(t, &dialect.Answer{Status: a.Status, JSON: a.Unless.JSON, Match: a.Unless.Match, As: a.As})
			rule.Unless = &unless
		}
		list = append(list, rule)
	}
	return answer.NewRules(list)
}

func ruleOf(t testing.TB, a *dialect.Answer) (rule answer.Rule) {
	t.Helper()
	var err error
	if rule.Status, err = outcome.ParseStatusSet([]string{a.Status}); err != nil {
		t.Fatal(err)
	}
	if a.JSON != "" {
		if rule.Path, err = jsondoc.ParsePath(a.JSON); err != nil {
			t.Fatal(err)
		}
	}
	if a.Match != "" {
		rule.Text = regexp.MustCompile(a.Match)
	}
	var ok bool
	if rule.As, ok = answer.ParseMeaning(a.As); !ok {
		t.Fatalf("unknown meaning %s", a.As)
	}
	return rule
}

// meaning returns the meaning that a dialect gives a response; "": none, so its status decides.
func meaning(t *testing.T, name string, status int, kind, body string) string {
	t.Helper()
	rule, e := rules(t, name).Examine(status, http.Header{"Content-Type": {kind}})
	if e != nil {
		for i := range len(body) {
			if e.Add([]byte{body[i]}) {
				break
			}
		}
		e.End()
		rule = e.Matched()
	}
	if rule == nil {
		return ""
	}
	return rule.As.String()
}

const (
	asJSON   = "application/json"
	asEvents = "text/event-stream"
)

// TestShapes: documented responses of each provider have the right meaning.
func TestShapes(t *testing.T) {
	const role = `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}` + "\n\n"
	const start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[]}}\n\n"
	for _, test := range []struct {
		api    string
		status int
		kind   string
		body   string
		want   string
	}{
		{"openai", 200, asJSON, `{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"server_error"},"finish_reason":"stop"}],"error":null}`, ""},
		{"openai", 429, asJSON, `{"error":{"message":"Rate limit reached for requests","type":"requests","param":null,"code":"rate_limit_exceeded"}}`, "held"},
		{"openai", 429, asJSON, `{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}`, "denied"},
		{"openai", 429, asJSON, `{"error":{"message":"No credit","type":"billing","param":null,"code":"credit_balance_exhausted"}}`, "denied"},
		{"openai", 400, asJSON, `{"error":{"message":"Billing hard limit has been reached","type":"invalid_request_error","param":null,"code":"billing_hard_limit_reached"}}`, "denied"},
		{"openai", 503, asJSON, `{"error":{"message":"Slow down","type":"service_unavailable_error","param":null,"code":"slow_down"}}`, "held"},
		{"openai", 503, asJSON, `{"error":{"message":"Overloaded","type":"service_unavailable_error","param":null,"code":"server_is_overloaded"}}`, "failure"},
		{"openai", 200, asJSON, `{"error":{"message":"The server had an error","type":"server_error","param":null,"code":null}}`, "failure"},
		{"openai", 200, asEvents, "data: {\"error\":{\"message\":\"The server had an error\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n", "failure"},
		{"openai", 200, asEvents, role + "data: {\"error\":{\"message\":\"Rate limit reached\",\"type\":\"tokens\",\"code\":\"rate_limit_exceeded\"}}\n\n", "held"},
		{"openai", 200, asEvents, "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"status\":\"in_progress\",\"error\":null}}\n\n" +
			"event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"no\",\"param\":null,\"sequence_number\":1}\n\n", "failure"},
		{"openai", 200, asEvents, "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"id\":\"resp_1\",\"status\":\"failed\",\"error\":{\"code\":\"rate_limit_exceeded\",\"message\":\"no\"}}}\n\n", "held"},
		{"openai", 200, asJSON, `{"id":"resp_1","object":"response","status":"failed","error":{"code":"server_error","message":"no"}}`, "failure"},
		{"openai", 404, asJSON, `{"error":{"message":"The model does not exist","type":"invalid_request_error","param":null,"code":"model_not_found"}}`, "next"},
		{"openai", 404, asJSON, `{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}`, "next"},
		{"openai", 400, asJSON, `{"error":{"message":"maximum context length","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}`, "next"},
		{"openai", 400, asJSON, `{"error":{"message":"filtered","type":null,"param":"prompt","code":"content_filter","status":400}}`, ""},
		{"openai", 400, asJSON, `{"error":{"message":"Unknown parameter","type":"invalid_request_error","param":"x","code":"unknown_parameter"}}`, ""},
		{"openai", 200, asJSON, `{"error":{"code":502,"message":"Provider returned error","metadata":{"provider_name":"x","raw":"y"}}}`, "failure"},
		{"openai", 200, asEvents, ": OPENROUTER PROCESSING\n\ndata: {\"id\":\"gen-1\",\"object\":\"chat.completion.chunk\",\"error\":{\"code\":\"server_error\",\"message\":\"Provider disconnected\"}," +
			"\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\"}]}\n\n", "failure"},
		{"openai", 200, asJSON, `{"id":"gen-1","choices":[{"finish_reason":"error","native_finish_reason":"error","message":{"role":"assistant","content":""},"error":{"code":502,"message":"Provider disconnected"}}]}`, "failure"},
		{"openai", 200, asJSON, `{"id":"gen-1","choices":[{"finish_reason":"error","message":{"role":"assistant","content":""},"error":{"code":429,"message":"Rate limited"}}]}`, "held"},
		{"openai", 200, asEvents, role + "data: {\"id\":\"gen-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\",\"error\":{\"code\":503,\"message\":\"no\"}}]}\n\n", "failure"},
		{"openai", 200, asJSON, `{"id":"gen-1","choices":[{"finish_reason":"error","message":{"role":"assistant","content":""},"error":{"code":400,"message":"no"}}]}`, ""},
		{"openai", 200, asJSON, `{"id":"gen-1","choices":[{"finish_reason":"stop","error":null,"message":{"role":"assistant","content":"{\"error\":{\"code\":502}}"}}]}`, ""},
		{"openai", 402, asJSON, `{"error":{"code":402,"message":"Insufficient credits"}}`, "denied"},
		{"openai", 403, asJSON, `{"error":{"code":403,"message":"flagged","metadata":{"reasons":["violence"],"flagged_input":"x","provider_name":"y"}}}`, "ok"},
		{"openai", 403, asJSON, `{"error":{"code":403,"message":"Forbidden"}}`, "denied"},
		{"openai", 400, asJSON, `{"error":{"code":400,"message":"invalid params"}}`, ""},

		// Errors in a 200 that no rule names, and the caller's
		{"openai", 200, asJSON, `{"error":"upstream request failed"}`, "failure"},
		{"openai", 200, asJSON, `{"error":"model requires more system memory than is available"}`, "next"},
		{"openai", 200, asJSON, `{"error":{"message":"An unexpected thing","type":"strange"}}`, "next"},
		{"openai", 200, asJSON, `{"error":{"message":"no","type":"InternalServerError","param":null,"code":null}}`, "failure"},
		{"openai", 200, asJSON, `{"error":{"message":"no","type":"invalid_request_error","code":null}}`, "ok"},
		{"openai", 200, asEvents, "data: {\"error\":{\"code\":\"content_filter\",\"message\":\"filtered\"}}\n\n", "ok"},
		{"openai", 200, asEvents, "data: {\"error\":{\"object\":\"error\",\"message\":\"no\",\"type\":\"BadRequestError\",\"code\":400}}\n\n", "ok"},
		{"openai", 200, asJSON, `{"error":false,"choices":[]}`, ""},
		{"openai", 200, asJSON, `{"error":"","id":"x"}`, ""},
		{"openai", 200, asJSON, `{"error":{}}`, ""},
		{"openai", 200, asJSON, `{"error":"none so far","choices":[{"message":{"content":"hi"}}]}`, ""},

		// Responses
		{"openai", 200, asEvents, "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"vector_store_timeout\",\"message\":\"no\"}}}\n\n", "next"},
		{"openai", 200, asEvents, "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"invalid_prompt\",\"message\":\"no\"}}}\n\n", "ok"},
		{"openai", 200, asEvents, "event: response.incomplete\ndata: {\"type\":\"response.incomplete\",\"response\":{\"error\":null,\"incomplete_details\":{\"reason\":\"content_filter\"}}}\n\n", ""},
		{"openai", 200, asEvents, "event: error\ndata: {\"type\":\"error\",\"code\":null,\"message\":\"Something went wrong\",\"param\":null,\"sequence_number\":1}\n\n", "next"},
		{"openai", 200, asEvents, "event: error\ndata: {\"type\":\"error\",\"code\":\"invalid_image\",\"message\":\"no\"}\n\n", "ok"},
		{"openai", 200, asEvents, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"upstream_error\",\"code\":\"truncated\",\"message\":\"no\"}}\n\n", "failure"},

		// Azure, DeepSeek, Mistral, Groq, TGI, Ollama, vLLM
		{"openai", 200, asEvents, "data: {\"choices\":[],\"prompt_filter_results\":[{\"prompt_index\":0}]}\n\ndata: {\"choices\":[{\"delta\":{},\"finish_reason\":\"content_filter\"}]}\n\n", ""},
		{"openai", 200, asJSON, "\n\n\n" + `{"id":"x","choices":[{"finish_reason":"insufficient_system_resource","message":{"content":""}}]}`, "failure"},
		{"openai", 200, asEvents, ": keep-alive\n\n" + role + "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"insufficient_system_resource\"}]}\n\n", "failure"},
		{"openai", 200, asJSON, `{"id":"x","choices":[{"finish_reason":"error","message":{"content":""}}]}`, "failure"},
		{"openai", 200, asEvents, "data: {\"error\":{\"code\":400,\"message\":\"no\"},\"choices\":[{\"delta\":{},\"finish_reason\":\"error\"}]}\n\n", "ok"},
		{"openai", 200, asEvents, role + "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"x_groq\":{\"id\":\"req_1\",\"error\":\"over capacity\"}}\n\n", "next"},
		{"openai", 200, asEvents, "data: {\"id\":\"1\",\"choices\":[{\"delta\":{\"content\":\"hi\"}}],\"x_groq\":{\"id\":\"req_1\"}}\n\n", ""},
		{"openai", 200, asEvents, "data:{\"error\":\"Request failed during generation: CUDA out of memory\",\"error_type\":\"generation\"}\n\n", "failure"},
		{"openai", 200, asEvents, "data:{\"error\":\"Model is overloaded\",\"error_type\":\"overloaded\"}\n\n", "failure"},
		{"openai", 200, asEvents, "data:{\"error\":\"Input validation error: `inputs` must have less than 4096 tokens\",\"error_type\":\"validation\"}\n\n", "ok"},
		{"openai", 200, "application/x-ndjson", "{\"error\":\"an error was encountered while running the model: unexpected EOF\"}\n", "failure"},
		{"openai", 200, asJSON, `{"object":"error","message":"no","type":"invalid_request_error","param":null,"code":null}`, "ok"},
		{"openai", 200, asJSON, `{"object":"error","message":"no","type":"service_tier_capacity_exceeded","param":null,"code":"3505"}`, "next"},
		{"openai", 200, asJSON, `{"object":"list","data":[{"object":"error"}]}`, ""},

		{"anthropic", 200, asJSON, `{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"text","text":"overloaded_error"}]}`, ""},
		{"anthropic", 529, asJSON, `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}`, "failure"},
		{"anthropic", 200, asEvents, start + "event: ping\ndata: {\"type\": \"ping\"}\n\nevent: error\ndata: {\"type\": \"error\", \"error\": {\"type\": \"overloaded_error\", \"message\": \"Overloaded\"}}\n\n", "failure"},
		{"anthropic", 200, asEvents, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"no\"}}\n\n", "held"},
		{"anthropic", 500, asJSON, `{"type":"error","error":{"type":"api_error","message":"Internal server error"}}`, "failure"},
		{"anthropic", 504, asJSON, `{"type":"error","error":{"type":"timeout_error","message":"no"}}`, "failure"},
		{"anthropic", 429, asJSON, `{"type":"error","error":{"type":"rate_limit_error","message":"no"}}`, "held"},
		{"anthropic", 401, asJSON, `{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}`, "denied"},
		{"anthropic", 402, asJSON, `{"type":"error","error":{"type":"billing_error","message":"no"}}`, "denied"},
		{"anthropic", 403, asJSON, `{"type":"error","error":{"type":"permission_error","message":"no"}}`, "denied"},
		{"anthropic", 400, asJSON, `{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}`, "denied"},
		{"anthropic", 404, asJSON, `{"type":"error","error":{"type":"not_found_error","message":"model: claude-x"}}`, "next"},
		{"anthropic", 404, asJSON, `{"type":"error","error":{"type":"not_found_error","message":"Not found"}}`, ""},
		{"anthropic", 400, asJSON, `{"type":"error","error":{"type":"invalid_request_error","message":"messages: roles must alternate"}}`, ""},
		{"anthropic", 413, asJSON, `{"type":"error","error":{"type":"request_too_large","message":"no"}}`, ""},

		{"anthropic", 200, asEvents, start + "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"strange_error\",\"message\":\"no\"}}\n\n", "next"},
		{"anthropic", 200, asJSON, `{"type":"error","error":{"type":"invalid_request_error","message":"no"}}`, "ok"},
		{"anthropic", 200, asJSON, `{"error":"Service temporarily unavailable"}`, "failure"},
		{"anthropic", 200, asJSON, `{"type":"message","stop_reason":"refusal","content":[]}`, ""},

		{"gemini", 200, asJSON, `{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":4}}`, ""},
		{"gemini", 200, asEvents, "data: {\"error\":{\"code\":400,\"message\":\"no\",\"status\":\"INVALID_ARGUMENT\"}}\n\n", "ok"},
		{"gemini", 200, asJSON, `[{"error":{"code":500,"message":"no","status":"UNKNOWN"}}]`, "failure"},
		{"gemini", 200, asJSON, `{"error":{"message":"strange"}}`, "next"},
		{"gemini", 200, asJSON, `{"error":"bad gateway"}`, "failure"},
		{"gemini", 200, asJSON, `{"candidates":[{"content":{"parts":[{"text":"UNAVAILABLE"}],"role":"model"},"finishReason":"STOP"}]}`, ""},
		{"gemini", 429, asJSON, `{"error":{"code":429,"message":"You exceeded your current quota","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"7s"}]}}`, "held"},
		{"gemini", 503, asJSON, `{"error":{"code":503,"message":"The model is overloaded","status":"UNAVAILABLE"}}`, "failure"},
		{"gemini", 200, asJSON, `[{"error":{"code":503,"message":"The model is overloaded","status":"UNAVAILABLE"}}]`, "failure"},
		{"gemini", 200, asEvents, "data: {\"error\":{\"code\":500,\"message\":\"no\",\"status\":\"INTERNAL\"}}\n\n", "failure"},
		{"gemini", 403, asJSON, `{"error":{"code":403,"message":"The caller does not have permission","status":"PERMISSION_DENIED"}}`, "denied"},
		{"gemini", 403, asJSON, `{"error":{"code":403,"message":"You do not have permission to access the File abc or it may not exist.","status":"PERMISSION_DENIED"}}`, "next"},
		{"gemini", 400, asJSON, `{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com"}]}}`, "denied"},
		{"gemini", 400, asJSON, `{"error":{"code":400,"message":"User location is not supported for the API use.","status":"FAILED_PRECONDITION"}}`, "denied"},
		{"gemini", 404, asJSON, `{"error":{"code":404,"message":"models/x is not found for API version v1beta","status":"NOT_FOUND"}}`, "next"},
		{"gemini", 400, asJSON, `{"error":{"code":400,"message":"Unknown name","status":"INVALID_ARGUMENT"}}`, ""},

		{"gemini", 200, asJSON, `{"error":{"code":503,"message":"no"}}`, "failure"},
		{"gemini", 200, asEvents, "data: {\"error\":{\"code\":429,\"message\":\"no\"}}\n\n", "held"},
		{"gemini", 400, asJSON, `{"error":{"code":400,"message":"no"}}`, ""},

		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"rate limit exceeded"}}`, "held"},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32090,"message":"Too many requests, reason: call rate limit exhausted"}}`, "held"},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32007,"message":"50/second request limit reached - reduce calls per second"}}`, "held"},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32605,"message":"Rate Limit"}}`, "held"},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":3,"message":"execution reverted: rate limit exceeded"}}`, ""},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"gas limit reached"}}`, ""},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"exceeds block gas limit"}}`, ""},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"result":"0x10"}`, ""},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":3,"message":"execution reverted: not synced","data":"0x08c379a0"}}`, ""},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"execution reverted"}}`, ""},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"Error: VM Exception while processing transaction: reverted with reason string 'x'"}}`, ""},
		{"jsonrpc", 500, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":3,"message":"execution reverted"}}`, "ok"},
		{"jsonrpc", 500, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"invalid argument 0"}}`, "ok"},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"invalid argument 0: hex string has length 3"}}`, ""},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"parse error"}}`, ""},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"nonce too low: next nonce 5, tx nonce 4"}}`, ""},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"header not found"}}`, "failure"},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"missing trie node 1a2b (path ) <nil>"}}`, "failure"},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"the node is not synced"}}`, "failure"},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32002,"message":"No state available for block 0x1a"}}`, "failure"},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"Internal error"}}`, "failure"},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32005,"message":"Node is behind by 42 slots","data":{"numSlotsBehind":42}}}`, "failure"},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32005,"message":"daily request count exceeded, request rate limited"}}`, "held"},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32005,"message":"query returned more than 10000 results"}}`, ""},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32029,"message":"Rate limit exceeded"}}`, "held"},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"Service temporarily unavailable"}}`, "failure"},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32099,"message":"Internal server error"}}`, "failure"},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"upstream connect error or disconnect/reset before headers"}}`, "failure"},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"execution reverted: Service unavailable"}}`, ""},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"Internal error"}}`, ""},
		{"jsonrpc", 200, asJSON, `{"result":null,"id":1,"error":{"code":-28,"message":"Loading block index..."}}`, "failure"},
		{"jsonrpc", 200, asJSON, `{"error":"upstream timed out"}`, "next"},
		{"jsonrpc", 200, asJSON, `{"error":{"message":"no backend"}}`, "next"},
		{"jsonrpc", 200, asJSON, `{"result":"0x1","id":1,"error":false}`, ""},
		{"jsonrpc", 429, "text/plain", "Too Many Requests", "held"},

		// geth
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"header for hash not found"}}`, "failure"},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"unknown block"}}`, "failure"},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"historical state 1a2b is not available"}}`, "failure"},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32002,"message":"request timed out"}}`, "failure"},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"method handler crashed"}}`, "failure"},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":4444,"message":"pruned history unavailable"}}`, "next"},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"hash is not currently canonical"}}`, ""},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"execution aborted (timeout = 5s)"}}`, ""},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32003,"message":"response too large"}}`, ""},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32600,"message":"empty batch"}}`, ""},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"insufficient funds for gas * price + value: balance 0, tx cost 21000"}}`, ""},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"replacement transaction underpriced"}}`, ""},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"already known"}}`, ""},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":3,"message":"execution reverted: block not found","data":"0x08c379a0"}}`, ""},

		// Erigon
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"block 1a2b not found"}}`, "failure"},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"block not found: 19000000"}}`, "failure"},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"old data not available due to pruning: requested block 1"}}`, "next"},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"nonce too low"}}`, ""},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"missing value for required argument 0"}}`, ""},

		// Nethermind
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32016,"message":"eth_call request timed out."}}`, "failure"},
		{"jsonrpc", 503, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32017,"message":"Timeout"}}`, "failure"},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-39001,"message":"Unknown block error"}}`, "failure"},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":4444,"message":"Pruned history unavailable"}}`, "next"},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32015,"message":"VM execution error.","data":"revert"}}`, ""},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32010,"message":"insufficient funds, Balance is 0"}}`, ""},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"Resource not found."}}`, ""},
		{"jsonrpc", 200, asJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"the method trace_block does not exist/is not available"}}`, "next"},
		{"jsonrpc", 200, asJSON, `[{"jsonrpc":"2.0","id":1,"result":"0x1"},{"jsonrpc":"2.0","id":2,"error":{"code":3,"message":"execution reverted"}}]`, ""},
		{"jsonrpc", 200, asJSON, `[{"jsonrpc":"2.0","id":1,"error":{"code":3,"message":"execution reverted"}},{"jsonrpc":"2.0","id":2,"error":{"code":-32000,"message":"header not found"}}]`, "failure"},
		{"jsonrpc", 200, asJSON, `[{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}},{"jsonrpc":"2.0","id":2,"error":{"code":-32005,"message":"limit exceeded"}}]`, "held"},
	} {
		if got := meaning(t, test.api, test.status, test.kind, test.body); got != test.want {
			t.Errorf("%s: %d %s means %q, want %q", test.api, test.status, test.body, got, test.want)
		}
	}
}

// TestFirstElementOfAListDecides: if lists are streams, the Examiner needs no more than the first
// element.
func TestFirstElementOfAListDecides(t *testing.T) {
	_, e := rules(t, "gemini").Examine(200, http.Header{"Content-Type": {asJSON}})
	if !e.Add([]byte("[{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hi\"}]}}]}\n,\r\n")) || e.Matched() != nil {
		t.Errorf("the examiner waits for more, or matched %v", e.Matched())
	}
}

func TestOf(t *testing.T) {
	if names := dialect.Names(); !slices.Equal(names, []string{"openai", "anthropic", "gemini", "jsonrpc", "grpc"}) {
		t.Errorf("the names are %v", names)
	}
	if d := dialect.Of(""); d != nil {
		t.Errorf("the empty name is %s", d.Name)
	}
}

func TestPathModel(t *testing.T) {
	for _, test := range []struct{ path, model, renamed string }{
		{"/v1beta/models/gemini-2.0-flash:generateContent", "gemini-2.0-flash", "/v1beta/models/a%2Fb:generateContent"},
		{"/v1beta/models/gemini-2.0-flash%3AgenerateContent", "gemini-2.0-flash", "/v1beta/models/a%2Fb%3AgenerateContent"},
		{"/v1/projects/p/locations/l/publishers/google/models/gemini-2.0-flash:streamGenerateContent", "gemini-2.0-flash",
			"/v1/projects/p/locations/l/publishers/google/models/a%2Fb:streamGenerateContent"},
		{"/v1beta/models/gemini-2.0-flash", "gemini-2.0-flash", "/v1beta/models/a%2Fb"},
		{"/v1beta/models", "", "/v1beta/models"},
		{"/v1beta/models/", "", "/v1beta/models/"},
		{"/v1beta/files/x", "", "/v1beta/files/x"},
	} {
		u, err := url.Parse("http://x" + test.path + "?alt=sse")
		if err != nil {
			t.Fatal(err)
		}
		before := *u
		if got := dialect.PathModel(u); got != test.model {
			t.Errorf("%s names %q, want %q", test.path, got, test.model)
		}
		if got := dialect.WithPathModel(u, "a/b"); got.EscapedPath() != test.renamed || got.RawQuery != "alt=sse" {
			t.Errorf("%s becomes %s, want %s", test.path, got, test.renamed)
		}
		if *u != before {
			t.Errorf("%s has changed", test.path)
		}
	}
}

// TestReplies checks which requests of JSON-RPC have a response with a body.
func TestReplies(t *testing.T) {
	for request, want := range map[string]bool{
		"":                                      false, // not known
		`{"jsonrpc":"2.0","method":"m","id":1}`: true,
		`{"jsonrpc":"2.0","method":"m"}`:        false,
		`[{"jsonrpc":"2.0","method":"m"}]`:      false,
		`[{"jsonrpc":"2.0","method":"m"},{"id":"a"}]`: true,
		`[]`:                                   false,
		`{"jsonrpc":"2.0","method":"m","id":1`: false,
	} {
		if got := dialect.Of("jsonrpc").Replies([]byte(request)); got != want {
			t.Errorf("%s: %t, want %t", request, got, want)
		}
	}
	if !dialect.Of("openai").Replies(nil) {
		t.Error("OpenAI's API has responses without a body")
	}
}
