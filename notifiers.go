package failover

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// A notifier tells people about the incidents of pools. Its module is in the namespace
// failover.notifiers.
type notifier interface {
	caddy.Module

	// Start is called once the configuration runs. It does not block.
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
			return fmt.Errorf("loading notify: module %T tells nobody", one)
		}
		a.notifiers = append(a.notifiers, n)
	}
	return nil
}

// startNotifiers starts what loadNotifiers has loaded.
func (a *App) startNotifiers() error {
	for _, n := range a.notifiers {
		if err := n.Start(); err != nil {
			return fmt.Errorf("starting %s: %w", n.CaddyModule().ID, err)
		}
	}
	return nil
}

// parseNotify reads one line of the global option, and its block:
//
//	notify <url> {
//	    on <events...>
//	}
//
// No error shows the URL, because it may contain a secret.
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
