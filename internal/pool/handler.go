package pool

import (
	"cmp"
	"net/http"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/sla"
	"github.com/apifailover/caddy-failover/internal/target"
)

// A Handler is one handler's use of a pool: its targets, its routing tables, and its
// settings of the pool. Fields that Pool.Mu does not guard are set before Attach and
// read-only afterwards.
type Handler struct {
	// Each call reads these fields, so they are close together.
	Pool       *Pool
	Generation *Generation // set by attach
	Table      atomic.Pointer[Routes]
	Dynamic    *DynamicTargets // nil for static upstreams

	Targets      []*target.Target // sorted by priority; guarded by Pool.Mu once attached
	Overflow     float64          // the option overflow; 0: strict priorities
	Keyed        bool             // calls may have a key; calls with the same key go to one endpoint
	ScopedBy     string           // identifies how calls get their scope; empty: they have none
	Scheduled    bool             // some endpoint has schedules
	StandbyShare float64          // part of the calls, 0 to 1, that goes to tiers below the serving one

	// NewTarget makes the target of a dynamic address, without its state.
	NewTarget func(address string) *target.Target

	Terms     Terms
	Breaker   *breaker.Config // nil: the handler does not set it
	Longest   time.Duration   // longest timeout of an attempt
	Objective *sla.Objective  // nil: no SLA, and no stored history

	Checks    func(own *endpoint.CheckOverride) *endpoint.CheckConfig // settings for an endpoint; nil: it has no checks
	SaysCheck bool                                                    // Checks are the handler's own, not the defaults
	HasChecks bool                                                    // some endpoint has checks
	probes    http.RoundTripper                                       // for checks; nil: not ready yet; guarded by Pool.Mu

	// Handlers with the same Reach send requests to any endpoint in the same way. So a call of one may go to an
	// endpoint of the other. The zero value is like no other.
	Reach [32]byte

	Logger *zap.Logger
	Source EventSource

	parted atomic.Pointer[[]*target.Target] // the handler's targets when it was detached; nil: it is attached
	heir   atomic.Pointer[heir]             // as Heir found it; nil: not yet
}

// LogPanic logs a recovered panic with the caller's stack.
func (h *Handler) LogPanic(what string, value any) {
	h.Logger.Error(what, zap.String("pool", h.Pool.Name), zap.Any("panic", value), zap.ByteString("stack", debug.Stack()))
}

// Terms are the options that must be the same in all handlers of a configuration that share a pool.
type Terms interface {
	// AgreesWith returns why two handlers cannot share a pool; nil if they can.
	AgreesWith(other Terms) error
}

// An EventSource is a configuration with its subscribers of events and its storage. It is
// safe for concurrent use.
type EventSource interface {
	// Usable reports whether the configuration has started and not ended.
	Usable() bool
	// Emit passes an event to the configuration's subscribers. They may be slow and may panic.
	Emit(e event.Event)
	// Storage returns the configuration's storage.
	Storage() sla.Storage
}

// allTargets returns the targets of the handler. It needs Pool.Mu.
func (h *Handler) allTargets() []*target.Target {
	if h.Dynamic == nil {
		return h.Targets
	}
	var targets []*target.Target
	for _, t := range h.Dynamic.Known {
		targets = append(targets, t)
	}
	return targets
}

// TableFor returns the routing table of the upstreams that the proxy offers.
func (h *Handler) TableFor(pool reverseproxy.UpstreamPool, now time.Time) *Routes {
	if h.Dynamic == nil {
		return h.Table.Load()
	}
	return h.tableOf(pool, now)
}

// tableOf returns the table of dynamic upstreams.
func (h *Handler) tableOf(pool reverseproxy.UpstreamPool, now time.Time) *Routes {
	if d := h.Dynamic.current.Load(); d != nil && d.is(pool) {
		if !d.used.Load() {
			d.used.Store(true)
		}
		return d.table.Load()
	}
	return h.dynamicTable(pool, now)
}

// dynamicTable returns the table of a set of upstreams that differs from the latest one. The
// same set in another order has the same table.
func (h *Handler) dynamicTable(pool reverseproxy.UpstreamPool, now time.Time) *Routes {
	h.Pool.Mu.Lock()
	defer h.Pool.Mu.Unlock()
	d := &dynamicTable{addresses: make([]string, len(pool))}
	for i, u := range pool {
		d.addresses[i] = u.Dial
	}
	last := h.Dynamic.current.Load()
	if last != nil && last.has(d.addresses) {
		d.targets = last.targets
		d.table.Store(last.table.Load())
		d.used.Store(true)
		h.Dynamic.current.Store(d)
		return d.table.Load()
	}
	passing := make(map[string]*target.Target) // targets of the latest set that are not known
	if last != nil {
		for _, t := range last.targets {
			if h.Dynamic.Known[t.Address] != t {
				passing[t.Address] = t
			}
		}
	}
	added := make(map[string]bool, len(pool))
	var unknown []string
	for _, address := range d.addresses {
		if added[address] {
			continue
		}
		added[address] = true
		if t := h.Dynamic.Known[address]; t != nil {
			h.Pool.sawLocked(t.State, now)
			d.targets = append(d.targets, t)
		} else {
			unknown = append(unknown, address)
		}
	}
	h.Dynamic.makeRoom(h.Pool, len(unknown), now)
	for _, address := range unknown {
		t := passing[address]
		if len(h.Dynamic.Known) < maxDynamic || t == nil {
			t = h.newDynamicLocked(address)
		}
		h.Pool.sawLocked(t.State, now)
		d.targets = append(d.targets, t)
	}
	slices.SortStableFunc(d.targets, func(a, b *target.Target) int { return cmp.Compare(a.Priority, b.Priority) })
	built := h.build(d.targets, now)
	d.table.Store(built)
	h.Dynamic.current.Store(d)
	h.Pool.checker.replan()
	return built
}

// newDynamicLocked returns the target of an unknown address. If there is room, the address
// is known from then on.
func (h *Handler) newDynamicLocked(address string) *target.Target {
	t := h.NewTarget(address)
	key := endpoint.Key{Name: t.Name, Address: t.Address}
	switch {
	case h.Dynamic.gone: // a request that began before the handler left
		t.State = &endpoint.State{Key: key, Owner: h.Pool, Left: true}
	case len(h.Dynamic.Known) >= maxDynamic:
		t.State = &endpoint.State{Key: key, Owner: h.Pool, Left: true}
		return t
	default:
		m := h.Pool.joinLocked(key)
		m.refs++
		h.Pool.identifyLocked(m, t, false)
		t.State = m.State
	}
	h.Dynamic.Known[address] = t
	return t
}

// Rebuild rebuilds the handler's tables from the states of its endpoints.
func (h *Handler) Rebuild(now time.Time) {
	if h.Dynamic == nil {
		h.Table.Store(h.build(h.Targets, now))
		return
	}
	if d := h.Dynamic.current.Load(); d != nil {
		d.table.Store(h.build(d.targets, now))
	}
}

// takeTargets removes all targets from the handler and returns them.
func (h *Handler) takeTargets() []*target.Target {
	targets := h.Targets
	h.Targets = nil
	if h.Dynamic != nil {
		h.Dynamic.gone = true
		for address, t := range h.Dynamic.Known {
			targets = append(targets, t)
			delete(h.Dynamic.Known, address)
		}
	}
	return targets
}

// GoLive makes the pool use this handler's configuration. It is called when the configuration has
// started or gets its first request. Before that, the reload may still fail.
func (h *Handler) GoLive() {
	if h.Pool.generation.Load() != h.Generation {
		h.takeOver()
	}
}

// takeOver makes the pool use this handler's configuration, unless it uses a newer one.
func (h *Handler) takeOver() {
	if h.Pool.generation.Load().serial > h.Generation.serial {
		return
	}
	var news []event.Event
	h.Pool.Mu.Lock()
	if h.Pool.generation.Load().serial < h.Generation.serial {
		h.Pool.generation.Store(h.Generation)
		h.Pool.identifyAllLocked(h.Generation)
		_, news = h.Pool.rescopeLocked(h.Generation, time.Now(), nil)
	}
	h.Pool.Mu.Unlock()
	h.Pool.emitAll(news)
	h.Pool.checker.replan()
	h.Pool.Poke()
}

// BreakerConfig returns the breaker settings of this handler's configuration.
func (h *Handler) BreakerConfig() *breaker.Config { return h.Generation.Breaker.Load() }

// currentTable returns the table of the latest calls; nil if there is none yet.
func (h *Handler) currentTable() *Routes {
	if h.Dynamic == nil {
		return h.Table.Load()
	}
	if d := h.Dynamic.current.Load(); d != nil {
		return d.table.Load()
	}
	return nil
}
