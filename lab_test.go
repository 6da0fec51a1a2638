package failover

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// provisioned provisions a proxy handler as Caddy does. end cleans it up.
func provisioned(t testing.TB, config json.RawMessage) (h *reverseproxy.Handler, end context.CancelFunc, err error) {
	t.Helper()
	parent, err := caddy.ProvisionContext(&caddy.Config{Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{
		"default": {BaseLog: caddy.BaseLog{WriterRaw: json.RawMessage(`{"output": "discard"}`)}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(parent)
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(config, &fields); err != nil {
		t.Fatal(err)
	}
	delete(fields, "handler")
	config, err = json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	module, err := ctx.LoadModuleByID("http.handlers.reverse_proxy", config)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	return module.(*reverseproxy.Handler), cancel, nil
}
