package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// execHandler is an event handler that runs a command. Its syntax is that of the exec handler in docs/events.md.
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

func (h execHandler) Handle(ctx context.Context, _ caddy.Event) error {
	repl := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	var command []string
	for _, word := range h.Command {
		command = append(command, repl.ReplaceAll(word, ""))
	}
	return exec.CommandContext(ctx, command[0], command[1:]...).Run()
}

// TestEventRunsACommand checks that a Caddyfile can have a command run when a breaker opens.
func TestEventRunsACommand(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, "respond ok")
	file := p.file("told")
	global := fmt.Sprintf("events {\n\ton breaker_opened exec sh -c `echo \"$1\" > %s` sh \"{event.data.endpoint} of {event.data.pool}: {event.data.reason}\"\n}", file)
	if err := p.loadWith(global, site("breaker {\n\t\tconsecutive_failures 1\n\t}", one, two)); err != nil {
		t.Fatal(err)
	}
	one.answer(http.StatusBadGateway)
	p.get()
	eventually(t, "the command has run", func() bool {
		text, _ := os.ReadFile(file)
		return strings.TrimSpace(string(text)) == "one of api: consecutive_failures"
	})
}
