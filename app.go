package failover

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/dustin/go-humanize"

	"github.com/apifailover/caddy-failover/internal/memory"
)

func init() {
	caddy.RegisterModule(new(App))
	httpcaddyfile.RegisterGlobalOption("failover", parseGlobalOption)
}

// App has the settings that all pools of a process share. It works without a configuration.
type App struct {
	// The memory in bytes, at least 1048576 (1 MiB), that all pools together may use to keep
	// request bodies for another attempt and to hold back responses. When it is used up, bodies
	// are passed on as they arrive and are not kept. Default: a quarter of GOMEMLIMIT or, without
	// it, of the memory of the machine or its control group.
	Memory int64 `json:"memory,omitempty"`

	// Who is told about incidents. The module `url` is in a package of its own, which a build
	// includes with `--with github.com/apifailover/caddy-failover/notify`. Default: nobody.
	NotifyRaw []json.RawMessage `json:"notify,omitempty" caddy:"namespace=failover.notifiers inline_key=notifier"`

	notifiers []notifier
}

// leastMemory is the least that can be configured.
const leastMemory = 1 << 20

// CaddyModule implements caddy.Module.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "failover", New: func() caddy.Module { return new(App) }}
}

// Provision implements caddy.Provisioner.
func (a *App) Provision(ctx caddy.Context) error { return a.loadNotifiers(ctx) }

// Validate implements caddy.Validator.
func (a *App) Validate() error {
	if a.Memory != 0 && a.Memory < leastMemory {
		return fmt.Errorf("memory is %d bytes: want at least %d (1MiB), or leave it out for the default", a.Memory, leastMemory)
	}
	return nil
}

// bound is the App whose memory bounds the bodies.
var bound struct {
	sync.Mutex
	by *App // nil: the default
}

// Start implements caddy.App.
func (a *App) Start() error {
	a.boundBodies()
	return a.startNotifiers()
}

// boundBodies makes a's memory the bound.
func (a *App) boundBodies() {
	bound.Lock()
	defer bound.Unlock()
	bound.by = a
	if a.Memory == 0 {
		memory.Bodies.SetLimit(memoryByDefault())
	} else {
		memory.Bodies.SetLimit(a.Memory)
	}
}

// Stop implements caddy.App. A newer App's bound stays.
func (a *App) Stop() error {
	bound.Lock()
	defer bound.Unlock()
	if bound.by == a {
		bound.by = nil
		memory.Bodies.SetLimit(memoryByDefault())
	}
	return nil
}

// parseGlobalOption reads the global option:
//
//	failover {
//	    memory <size>
//	    notify <url> { ... }
//	}
func parseGlobalOption(d *caddyfile.Dispenser, existing any) (any, error) {
	if existing != nil {
		return nil, d.Err("failover appears twice in the global options; put its lines into one block")
	}
	d.Next()
	if d.NextArg() {
		return nil, d.Errf("failover: unexpected %q; write its options in a block, one on each line", d.Val())
	}
	app := new(App)
	for d.NextBlock(0) {
		switch word := d.Val(); word {
		case "memory":
			if app.Memory != 0 {
				return nil, d.Err("memory appears twice; remove one")
			}
			var size string
			if !d.AllArgs(&size) {
				return nil, d.Err("memory: want one size, such as 256MiB")
			}
			n, err := humanize.ParseBytes(size)
			if err != nil || n > 1<<62 {
				return nil, d.Errf("memory: %q is not a size; write for example 256MiB or 1GiB", size)
			}
			app.Memory = int64(n)
			if n < leastMemory {
				return nil, d.Errf("memory: %s is too little; write at least 1MiB, or leave memory out for the default", size)
			}
		case "notify":
			one, err := parseNotify(d)
			if err != nil {
				return nil, err
			}
			app.NotifyRaw = append(app.NotifyRaw, one)
		default:
			return nil, d.Errf("unknown option %q of failover%s; the global block has memory and notify, all other options belong in the failover block of a site", word, strings.TrimSuffix(meant(word, "memory", "notify"), "?"))
		}
	}
	return httpcaddyfile.App{Name: "failover", Value: caddyconfig.JSON(app, nil)}, nil
}

var (
	_ caddy.App         = (*App)(nil)
	_ caddy.Module      = (*App)(nil)
	_ caddy.Provisioner = (*App)(nil)
	_ caddy.Validator   = (*App)(nil)
)
