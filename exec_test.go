package failover

import (
	"context"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// execHandler has the syntax of the exec handler in docs/events.md, and runs nothing.
type execHandler struct {
	Command []string `json:"command"`
}

func init() { caddy.RegisterModule(execHandler{}) }

func (execHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.exec", New: func() caddy.Module { return new(execHandler) }}
}

func (h *execHandler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if h.Command = d.RemainingArgs(); len(h.Command) == 0 {
		return d.ArgErr()
	}
	return nil
}

func (execHandler) Handle(context.Context, caddy.Event) error { return nil }
