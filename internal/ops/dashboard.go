package ops

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/pool"
	"github.com/apifailover/caddy-failover/web"
)

func init() {
	caddy.RegisterModule(new(Dashboard))
	httpcaddyfile.RegisterDirective("failover_dashboard", parseDashboard)
	// After directives that authenticate or refuse, before those that answer everything.
	httpcaddyfile.RegisterDirectiveOrder("failover_dashboard", httpcaddyfile.Before, "respond")
}

const defaultDashboardPath = "/failover"

// Dashboard is a page that shows the state of all pools of the process, live. It shows no
// credentials, but it names endpoints: the site decides who may see it, for example with
// `basic_auth`. It is read-only unless `levers` is set.
type Dashboard struct {
	// The path of the page; its files and its stream are below it. Requests for other
	// paths go to the next handler. Default: `/failover`.
	Path string `json:"path,omitempty"`

	// Lets users of the page drain endpoints, force them out of or into service, and set
	// weights and priorities. The value is text with placeholders that names the user, such
	// as `{http.auth.user.id}`; requests for which it is empty are refused. Default: none, the
	// page is read-only.
	Levers string `json:"levers,omitempty"`

	page *web.Page
}

// feed is the data that all dashboards of the process show.
var feed = web.NewFeed(web.Source{
	Pools:   func(now time.Time) any { return pool.Status(now) },
	History: func(now, from time.Time) any { return lastMinutes(now, from) },
	Past:    pastEvents,
	Watch:   watchEvents,

	Incidents: latestIncidents,
	Detail:    detailOf,
})

// CaddyModule implements caddy.Module.
func (*Dashboard) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.failover_dashboard",
		New: func() caddy.Module { return new(Dashboard) },
	}
}

// Provision implements caddy.Provisioner.
func (d *Dashboard) Provision(ctx caddy.Context) (err error) {
	d.Path = cmp.Or(d.Path, defaultDashboardPath)
	if err := d.Validate(); err != nil {
		return err
	}
	more := web.Handlers{Report: http.HandlerFunc(pageReport)}
	if d.Levers != "" {
		more.Actions = levers{d.Levers}
	}
	if d.page, err = web.NewPage(d.Path, feed, more); err != nil {
		return fmt.Errorf("setting up the dashboard: %w", err)
	}
	// A server that shuts down waits for its requests, but streams do not end by themselves.
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		server.RegisterOnShutdown(d.page.Close)
	}
	return nil
}

// Validate implements caddy.Validator.
func (d *Dashboard) Validate() error { return validateDashboardPath(d.Path) }

func validateDashboardPath(p string) error {
	switch {
	case !strings.HasPrefix(p, "/"):
		return fmt.Errorf("dashboard path %q: must begin with a slash", p)
	case strings.ContainsAny(p, "*?#{}%"):
		return fmt.Errorf("dashboard path %q: must be a plain path", p)
	case path.Clean(p) != p:
		return fmt.Errorf("dashboard path %q: write it as %s", p, path.Clean(p))
	}
	return nil
}

// Cleanup implements caddy.CleanerUpper.
func (d *Dashboard) Cleanup() error {
	if d.page != nil {
		d.page.Close()
	}
	return nil
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !d.page.Serves(r.URL.Path) {
		return next.ServeHTTP(w, r)
	}
	d.page.ServeHTTP(w, r)
	return nil
}

// parseDashboard sets up the dashboard from Caddyfile tokens. Syntax:
//
//	failover_dashboard [<path>] {
//		levers [<user>]
//	}
func parseDashboard(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next() // the directive's name
	d := new(Dashboard)
	if h.NextArg() {
		d.Path = h.Val()
		if strings.HasPrefix(d.Path, "@") {
			return nil, h.Errf("failover_dashboard takes a path, no matcher: %s; put it in a handle block", d.Path)
		}
		if err := validateDashboardPath(d.Path); err != nil {
			return nil, h.WrapErr(err)
		}
	}
	if h.NextArg() {
		return nil, h.ArgErr()
	}
	for h.NextBlock(0) {
		if h.Val() != "levers" {
			return nil, h.Errf("unknown option %q of failover_dashboard; there is levers", h.Val())
		}
		if d.Levers != "" {
			return nil, h.Err("levers: given twice")
		}
		d.Levers = defaultUser
		if h.NextArg() {
			if d.Levers = strings.TrimSpace(h.Val()); d.Levers == "" {
				return nil, h.Err("levers: the user is empty")
			}
		}
		if h.NextArg() {
			return nil, h.ArgErr()
		}
		if h.NextBlock(1) {
			return nil, h.Err("levers has no block")
		}
	}
	at := cmp.Or(d.Path, defaultDashboardPath)
	if at == "/" {
		return h.NewRoute(nil, d), nil
	}
	paths, err := json.Marshal([]string{at, at + "/*"})
	if err != nil {
		return nil, err
	}
	return h.NewRoute(caddy.ModuleMap{"path": paths}, d), nil
}

// pastEvents returns the known events after an ID.
func pastEvents(after uint64) []web.Event {
	var list []web.Event
	for _, e := range event.Latest.Since(after) {
		list = append(list, web.Event{ID: e.ID, Data: e})
	}
	return list
}

// watchEvents calls each with the events after an ID until ctx is done. If it falls
// behind, it goes on with the oldest event that is still known.
func watchEvents(ctx context.Context, after uint64, each func(web.Event)) {
	for ctx.Err() == nil {
		past, news := event.Latest.Subscribe(after)
		stop := context.AfterFunc(ctx, news.Close)
		for _, e := range past {
			after = e.ID
			each(web.Event{ID: e.ID, Data: e})
		}
		for e := range news.Events {
			after = e.ID
			each(web.Event{ID: e.ID, Data: e})
		}
		stop()
		news.Close()
	}
}

var (
	_ caddy.Provisioner           = (*Dashboard)(nil)
	_ caddy.Validator             = (*Dashboard)(nil)
	_ caddy.CleanerUpper          = (*Dashboard)(nil)
	_ caddyhttp.MiddlewareHandler = (*Dashboard)(nil)
)
