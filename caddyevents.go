package failover

import (
	"context"
	"fmt"
	"maps"
	"runtime/debug"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"

	"github.com/apifailover/caddy-failover/internal/event"
)

func init() { caddy.RegisterModule(new(EventSource)) }

// EventSource is the origin of a pool's events in Caddy's events app. It has no
// configuration of its own: policies make one each.
type EventSource struct {
	ctx caddy.Context
	app *caddyevents.App
	// events before that would race with the app's start
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

// newEventSource makes a source of events that lives as long as ctx. Its context
// has a lineage of its own: that of ctx shares memory with those of modules which
// are provisioned later.
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

// usable tells whether the configuration has started and not ended yet.
func (s *EventSource) usable() bool {
	return s != nil && s.running.Load() && s.ctx.Err() == nil
}

// startHandler is told when the configuration of its policy has started.
type startHandler struct{ policy *Policy }

// Handle implements caddyevents.Handler.
func (h startHandler) Handle(context.Context, caddy.Event) error {
	h.policy.source.running.Store(true)
	h.policy.goLive()
	h.policy.pool.keeping.poke()
	return nil
}

// stopHandler is told before the configuration of its policy stops, while its
// storage is still there.
type stopHandler struct{ policy *Policy }

// Handle implements caddyevents.Handler.
func (h stopHandler) Handle(context.Context, caddy.Event) error {
	if p := h.policy.pool; p.source() == h.policy.generation.source {
		p.keeping.saveNow() // no newer configuration has taken the pool over
	}
	return nil
}

// source is that of the configuration the pool runs by, or of the newest that
// runs, where that one has ended; nil if none does.
func (p *pool) source() *EventSource {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g := p.generation.Load(); g != nil && g.source.usable() {
		return g.source
	}
	for i := len(p.attached) - 1; i >= 0; i-- {
		if s := p.attached[i].source; s.usable() {
			return s
		}
	}
	return nil
}

// tellCaddy hands an event to Caddy's events app, whose subscribers may be slow
// and may panic. Their data is the event's, with its details at the same level.
func (p *pool) tellCaddy(e event.Event) {
	defer func() {
		if r := recover(); r != nil {
			p.logger().Error("a subscriber panicked", zap.String("pool", p.name), zap.String("event", e.Kind),
				zap.Any("panic", r), zap.ByteString("stack", debug.Stack()))
		}
	}()
	if lost := p.outbox.Caddy.Lost.Swap(0); lost > 0 {
		p.logger().Warn("subscribers were too slow: events were not delivered to them",
			zap.String("pool", p.name), zap.Int64("missing", lost))
	}
	s := p.source()
	if s == nil || !s.app.ShouldEmit(e.Kind) {
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

var (
	_ caddy.Provisioner   = (*EventSource)(nil)
	_ caddyevents.Handler = startHandler{}
	_ caddyevents.Handler = stopHandler{}
)
