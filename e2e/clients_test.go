//go:build system

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A clientFault is what the first provider answers: a status, and the error's names at OpenAI and Anthropic.
type clientFault struct {
	status                int // for OpenAI; 0: there is no answer
	kind, code, anthropic string
	ofAnthropic           int // its status; 0: the same
}

// clientFaults are those of each model. With 200, a stream begins, and its first event with content is the error.
var clientFaults = map[string]clientFault{
	"error-in-200": {200, "server_error", "server_error", "api_error", 0},
	"limit-in-200": {200, "requests", "rate_limit_exceeded", "rate_limit_error", 0},
	"limit":        {429, "requests", "rate_limit_exceeded", "rate_limit_error", 0},
	"no-credit":    {429, "insufficient_quota", "insufficient_quota", "billing_error", 402},
	"overloaded":   {503, "service_unavailable_error", "server_is_overloaded", "overloaded_error", 529},
	"unknown":      {404, "invalid_request_error", "model_not_found", "not_found_error", 0},
	"dead":         {},
}

// officialClients are the client libraries, and the API of the pool that each asks.
var officialClients = []struct{ name, api string }{
	{"openai", "openai"}, {"openai-responses", "openai"}, {"anthropic", "anthropic"},
	{"ai-openai", "openai"}, {"ai-openai-chat", "openai"}, {"ai-anthropic", "anthropic"},
}

// clientGot is what a program with a client library got.
type clientGot struct {
	Client, Model string
	Stream        bool
	Text          string // or the error, after its type
}

// installClients installs the client libraries. The function asks a site for models with each, streaming and not,
// below a path for each: /openai-<model>-true.
func installClients(t *testing.T) (ask func(p *proxy, models ...string) []clientGot) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", "ask.js"} {
		text, err := os.ReadFile(filepath.Join("testdata/clients", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	install := exec.Command("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	install.Dir = dir
	if output, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, output)
	}
	return func(p *proxy, models ...string) (all []clientGot) {
		t.Helper()
		door := httptest.NewServer(&httputil.ReverseProxy{ // the site listens on a socket
			Transport:     p.client.Transport,
			FlushInterval: -1,
			Rewrite: func(r *httputil.ProxyRequest) {
				r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", "api.test", "api.test"
			},
		})
		defer door.Close()
		run := exec.Command("node", append([]string{"ask.js", door.URL}, models...)...)
		run.Dir = dir
		output, err := run.CombinedOutput()
		if err != nil {
			t.Fatalf("asking: %v\n%s", err, output)
		}
		for line := range strings.Lines(string(output)) {
			var got clientGot
			if err := json.Unmarshal([]byte(line), &got); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			all = append(all, got)
		}
		return all
	}
}

// TestOfficialClientsNoticeNothing: programs with the clients of OpenAI and Anthropic, or with `ai` and the provider for
// either, get whole answers, streaming and not, though the first provider fails each call in another way; with
// `api` and keys, and no other option.
func TestOfficialClientsNoticeNothing(t *testing.T) {
	ask := installClients(t)
	one, two := newAPI(t, "one"), newAPI(t, "two")
	two.behave(answersClients("two: " + words))
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var c completion
		if err != nil || json.Unmarshal(body, &c) != nil || r.Header.Get("Authorization")+r.Header.Get("X-Api-Key") == "" {
			http.Error(w, "what is that?", http.StatusBadRequest)
			return
		}
		f, api := clientFaults[c.Model], clientAPIOf(r)
		if api == messagesAPI && f.ofAnthropic != 0 {
			f.status = f.ofAnthropic
		}
		sayError(w, api, f.status, c.Stream, f.kind, f.code, f.anthropic)
	})
	dead := "http://" + freeAddress(t)
	models := slices.Sorted(maps.Keys(clientFaults))
	var sites strings.Builder // each call has a pool of its own, in which the first provider is well
	for _, client := range officialClients {
		for _, model := range models {
			for _, stream := range []bool{false, true} {
				name := fmt.Sprint(client.name, "-", model, "-", stream)
				pool := edited(name, "api "+client.api, []*api{one, two}, "key of-one", "key of-two")
				if model == "dead" {
					pool = strings.Replace(pool, one.server.URL, dead, 1)
				}
				fmt.Fprintf(&sites, "handle_path /%s/* {\n%s\n}\n", name, pool)
			}
		}
	}
	p := startCaddy(t, sites.String())
	whole := 0
	for _, got := range ask(p, models...) {
		if got.Text != "two: "+words {
			t.Errorf("%s, %s, streaming %t: the program gets %q", got.Client, got.Model, got.Stream, got.Text)
			continue
		}
		whole++
	}
	want := len(officialClients) * 2 * len(models)
	asked := len(officialClients) * 2 * (len(models) - 1)
	if whole != want || one.hits.Load() != int64(asked) {
		t.Errorf("%d of %d answers are whole, and the provider that fails was asked %d times, not %d", whole, want, one.hits.Load(), asked)
	}
}

// TestOfficialClientsRaiseTheirErrors: what a pool itself says is an error of the type that the clients have for it,
// with our message, and the API's own type of error where the client shows it.
func TestOfficialClientsRaiseTheirErrors(t *testing.T) {
	ask := installClients(t)
	one := newAPI(t, "one")
	var sites strings.Builder
	var pools []string
	for _, client := range officialClients {
		for _, model := range []string{"held", "down"} {
			for _, stream := range []bool{false, true} {
				name := fmt.Sprint(client.name, "-", model, "-", stream)
				pools = append(pools, name)
				fmt.Fprintf(&sites, "handle_path /%s/* {\n%s\n}\n", name, edited(name, "api "+client.api, []*api{one}, "limit 1 requests per 1h"))
			}
		}
	}
	p := startCaddy(t, sites.String())
	for _, name := range pools {
		p.call("POST", "/"+name+"/", `{"model":"x"}`)
		if strings.Contains(name, "down") {
			p.order("POST", name+"/endpoints/one/trip", "")
		}
	}
	type errors struct{ held, down string }
	ofOpenAI := errors{"RateLimitError: 429 every endpoint", "InternalServerError: 503 every endpoint"}
	ofAI := errors{"APICallError: every endpoint", "APICallError: every endpoint"}
	want := map[string]errors{
		"openai":           ofOpenAI,
		"openai-responses": ofOpenAI,
		"anthropic":        {`RateLimitError: 429 {"error":{"message":"every endpoint`, `ServiceUnavailableError: 503 {"error":{"message":"every endpoint`},
		"ai-openai":        ofAI,
		"ai-openai-chat":   ofAI,
		"ai-anthropic":     ofAI,
	}
	for _, got := range ask(p, "held", "down") {
		begin, kind := want[got.Client].held, "rate_limit_error"
		if got.Model == "down" {
			begin, kind = want[got.Client].down, "overloaded_error"
		}
		if !strings.HasPrefix(got.Text, begin) || !strings.Contains(got.Text, "try again in") || got.Client == "anthropic" && !strings.Contains(got.Text, kind) {
			t.Errorf("%s, %s, streaming %t: %s, want %s", got.Client, got.Model, got.Stream, got.Text, begin)
		}
	}
}
