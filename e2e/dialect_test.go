package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
)

// says answers every request with the same status, content type and body.
func says(status int, kind, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

const (
	inJSON   = "application/json"
	inEvents = "text/event-stream"
)

// TestDialects checks errors of each API with only `api` and keys configured. A call of any method must move on from
// an error of the provider, with any status. An error that the call itself caused must go to the client without a
// retry.
func TestDialects(t *testing.T) {
	const begun = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"content\":[]}}\n\n"
	for _, test := range []struct {
		api, name string
		status    int
		kind      string
		body      string
		outcome   string // of the attempt at the first endpoint; "answer": the client gets its response
		held      bool
	}{
		{"openai", "a limit", 429, inJSON, `{"error":{"message":"no","type":"requests","code":"rate_limit_exceeded"}}`, "rate_limited", true},
		{"openai", "a limit in a stream", 200, inEvents, aRole + "data: {\"error\":{\"type\":\"tokens\",\"code\":\"rate_limit_exceeded\"}}\n\n", "rate_limited", true},
		{"openai", "no credit", 429, inJSON, `{"error":{"type":"insufficient_quota","code":"insufficient_quota"}}`, "denied", false},
		{"openai", "a hard limit", 400, inJSON, `{"error":{"type":"invalid_request_error","code":"billing_hard_limit_reached"}}`, "denied", false},
		{"openai", "an error in a 200", 200, inJSON, `{"error":{"type":"server_error","code":null}}`, "status", false},
		{"openai", "an error in a stream", 200, inEvents, aRole + "data: {\"error\":{\"type\":\"server_error\",\"code\":null}}\n\n", "status", false},
		{"openai", "a response that failed", 200, inEvents, "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"server_error\"}}}\n\n", "status", false},
		{"openai", "a status in a 200", 200, inJSON, `{"error":{"code":502,"message":"Provider returned error"}}`, "status", false},
		{"openai", "no such model", 404, inJSON, `{"error":{"type":"invalid_request_error","code":"model_not_found"}}`, "success", false},
		{"openai", "a flagged prompt", 403, inJSON, `{"error":{"code":403,"metadata":{"reasons":["x"]}}}`, "answer", false},
		{"openai", "a filter", 400, inJSON, `{"error":{"code":"content_filter"}}`, "answer", false},
		{"openai", "a wrong parameter", 400, inJSON, `{"error":{"type":"invalid_request_error","code":"unknown_parameter"}}`, "answer", false},
		{"anthropic", "overloaded", 529, inJSON, `{"type":"error","error":{"type":"overloaded_error"}}`, "status", false},
		{"anthropic", "overloaded in a stream", 200, inEvents, begun + overload, "status", false},
		{"anthropic", "a limit in a stream", 200, inEvents, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\"}}\n\n", "rate_limited", true},
		{"anthropic", "no money", 402, inJSON, `{"type":"error","error":{"type":"billing_error"}}`, "denied", false},
		{"anthropic", "no such model", 404, inJSON, `{"type":"error","error":{"type":"not_found_error","message":"model: x"}}`, "success", false},
		{"anthropic", "a wrong parameter", 400, inJSON, `{"type":"error","error":{"type":"invalid_request_error"}}`, "answer", false},
		{"gemini", "a limit", 429, inJSON, `{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}`, "rate_limited", true},
		{"gemini", "overloaded in a list", 200, inJSON, `[{"error":{"code":503,"status":"UNAVAILABLE"}}]`, "status", false},
		{"gemini", "a wrong key", 400, inJSON, `{"error":{"code":400,"status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}`, "denied", false},
		{"gemini", "a wrong parameter", 400, inJSON, `{"error":{"code":400,"status":"INVALID_ARGUMENT"}}`, "answer", false},
		{"jsonrpc", "behind", 200, inJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"header not found"}}`, "status", false},
		{"jsonrpc", "a limit", 200, inJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32005,"message":"limit exceeded"}}`, "rate_limited", true},
		{"jsonrpc", "a batch", 200, inJSON, `[{"id":1,"result":"0x1"},{"id":2,"error":{"code":3,"message":"execution reverted"}},{"id":3,"error":{"code":-32603,"message":"Internal error"}}]`, "status", false},
		{"jsonrpc", "no such method", 200, inJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}`, "success", false},
		{"jsonrpc", "reverted", 200, inJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":3,"message":"execution reverted"}}`, "answer", false},
		{"jsonrpc", "reverted, a 500", 500, inJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":3,"message":"execution reverted"}}`, "answer", false},
		{"jsonrpc", "wrong parameters", 200, inJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no"}}`, "answer", false},
	} {
		t.Run(test.api+" "+test.name, func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			one.behave(says(test.status, test.kind, test.body))
			p := startCaddy(t, edited("api", "api "+test.api, []*api{one, two}, "key of-one", "key of-two"))
			if test.outcome == "answer" {
				p.call(http.MethodPost, "/", "x").want(t, "the call", test.status, test.body)
				p.quiet()
				p.wantTotals("one", totals{Attempts: 1, Successes: 1})
				p.wantTotals("two", totals{})
				return
			}
			p.call(http.MethodPost, "/", "x").want(t, "the call", 200, "two"+digest("x"))
			p.quiet()
			status := p.one("one")
			if got := status.lastOutcome(); got != test.outcome || (status.HeldReason == "rate_limited") != test.held {
				t.Errorf("the first endpoint's outcome is %s, its hold's reason %q", got, status.HeldReason)
			}
		})
	}
}

// TestLimitsOfClientsAffectNoEndpoint checks that errors about a quota or credentials do not count against an endpoint
// without a key, whether the body or the status says so, unless `quota endpoint` is set.
func TestLimitsOfClientsAffectNoEndpoint(t *testing.T) {
	const limited = `{"error":{"type":"tokens","code":"rate_limit_exceeded"}}`
	const denied = `{"error":{"type":"insufficient_quota","code":"insufficient_quota"}}`
	for _, body := range []string{limited, denied} {
		for _, code := range []int{200, 429} {
			t.Run(fmt.Sprint(code, body), func(t *testing.T) {
				one, two := newAPI(t, "one"), newAPI(t, "two")
				one.behave(says(code, inJSON, body))
				p := startCaddy(t, site("api openai", one, two))
				for range 6 {
					p.call(http.MethodPost, "/", "x").want(t, body, code, body)
				}
				p.quiet()
				p.wantTotals("one", totals{Attempts: 6, Successes: 6})
				if err := p.load(site("api openai\nquota endpoint", one, two)); err != nil {
					t.Fatal(err)
				}
				p.call(http.MethodPost, "/", "x").want(t, body, 200, "two"+digest("x"))
			})
		}
	}
}

// TestOptionsComeBeforeTheAPI checks that explicit options override what `api` sets.
func TestOptionsComeBeforeTheAPI(t *testing.T) {
	const reverted = `{"jsonrpc":"2.0","id":1,"error":{"code":3,"message":"execution reverted"}}`
	const overloaded = `{"error":{"type":"server_error","code":"overloaded"}}`
	const long = `{"error":{"code":"context_length_exceeded"}}`
	for _, test := range []struct {
		options string
		one     http.HandlerFunc
		moves   bool
		outcome string
		body    string
	}{
		{"api jsonrpc\nanswer 200 json error.code ^3$ as next", says(200, inJSON, reverted), true, "success", ""},
		{"api openai\nanswer 200 json error.type server_error as ok", says(200, inJSON, overloaded), false, "success", overloaded},
		{"api openai\nretry {\nmethods GET\n}", says(200, inJSON, overloaded), false, "status", overloaded},
		{"api openai\nretry {\nattempts 2\n}", says(200, inJSON, overloaded), true, "status", ""},
		{"api openai\nfailure_status 400", says(400, inJSON, long), true, "status", ""},
		{"api openai", says(400, inJSON, long), true, "success", ""},
		{"api jsonrpc\nquota client", says(200, inJSON, `{"error":{"code":-32005,"message":"limit"}}`), false, "success", `{"error":{"code":-32005,"message":"limit"}}`},
	} {
		t.Run(test.options, func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			one.behave(test.one)
			p := startCaddy(t, edited("api", test.options, []*api{one, two}, "key of-one", "key of-two"))
			answer := p.call(http.MethodPost, "/", "x")
			p.quiet()
			if test.moves {
				answer.want(t, test.options, 200, "two"+digest("x"))
			} else {
				answer.want(t, test.options, answer.status, test.body)
			}
			if got := p.one("one").lastOutcome(); got != test.outcome {
				t.Errorf("%s: the outcome is %s, want %s", test.options, got, test.outcome)
			}
		})
	}
}

// heard has a line about each request to endpoints since the last take, oldest first.
type heard struct {
	mu   sync.Mutex
	list []string
}

// hears makes an endpoint add its name and about's result to the lines, and answer with its name.
func (h *heard) hears(a *api, about func(r *http.Request, body string) string) {
	a.behave(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		text := about(r, string(body))
		h.mu.Lock()
		h.list = append(h.list, a.name+" "+text)
		h.mu.Unlock()
		_, _ = io.WriteString(w, a.name)
	})
}

// take returns the lines and removes them.
func (h *heard) take() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := strings.Join(h.list, "\n")
	h.list = nil
	return all
}

// TestKeysAreSentInTheAPIsField checks that each API gets the key in its own header field, and no key of the client's.
func TestKeysAreSentInTheAPIsField(t *testing.T) {
	t.Setenv("E2E_KEY", "sk-of-one")
	for of, field := range map[string]string{"openai": "Authorization", "anthropic": "X-Api-Key", "gemini": "X-Goog-Api-Key", "jsonrpc": "Authorization"} {
		t.Run(of, func(t *testing.T) {
			one := newAPI(t, "one")
			var h heard
			h.hears(one, func(r *http.Request, _ string) string {
				return fmt.Sprint(r.Header["Authorization"], r.Header["X-Api-Key"], r.Header["X-Goog-Api-Key"], r.URL.RawQuery)
			})
			p := startCaddy(t, edited("api", "api "+of, []*api{one}, "key {env.E2E_KEY}"))
			resp, err := p.do(http.MethodPost, "/v1?key=client", strings.NewReader("x"), "Authorization", "Bearer client", "X-Api-Key", "client", "X-Goog-Api-Key", "client")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			want := map[string]string{
				"Authorization": "one [Bearer sk-of-one] [] []", "X-Api-Key": "one [] [sk-of-one] []", "X-Goog-Api-Key": "one [] [] [sk-of-one]",
			}[field]
			if got := h.take(); got != want {
				t.Errorf("api %s sends %q, want %q", of, got, want)
			}
		})
	}
}

// TestKeysOfOneProvider checks that each key is an endpoint of the same tier, that after a 429 the other key is tried
// before the next tier, and that neither the log nor the status shows a key.
func TestKeysOfOneProvider(t *testing.T) {
	const first, second = "sk-first-0123456789", "sk-second-0123456789"
	t.Setenv("E2E_SECOND", second)
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer "+first {
			w.Header().Set("Retry-After", "60")
			says(429, inJSON, `{"error":{"code":"rate_limit_exceeded"}}`)(w, r)
			return
		}
		_, _ = io.WriteString(w, r.Header.Get("Authorization"))
	})
	p := startCaddy(t, edited("api", "api openai", []*api{one, two}, "key "+first+"\nkey {env.E2E_SECOND}", "key of-two"))
	for i := range 10 {
		p.call(http.MethodPost, "/", "x").want(t, fmt.Sprint("call ", i), 200, "Bearer "+second)
	}
	p.quiet()
	if a, b, other := p.one("one-1"), p.one("one-2"), p.one("two"); a.Priority != b.Priority || other.Priority <= a.Priority || a.HeldReason != "rate_limited" || b.HeldReason != "" {
		t.Errorf("priorities are %d, %d and %d; the reasons of the holds are %q and %q", a.Priority, b.Priority, other.Priority, a.HeldReason, b.HeldReason)
	}
	p.wantTotals("one-1", totals{Attempts: 1, Failures: 1})
	p.wantTotals("two", totals{})
	log, err := os.ReadFile(p.file("log"))
	if err != nil {
		t.Fatal(err)
	}
	for place, text := range map[string]string{"the log": string(log), "the status": p.readText("/failover/pools")} {
		if text == "" || strings.Contains(text, "sk-first") || strings.Contains(text, "sk-second") {
			t.Errorf("%s shows a key or is empty", place)
		}
	}
}

// expect sends a request and checks the lines that it causes.
func (h *heard) expect(p *proxy, method, path, body, want string) {
	p.t.Helper()
	p.call(method, path, body)
	if got := h.take(); got != want {
		p.t.Errorf("%s %s %s: heard %q, want %q", method, path, body, got, want)
	}
}

// TestModels checks that each endpoint gets its own names of models, and, if it lists models, only calls for these.
func TestModels(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	var h heard
	for _, a := range []*api{one, two} {
		h.hears(a, func(r *http.Request, body string) string { return r.Method + " " + r.URL.EscapedPath() + " " + body })
	}
	p := startCaddy(t, edited("api", "api openai", []*api{one, two}, "key a\nmodel small tiny\nmodel large large-2", "key b\nmodel other/big"))
	h.expect(p, "POST", "/c", `{"model":"small","n":1}`, `one POST /c {"model":"tiny","n":1}`)
	h.expect(p, "POST", "/c", `{"model":"large"}`, `one POST /c {"model":"large-2"}`)
	h.expect(p, "POST", "/c", `{"model":"tiny"}`, `two POST /c {"model":"other/big"}`)
	h.expect(p, "POST", "/c", `{"Model":1,"n":{"model":"small"}}`, `one POST /c {"Model":1,"n":{"model":"small"}}`)
	h.expect(p, "GET", "/models", "", "one GET /models ")
	one.down()
	h.expect(p, "POST", "/c", `{"model":"small"}`, `two POST /c {"model":"other/big"}`)
}

// TestModelsInPaths checks the same for an API whose paths name the models.
func TestModelsInPaths(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	var h heard
	for _, a := range []*api{one, two} {
		h.hears(a, func(r *http.Request, body string) string {
			return r.URL.EscapedPath() + "?" + r.URL.RawQuery + " " + body
		})
	}
	p := startCaddy(t, edited("api", "api gemini", []*api{one, two}, "key a\nmodel flash flash-001", "key b\nmodel pro pro-002"))
	h.expect(p, "POST", "/v1beta/models/flash:generateContent?alt=sse", `{"x":1}`, `one /v1beta/models/flash-001:generateContent?alt=sse {"x":1}`)
	h.expect(p, "POST", "/v1beta/models/pro:generateContent", "", `two /v1beta/models/pro-002:generateContent? `)
	h.expect(p, "GET", "/v1beta/models", "", `one /v1beta/models? `)
	answer := p.call("POST", "/v1beta/models/none:generateContent", "x")
	answer.want(t, "a model that no endpoint has", 404, `{"error":{"code":404,"message":"no endpoint of this API has the model \"none\"","status":"NOT_FOUND"}}`)
	if got := h.take(); got != "" {
		t.Errorf("heard %q", got)
	}
}
