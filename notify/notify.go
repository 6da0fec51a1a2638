// Package notify tells people about the incidents of pools: by a POST of JSON, or through a service
// that the shoutrrr library supports. The plugin does not import it: a build includes it with a
// `--with` of its own.
package notify

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/apifailover/caddy-failover/internal/event"
)

func init() { caddy.RegisterModule(new(URL)) }

// URL sends notices to a URL when an incident begins, gets worse, and ends. A pool gets at most one
// notice a minute. It stands for everything that happened in that minute, and has the latest state.
type URL struct {
	// Where notices go. `https://` and `http://` get a POST of JSON. Other schemes name a service,
	// such as `slack://`, in the form that shoutrrr documents. The URL may contain placeholders,
	// such as `{env.SLACK_URL}`. Required.
	URL string `json:"url,omitempty"`

	// The events that cause a notice. Default: `breaker_opened`, `all_down` and `incident_over`.
	On []string `json:"on,omitempty"`

	key      string // of the receiver
	receiver *receiver
	logger   *zap.Logger
}

// CaddyModule implements caddy.Module.
func (*URL) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "failover.notifiers.url", New: func() caddy.Module { return new(URL) }}
}

// defaultKinds are the events with which an incident begins, gets worse, and ends.
var defaultKinds = []string{event.BreakerOpened, event.AllDown, event.IncidentOver}

// kinds are all events that can cause a notice.
var kinds = []string{
	event.Failover, event.BreakerOpened, event.BreakerRecovering, event.BreakerClosed, event.EndpointHeld,
	event.AllDown, event.PoolUp, event.IncidentOver, event.SLABurning, event.SLAMetAgain, event.Anomaly,
	event.Operator, event.Scheduled, event.FleetLost, event.FleetBack,
}

// Provision implements caddy.Provisioner. No error shows the URL.
func (u *URL) Provision(ctx caddy.Context) error {
	u.logger = ctx.Logger()
	if u.URL == "" {
		return errors.New("notify has no URL")
	}
	to, err := caddy.NewReplacer().ReplaceOrErr(u.URL, true, true)
	if err != nil {
		return errors.New("a placeholder in the URL of notify has no value")
	}
	for i, kind := range u.On {
		switch {
		case !slices.Contains(kinds, kind):
			return fmt.Errorf("notify: unknown event %q; the events are %s", kind, strings.Join(kinds, ", "))
		case slices.Contains(u.On[:i], kind):
			return fmt.Errorf("notify: event %s appears twice", kind)
		}
	}
	if len(u.On) == 0 {
		u.On = defaultKinds
	}
	to = strings.TrimSpace(to)
	s, err := newTarget(to)
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	u.key = to + "\n" + strings.Join(slices.Sorted(slices.Values(u.On)), " ")
	value, _, err := receivers.LoadOrNew(u.key, func() (caddy.Destructor, error) { return newReceiver(s, u.On), nil })
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	u.receiver = value.(*receiver)
	return nil
}

// Start starts to send notices. It does not block.
func (u *URL) Start() error {
	u.receiver.start(u.logger)
	return nil
}

// Cleanup implements caddy.CleanerUpper. It does not wait for notices.
func (u *URL) Cleanup() error {
	if u.receiver == nil {
		return nil
	}
	_, err := receivers.Delete(u.key)
	return err
}

// UnmarshalCaddyfile implements caddyfile.Unmarshaler. No error shows the URL. Syntax:
//
//	notify <url> {
//	    on <events...>
//	}
func (u *URL) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.NextArg() {
		return d.Err("notify: want one URL, such as https://example.com/hook or slack://...")
	}
	u.URL = d.Val()
	if d.NextArg() {
		return d.Err("notify: want one URL; events stand in its block, after on")
	}
	for d.NextBlock(0) {
		if d.Val() != "on" {
			return d.Err("notify: the only option in its block is on")
		}
		on := d.RemainingArgs()
		if len(on) == 0 {
			return d.Err("on: want at least one event, such as all_down")
		}
		for _, kind := range on {
			if !slices.Contains(kinds, kind) {
				return d.Errf("on: unknown event %q; the events are %s", kind, strings.Join(kinds, ", "))
			}
			if slices.Contains(u.On, kind) {
				return d.Errf("on: %s appears twice; remove one", kind)
			}
			u.On = append(u.On, kind)
		}
		if d.NextBlock(1) {
			return d.Err("on: has no block")
		}
	}
	if strings.Contains(u.URL, "{") {
		return nil // Provision checks it, when placeholders have values
	}
	if _, err := newTarget(u.URL); err != nil {
		return d.Errf("notify: %v", err)
	}
	return nil
}

var (
	_ caddy.Provisioner     = (*URL)(nil)
	_ caddy.CleanerUpper    = (*URL)(nil)
	_ caddyfile.Unmarshaler = (*URL)(nil)
)
