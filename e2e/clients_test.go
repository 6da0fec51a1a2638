//go:build system

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// faultsOfProviders are what the first provider answers, by model: streaming and not.
var faultsOfProviders = map[string]func(w http.ResponseWriter, anthropic, stream bool){
	"error-in-200": func(w http.ResponseWriter, anthropic, stream bool) {
		sayError(w, http.StatusOK, anthropic, stream, `{"type":"server_error","code":null,"message":"no"}`, "api_error")
	},
	"limit-in-200": func(w http.ResponseWriter, anthropic, stream bool) {
		sayError(w, http.StatusOK, anthropic, stream, `{"type":"requests","code":"rate_limit_exceeded","message":"no"}`, "rate_limit_error")
	},
	"limit": func(w http.ResponseWriter, anthropic, _ bool) {
		sayError(w, http.StatusTooManyRequests, anthropic, false, `{"type":"requests","code":"rate_limit_exceeded","message":"no"}`, "rate_limit_error")
	},
	"no-credit": func(w http.ResponseWriter, anthropic, _ bool) {
		status := http.StatusTooManyRequests
		if anthropic {
			status = http.StatusPaymentRequired
		}
		sayError(w, status, anthropic, false, `{"type":"insufficient_quota","code":"insufficient_quota","message":"no"}`, "billing_error")
	},
	"overloaded": func(w http.ResponseWriter, anthropic, _ bool) {
		status := http.StatusServiceUnavailable
		if anthropic {
			status = 529
		}
		sayError(w, status, anthropic, false, `{"type":"service_unavailable_error","code":"server_is_overloaded","message":"no"}`, "overloaded_error")
	},
	"unknown": func(w http.ResponseWriter, anthropic, _ bool) {
		sayError(w, http.StatusNotFound, anthropic, false, `{"type":"invalid_request_error","code":"model_not_found","message":"no"}`, "not_found_error")
	},
}

// sayError answers with an error, OpenAI's whole or Anthropic's by its type.
func sayError(w http.ResponseWriter, status int, anthropic, stream bool, openai, kind string) {
	body := `{"error":` + openai + `}`
	if anthropic {
		body = `{"type":"error","error":{"type":"` + kind + `","message":"model: no"}}`
	}
	switch {
	case stream && anthropic:
		says(status, inEvents, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"content\":[]}}\n\nevent: error\ndata: "+body+"\n\n")(w, nil)
	case stream:
		says(status, inEvents, aRole+"data: "+body+"\n\n")(w, nil)
	default:
		says(status, inJSON, body)(w, nil)
	}
}

// clientGot is what an official client got.
type clientGot struct {
	Client, Model string
	Stream        bool
	Text          string // or the error, after its type
}

// officialClients installs the clients of OpenAI and Anthropic. The function asks a site for models with
// each, streaming and not, below a path for each: /openai-<model>-true.
func officialClients(t *testing.T) (ask func(p *proxy, models ...string) []clientGot) {
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

// TestOfficialClientsNoticeNothing: the clients of OpenAI and Anthropic get whole answers, streaming and not, though the
// first provider fails each call in another way; with `api` and keys, and no other option.
func TestOfficialClientsNoticeNothing(t *testing.T) {
	ask := officialClients(t)
	one, two := newProvider(t, "one", false), newProvider(t, "two", false)
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var c completion
		if err != nil || json.Unmarshal(body, &c) != nil || r.Header.Get("Authorization")+r.Header.Get("X-Api-Key") == "" {
			http.Error(w, "what is that?", http.StatusBadRequest)
			return
		}
		faultsOfProviders[c.Model](w, strings.HasSuffix(r.URL.Path, "/messages"), c.Stream)
	})
	models := []string{"error-in-200", "limit-in-200", "limit", "no-credit", "overloaded", "unknown"}
	var sites strings.Builder // each call has a pool of its own, in which the first provider is well
	for _, client := range []string{"openai", "anthropic"} {
		for _, model := range models {
			for _, stream := range []bool{false, true} {
				name := fmt.Sprint(client, "-", model, "-", stream)
				pool := edited(name, "api "+client, []*api{one.api, two.api}, "key of-one", "key of-two")
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
	if want := 2 * 2 * len(models); whole != want || one.hits.Load() != int64(want) {
		t.Errorf("%d of %d answers are whole, and the provider that fails was asked %d times", whole, want, one.hits.Load())
	}
}

// TestOfficialClientsRaiseTheirErrors: what a pool itself says is an error of the type that the clients have for it,
// with the message and the API's own type of error.
func TestOfficialClientsRaiseTheirErrors(t *testing.T) {
	ask := officialClients(t)
	one := newProvider(t, "one", false)
	var sites strings.Builder
	var pools []string
	for _, client := range []string{"openai", "anthropic"} {
		for _, model := range []string{"held", "down"} {
			for _, stream := range []bool{false, true} {
				name := fmt.Sprint(client, "-", model, "-", stream)
				pools = append(pools, name)
				fmt.Fprintf(&sites, "handle_path /%s/* {\n%s\n}\n", name, edited(name, "api "+client, []*api{one.api}, "limit 1 requests per 1h"))
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
	for _, got := range ask(p, "held", "down") {
		want, words := "RateLimitError: 429", "try again in"
		if got.Model == "down" {
			want = map[string]string{"openai": "InternalServerError: 503", "anthropic": "ServiceUnavailableError: 503"}[got.Client]
		}
		if got.Client == "anthropic" {
			words = map[string]string{"held": "rate_limit_error", "down": "overloaded_error"}[got.Model]
		}
		if !strings.HasPrefix(got.Text, want) || !strings.Contains(got.Text, words) || !strings.Contains(got.Text, "at API") {
			t.Errorf("%s, %s, streaming %t: %s, want %s and %s", got.Client, got.Model, got.Stream, got.Text, want, words)
		}
	}
}
