package llm

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/apifailover/caddy-failover/bench/internal/client"
	"github.com/apifailover/caddy-failover/bench/internal/peers"
	"github.com/apifailover/caddy-failover/bench/internal/process"
)

// A kind is a program with a configuration. Each gets a provider of its own.
type kind struct {
	Name, About string
	start       func(ctx context.Context, l launcher, p *provider) (*system, error)
	// header returns what a client of an API must send with a call of a model; nil: nothing.
	header func(p *provider, api, model, fallback string) map[string]string
}

// A launcher knows where the programs are.
type launcher struct {
	dir   string // parent of each system's directory
	caddy string
	npm   string // directory with node_modules
}

// A system is a running program.
type system struct {
	kind
	*process.Process
	provider *provider
	url      string
	client   *http.Client
}

func (s *system) header(model, fallback string) map[string]string {
	if s.kind.header == nil {
		return nil
	}
	return s.kind.header(s.provider, "openai", model, fallback)
}

// kinds are the systems to compare.
func kinds() []kind {
	return []kind{
		ours("failover", "this plugin: the README's example for LLM APIs, `api openai` and a `key` for each endpoint"),
		ours("failover complete", "the same with `commit complete`", "commit complete"),
		ours("failover tuned", "the same with `timeout 12s`, `same_endpoint 1` and `wait_retry_after 3s`, for providers that are worth waiting for", "commit complete",
			"timeout 12s", "retry {\n\tsame_endpoint 1\n\twait_retry_after 3s\n}"),
		{
			Name:   "Portkey",
			About:  "Portkey's gateway: fallback between two targets, 2 retries with `use_retry_after_header`, `request_timeout` 30 s, the catalogue's own configuration of it",
			start:  startPortkey,
			header: portkeyConfig,
		},
	}
}

// ours is the plugin with options.
func ours(name, about string, options ...string) kind {
	return kind{Name: name, About: about, start: func(ctx context.Context, l launcher, p *provider) (*system, error) {
		pool := func(api string) string {
			return fmt.Sprintf(`failover {
	name %[1]s
	api %[1]s
	endpoint http://%[2]s {
		name one
		key of-one
	}
	endpoint http://%[3]s {
		name two
		key of-two
		model s14-stream-cut fb-ok-noprefill
		model %[4]s
	}
	%[5]s
}`, api, p.Address, p.Second, defaultFallback, strings.Join(options, "\n"))
		}
		return l.launch(ctx, name, p, func(port int) (string, []string) {
			text := fmt.Sprintf("{\n\tadmin off\n\tpersist_config off\n\tauto_https off\n\tgrace_period 1s\n\tlog {\n\t\toutput discard\n\t}\n}\nhttp://127.0.0.1:%d {\n"+
				"handle /v1/messages {\n%s\n}\nhandle {\n%s\n}\n}\n", port, pool("anthropic"), pool("openai"))
			return text, []string{l.caddy, "run", "--adapter", "caddyfile", "--config", "config"}
		})
	}}
}

func startPortkey(ctx context.Context, l launcher, p *provider) (*system, error) {
	return l.launch(ctx, "Portkey", p, func(port int) (string, []string) {
		return "", peers.PortkeyCommand(l.npm, port)
	})
}

// portkeyConfig is the header that configures Portkey's gateway.
func portkeyConfig(p *provider, api, model, fallback string) map[string]string {
	base := func(address string) string {
		return "http://" + address + "/v1"
	}
	target := func(address, model string, more map[string]any) map[string]any {
		t := map[string]any{"provider": api, "api_key": "of-" + model, "custom_host": base(address), "override_params": map[string]any{"model": model}}
		for name, value := range more {
			t[name] = value
		}
		return t
	}
	config := target(p.Address, model, nil)
	if fallback != "" {
		retry := map[string]any{"attempts": 2, "on_status_codes": []int{429, 500, 502, 503, 504}, "use_retry_after_header": true}
		config = map[string]any{
			"strategy":        map[string]any{"mode": "fallback"},
			"request_timeout": 30000,
			"targets":         []any{target(p.Address, model, map[string]any{"retry": retry}), target(p.Second, fallback, nil)},
		}
	}
	text, err := json.Marshal(config)
	if err != nil {
		panic(err) // there is nothing in it that could fail
	}
	return map[string]string{"x-portkey-config": string(text)}
}

// launch starts a program in a directory of its own, which has its configuration, and waits until it listens.
func (l launcher) launch(ctx context.Context, name string, p *provider, command func(port int) (config string, argv []string)) (*system, error) {
	port, err := process.FreePort()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(l.dir, strings.ReplaceAll(name, " ", "-")+"-")
	if err != nil {
		return nil, err
	}
	config, argv := command(port)
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o644); err != nil {
		return nil, err
	}
	running, err := process.Start(strings.ReplaceAll(name, " ", "-"), dir, argv)
	if err != nil {
		return nil, err
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	if err := running.Await(ctx, address); err != nil {
		running.Stop()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &system{Process: running, provider: p, url: "http://" + address, client: client.New(client.H1, nil)}, nil
}
