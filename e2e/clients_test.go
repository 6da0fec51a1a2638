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

// A clientFault is the error of the first provider: its status, and its names in the APIs of OpenAI and Anthropic.
type clientFault struct {
	status                int // in OpenAI's API; 0: the provider does not answer
	kind, code, anthropic string
	ofAnthropic           int // status in Anthropic's API; 0: the same
}

// clientFaults has the fault of each model. With status 200 a stream begins, and its first event with content is
// the error.
var clientFaults = map[string]clientFault{
	"error-in-200": {200, "server_error", "server_error", "api_error", 0},
	"limit-in-200": {200, "requests", "rate_limit_exceeded", "rate_limit_error", 0},
	"limit":        {429, "requests", "rate_limit_exceeded", "rate_limit_error", 0},
	"no-credit":    {429, "insufficient_quota", "insufficient_quota", "billing_error", 402},
	"overloaded":   {503, "service_unavailable_error", "server_is_overloaded", "overloaded_error", 529},
	"unknown":      {404, "invalid_request_error", "model_not_found", "not_found_error", 0},
	"dead":         {},
}

// officialClients are the client libraries, each with the `api` of its pool.
var officialClients = []struct{ name, api string }{
	{"openai", "openai"}, {"openai-responses", "openai"}, {"anthropic", "anthropic"},
	{"ai-openai", "openai"}, {"ai-openai-chat", "openai"}, {"ai-anthropic", "anthropic"},
}

// clientGot is the result of one call by a client library.
type clientGot struct {
	Client, Model string
	Stream        bool
	Text          string // the answer's text, or the error's type and message
}

// installClients installs the client libraries. The function that it returns calls a site with each of them, for
// each model, streaming and not. Each call has its own base path: /openai-<model>-true.
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
		front := httptest.NewServer(&httputil.ReverseProxy{ // because the site listens on a Unix socket
			Transport:     p.client.Transport,
			FlushInterval: -1,
			Rewrite: func(r *httputil.ProxyRequest) {
				r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", "api.test", "api.test"
			},
		})
		defer front.Close()
		run := exec.Command("node", append([]string{"ask.js", front.URL}, models...)...)
		run.Dir = dir
		output, err := run.CombinedOutput()
		if err != nil {
			t.Fatalf("running ask.js: %v\n%s", err, output)
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

// TestOfficialClientsNoticeNothing checks that the client libraries of OpenAI and Anthropic, and `ai` with its
// provider for either, get whole answers while the first provider fails in all ways. The pools have `api` and keys,
// and no other option.
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
	dead := "http://" + keepPort(t)
	models := slices.Sorted(maps.Keys(clientFaults))
	var sites strings.Builder // a pool for each call, so that no earlier failure has opened a breaker
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
		t.Errorf("%d of %d answers are whole; the failing provider got %d requests, want %d", whole, want, one.hits.Load(), asked)
	}
}

// TestOfficialClientsRaiseTheirErrors checks that a pool's own refusals become the client library's errors for that
// status, with our message and, where the library shows it, the API's type of error.
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
