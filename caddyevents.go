package failover

import (
	"context"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/pool"
	"github.com/apifailover/caddy-failover/internal/sla"
)

func init() { caddy.RegisterModule(new(EventSource)) }

// EventSource is the origin of a pool's events in Caddy's events app. It has no configuration;
// each policy creates one.
type EventSource struct {
	ctx caddy.Context
	app *caddyevents.App
	// running is set when the app has started. An earlier event would be a data race.
	running atomic.Bool
}

// CaddyModule implements caddy.Module.
func (*EventSource) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.reverse_proxy.selection_policies.failover.events",
		New: func() caddy.Module { return new(EventSource) },
	}
}

// Provision implements caddy.Provisioner.
func (s *EventSource) Provision(ctx caddy.Context) error {
	s.ctx = ctx
	return nil
}

// newEventSource returns a source of events that is usable until ctx ends. Its context has a copy of
// ctx's ancestry, because provisioning further modules writes to the memory of the original.
func newEventSource(ctx caddy.Context) (*EventSource, error) {
	app, err := ctx.App("events")
	if err != nil {
		return nil, fmt.Errorf("getting events app: %w", err)
	}
	own, _ := caddy.NewContext(ctx) // ends with ctx
	loaded, err := own.LoadModuleByID(string(new(EventSource).CaddyModule().ID), nil)
	if err != nil {
		return nil, fmt.Errorf("loading source of events: %w", err)
	}
	s := loaded.(*EventSource)
	s.app = app.(*caddyevents.App)
	return s, nil
}

// Usable implements pool.EventSource.
func (s *EventSource) Usable() bool {
	return s.running.Load() && s.ctx.Err() == nil
}

// Emit implements pool.EventSource. The data of an event has its details at the same level.
func (s *EventSource) Emit(e event.Event) {
	if !s.app.ShouldEmit(e.Kind) {
		return
	}
	data := maps.Clone(e.Details)
	if data == nil {
		data = make(map[string]any)
	}
	data["id"], data["at"], data["pool"], data["count"] = e.ID, e.At, e.Pool, e.Count
	data["endpoint"], data["to"], data["reason"] = e.Endpoint, e.To, e.Reason
	s.app.Emit(s.ctx, e.Kind, data)
}

// Storage implements pool.EventSource.
func (s *EventSource) Storage() sla.Storage { return s.ctx.Storage() }

// startHandler handles the start of its policy's configuration.
type startHandler struct{ policy *Policy }

// Handle implements caddyevents.Handler.
func (h startHandler) Handle(context.Context, caddy.Event) error {
	h.policy.source.running.Store(true)
	h.policy.handler.GoLive()
	h.policy.handler.Pool.Started()
	return nil
}

// stopHandler handles the coming stop of its policy's configuration, while its storage still works.
type stopHandler struct{ policy *Policy }

// Handle implements caddyevents.Handler. If Caddy exits, calls wait no longer than their connections last.
func (h stopHandler) Handle(context.Context, caddy.Event) error {
	p := h.policy.handler.Pool
	if app, err := h.policy.source.ctx.AppIfConfigured("http"); err == nil && caddy.Exiting() {
		if by := app.(*caddyhttp.App); by.GracePeriod > 0 {
			left := time.Duration(by.ShutdownDelay + by.GracePeriod)
			p.Queue.EndBy(time.Now().Add(left - min(timeToRefuse, time.Duration(by.GracePeriod)/2)))
		}
	}
	pool.SaveAll(h.policy.handler.Generation)
	return nil
}

// timeToRefuse is how long before the end of the grace period waits end, so that clients still get the refusals.
const timeToRefuse = time.Second

var (
	_ caddy.Provisioner   = (*EventSource)(nil)
	_ pool.EventSource    = (*EventSource)(nil)
	_ caddyevents.Handler = startHandler{}
	_ caddyevents.Handler = stopHandler{}
)
