package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// byModel answers requests for the model ill with a status and a body, and those for other models with 200. If ill is
// empty, all models fail.
func byModel(ill string, status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var asked struct{ Model string }
		sent, _ := io.ReadAll(r.Body)
		_ = json.Unmarshal(sent, &asked)
		w.Header().Set("Content-Type", inJSON)
		if asked.Model == ill || ill == "" {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
			return
		}
		_, _ = io.WriteString(w, `{"id":"one"}`)
	}
}

// TestScopes checks that with `api openai` only the calls for a failing model leave an endpoint, and that the status,
// the metrics, the events, the log and the command show it.
func TestScopes(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, edited("api", "api openai", []*api{one, two}, "key of-one", "key of-two"))
	ask := func(model string) string {
		t.Helper()
		prompt := strings.Repeat("word ", 400)
		got := p.call(http.MethodPost, "/v1/chat/completions", `{"messages":[{"role":"user","content":"`+prompt+`"}],"model":"`+model+`"}`)
		if got.status != http.StatusOK {
			t.Errorf("%s got %d: %s", model, got.status, got.body)
		}
		if strings.HasPrefix(got.body, "two") {
			return "two"
		}
		return "one"
	}
	overload := byModel("big", 200, `{"error":{"type":"server_error","code":null}}`)
	one.behave(overload)
	before := p.newestEvent()
	contract := readContract(t)
	tried := one.hits.Load()
	for range 20 {
		if by := ask("big"); by != "two" {
			t.Errorf("the failing model was answered by %s", by)
		}
		if by := ask("small"); by != "one" {
			t.Errorf("the working model was answered by %s", by)
		}
	}
	if n := one.hits.Load() - tried; n > 25 {
		t.Errorf("the endpoint got %d requests, want at most 5 beside the 20 for the working model", n)
	}

	status := p.readText("/failover/pools/api")
	contract.holds(http.MethodGet, "/failover/pools/api", 200, http.Header{"Content-Type": {inJSON}}, status)
	var pool struct {
		Down      bool
		Endpoints []struct {
			Name, State string
			Scopes      []struct {
				Scope, State, Reason string
				Cause                struct{ What, Scope string }
			}
		}
	}
	if err := json.NewDecoder(bytes.NewReader([]byte(status))).Decode(&pool); err != nil {
		t.Fatal(err)
	}
	first := pool.Endpoints[0]
	if pool.Down || first.State != "closed" || len(first.Scopes) != 2 || first.Scopes[0].Scope != "big" || first.Scopes[0].State != "open" ||
		first.Scopes[0].Cause.Scope != "big" || first.Scopes[1].Scope != "small" || first.Scopes[1].State != "closed" {
		t.Errorf("the status is %+v", pool)
	}
	if got := p.metrics()[`caddy_failover_scope_share{endpoint="one",pool="api",scope="big"}`]; got != 0 {
		t.Errorf("the metric is %v", got)
	}
	eventually(t, "events name the scope", func() bool {
		text := p.readText("/failover/events?pool=api")
		return strings.Contains(text, `"scope":"big"`)
	})
	for _, e := range p.events(before) {
		if e.Kind == "breaker_opened" && e.Reason == "scopes" {
			t.Errorf("an event says that the whole endpoint is out: %+v", e)
		}
	}
	lines := p.lines("breaker_opened")
	if len(lines) == 0 || lines[len(lines)-1]["scope"] != "big" {
		t.Errorf("the log says %v", lines)
	}
	if code, out, _ := p.command("status"); code != 0 || !strings.Contains(out, "big") || !strings.Contains(out, "small") {
		t.Errorf("the command says\n%s", out)
	}
	if _, out, _ := p.command("why"); !strings.Contains(out, "scope big: out since ") {
		t.Errorf("the command says\n%s", out)
	}

	// the state of scopes outlives a reload, except one that turns scopes off
	p.reload(edited("api", "api openai\n\tfailure_status 5xx", []*api{one, two}, "key of-one", "key of-two"))
	tried = one.hits.Load()
	ask("big")
	if one.hits.Load() != tried {
		t.Error("after a reload the endpoint got the failing model")
	}
	p.reload(edited("api", "api openai\n\tscope off", []*api{one, two}, "key of-one", "key of-two"))
	tried = one.hits.Load()
	ask("big")
	if one.hits.Load() == tried {
		t.Error("without scopes the endpoint did not get the model")
	}
	if text := p.readText("/failover/pools/api"); strings.Contains(text, `"scopes"`) {
		t.Errorf("the status still has scopes: %s", text)
	}
}

// TestScopesOfJSONRPC checks that a limit of one method holds only calls of that method, in batches too.
func TestScopesOfJSONRPC(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, edited("api", "api jsonrpc", []*api{one, two}, "key of-one", "key of-two"))
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		sent, _ := io.ReadAll(r.Body)
		if bytes.Contains(sent, []byte("eth_getLogs")) {
			says(200, inJSON, `{"jsonrpc":"2.0","id":1,"error":{"code":-32005,"message":"limit exceeded"}}`)(w, r)
			return
		}
		says(200, inJSON, `{"jsonrpc":"2.0","id":1,"result":"0x1"}`)(w, r)
	})
	for _, test := range []struct{ body, by string }{
		{`{"jsonrpc":"2.0","id":1,"method":"eth_getLogs"}`, "two"},
		{`{"jsonrpc":"2.0","id":1,"method":"eth_call"}`, "one"},
		{`[{"jsonrpc":"2.0","id":1,"method":"eth_getLogs"},{"jsonrpc":"2.0","id":2,"method":"eth_getLogs"}]`, "two"},
		{`[{"jsonrpc":"2.0","id":1,"method":"eth_call"},{"jsonrpc":"2.0","id":2,"method":"eth_blockNumber"}]`, "one"},
		{`{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber"}`, "one"},
	} {
		if got := p.call(http.MethodPost, "/", test.body); strings.HasPrefix(got.body, "two") != (test.by == "two") || got.status != 200 {
			t.Errorf("%s: %d %s, want an answer by %s", test.body, got.status, got.body, test.by)
		}
	}
	held := map[string]bool{}
	var status struct {
		Scopes []struct {
			Scope      string
			HeldReason string `json:"held_reason"`
		}
	}
	p.read("/failover/pools/api/endpoints/one", &status)
	for _, s := range status.Scopes {
		held[s.Scope] = s.HeldReason != ""
	}
	if len(held) != 4 || !held["eth_getLogs"] || held["eth_call"] || held["batch"] || held["eth_blockNumber"] {
		t.Errorf("held are %v", held)
	}
}
