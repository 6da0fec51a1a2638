package failover

import (
	"encoding/json"
	"errors"
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

	// Who is told about incidents. The module `url` is in a separate package, which a build
	// includes with `--with github.com/apifailover/caddy-failover/notify`. Default: nobody.
	NotifyRaw []json.RawMessage `json:"notify,omitempty" caddy:"namespace=failover.notifiers inline_key=notifier"`

	// The fleet that this instance belongs to. Default: none.
	Fleet *Fleet `json:"fleet,omitempty"`

	notifiers  []notifier
	membership *membership // nil without a fleet
}

// leastMemory is the smallest limit that can be configured, in bytes.
const leastMemory = 1 << 20

// CaddyModule implements caddy.Module.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "failover", New: func() caddy.Module { return new(App) }}
}

// Provision implements caddy.Provisioner.
func (a *App) Provision(ctx caddy.Context) (err error) {
	if a.Fleet != nil {
		if a.membership, err = a.Fleet.provision(ctx); err != nil {
			return err
		}
	}
	return a.loadNotifiers(ctx)
}

// Validate implements caddy.Validator.
func (a *App) Validate() error {
	if a.Memory != 0 && a.Memory < leastMemory {
		return fmt.Errorf("memory is %d bytes: want at least %d (1MiB), or leave it out for the default", a.Memory, leastMemory)
	}
	return nil
}

// limiting is the App whose memory limits the bodies. nil means the default.
var limiting struct {
	sync.Mutex
	app *App
}

// Start implements caddy.App.
func (a *App) Start() error {
	a.limitBodies()
	if err := a.startNotifiers(); err != nil {
		return err
	}
	if a.membership != nil {
		a.membership.start()
	}
	return nil
}

// limitBodies makes a's memory the limit.
func (a *App) limitBodies() {
	limiting.Lock()
	defer limiting.Unlock()
	limiting.app = a
	if a.Memory == 0 {
		memory.Bodies.SetLimit(memory.Default())
	} else {
		memory.Bodies.SetLimit(a.Memory)
	}
}

// Stop implements caddy.App. The memory limit and the fleet of a newer App stay.
func (a *App) Stop() error {
	if a.membership != nil {
		a.membership.stop()
	}
	limiting.Lock()
	defer limiting.Unlock()
	if limiting.app == a {
		limiting.app = nil
		memory.Bodies.SetLimit(memory.Default())
	}
	return nil
}

// parseGlobalOption reads the global option:
//
//	failover {
//	    memory <size>
//	    notify <url> { ... }
//	    fleet <name> { ... }
//	}
func parseGlobalOption(d *caddyfile.Dispenser, existing any) (any, error) {
	if existing != nil {
		d.Next()
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
		case "fleet":
			if app.Fleet != nil {
				return nil, d.Err("fleet appears twice; an instance belongs to one fleet")
			}
			var err error
			if app.Fleet, err = parseFleet(d); err != nil {
				return nil, err
			}
		default:
			return nil, d.Errf("unknown option %q of failover%s; the global block has memory, notify and fleet, all other options belong in the failover block of a site", word, strings.TrimSuffix(suggest(word, "memory", "notify", "fleet"), "?"))
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

// A notifier tells people about the incidents of pools. Its module is in the namespace
// failover.notifiers.
type notifier interface {
	caddy.Module

	// Start starts to tell people. The App calls it when the configuration runs. It does not block.
	Start() error
}

// urlNotifier is the module of the option `notify`, in the package notify.
const urlNotifier = "failover.notifiers.url"

// errNoNotify is the error of the option `notify` in a build without the package.
var errNoNotify = errors.New("notify is not part of this Caddy: build it with " +
	"xcaddy build --with github.com/apifailover/caddy-failover --with github.com/apifailover/caddy-failover/notify")

// loadNotifiers loads the modules that NotifyRaw configures.
func (a *App) loadNotifiers(ctx caddy.Context) error {
	if a.NotifyRaw == nil {
		return nil
	}
	if _, err := caddy.GetModule(urlNotifier); err != nil {
		return errNoNotify
	}
	loaded, err := ctx.LoadModule(a, "NotifyRaw")
	if err != nil {
		return fmt.Errorf("loading notify: %w", err)
	}
	for _, one := range loaded.([]any) {
		n, ok := one.(notifier)
		if !ok {
			return fmt.Errorf("loading notify: module %T is no notifier", one)
		}
		a.notifiers = append(a.notifiers, n)
	}
	return nil
}

// startNotifiers starts the modules that loadNotifiers has loaded.
func (a *App) startNotifiers() error {
	for _, n := range a.notifiers {
		if err := n.Start(); err != nil {
			return fmt.Errorf("starting %s: %w", n.CaddyModule().ID, err)
		}
	}
	return nil
}

// parseNotify reads one notifier in the global option:
//
//	notify <url> {
//	    on <events...>
//	}
//
// Errors do not show the URL, because it may contain a secret.
func parseNotify(d *caddyfile.Dispenser) (json.RawMessage, error) {
	if _, err := caddy.GetModule(urlNotifier); err != nil {
		return nil, d.WrapErr(errNoNotify)
	}
	module, err := caddyfile.UnmarshalModule(d, urlNotifier)
	if err != nil {
		return nil, err
	}
	return caddyconfig.JSONModuleObject(module, "notifier", "url", nil), nil
}
