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

// A Handler is one handler's use of a pool: its targets, the tables that its calls
// go by, and what it says of the pool itself. What is not guarded by Pool.Mu is set
// before it is attached, and only read from then on.
type Handler struct {
	// what each call looks at, close together
	Pool       *Pool
	Generation *Generation // set by attach
	Table      atomic.Pointer[Routes]
	Dynamic    *DynamicTargets // nil for static upstreams

	Targets      []*target.Target // sorted by priority; guarded by Pool.Mu once attached
	Overflow     float64          // when a tier gives load to the next; 0: strict
	Keyed        bool             // calls may have a key; those of one key go to one endpoint
	StandbyShare float64          // of the calls, which goes to tiers below the one that serves

	// NewTarget makes the target of a dynamic address, without its state.
	NewTarget func(address string) *target.Target

	Terms     Terms
	Breaker   *breaker.Config // nil: the handler says nothing of it
	Longest   time.Duration   // timeout of an attempt
	Objective *sla.Objective  // nil: no SLA, and no history is kept

	Checks    func(own *endpoint.CheckOverride) *endpoint.CheckConfig // of an endpoint; nil result: none
	SaysCheck bool                                                    // checks are this handler's own, not the defaults
	HasChecks bool                                                    // some endpoint is checked
	probes    http.RoundTripper                                       // for checks; nil: not ready yet; guarded by Pool.Mu

	Logger *zap.Logger
	Source EventSource

	parted atomic.Pointer[[]*target.Target] // what it had when it was detached; nil: it is attached
}

// LogPanic logs a panic that was recovered, with the stack of the caller.
func (h *Handler) LogPanic(what string, value any) {
	h.Logger.Error(what, zap.String("pool", h.Pool.Name), zap.Any("panic", value), zap.ByteString("stack", debug.Stack()))
}

// Terms are a handler's options, as far as the handlers of one configuration have
// to agree on them to share a pool.
type Terms interface {
	// AgreesWith tells why two handlers cannot share a pool; nil: they can.
	AgreesWith(other Terms) error
}

// An EventSource is a configuration, as the pool hands events to its subscribers and
// keeps history in its storage. It may be used by several goroutines.
type EventSource interface {
	// Usable tells whether the configuration has started and not ended yet.
	Usable() bool
	// Emit hands an event to the configuration's subscribers, who may be slow and may panic.
	Emit(e event.Event)
	// Storage is the configuration's.
	Storage() sla.Storage
}

// allTargets are the targets of a h. It needs Pool.Mu.
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

// TableFor is the routing table of the upstreams that the proxy offers.
func (h *Handler) TableFor(pool reverseproxy.UpstreamPool, now time.Time) *Routes {
	if h.Dynamic == nil {
		return h.Table.Load()
	}
	return h.tableOf(pool, now)
}

// TableToWaitFor is TableFor for a call that waits, perhaps since before a reload: nobody
// builds the tables of handlers that are gone. It takes Pool.Mu.
func (h *Handler) TableToWaitFor(pool reverseproxy.UpstreamPool, now time.Time) *Routes {
	targets := h.parted.Load()
	switch {
	case targets == nil:
		return h.TableFor(pool, now)
	case h.Dynamic != nil:
		targets = &h.TableFor(pool, now).Targets
	}
	h.Pool.Mu.Lock()
	defer h.Pool.Mu.Unlock()
	return h.build(*targets, now)
}

// tableOf is the table of dynamic upstreams.
func (h *Handler) tableOf(pool reverseproxy.UpstreamPool, now time.Time) *Routes {
	if d := h.Dynamic.current.Load(); d != nil && d.is(pool) {
		if !d.used.Load() {
			d.used.Store(true)
		}
		return d.table.Load()
	}
	return h.dynamicTable(pool, now)
}

// dynamicTable makes the table of a set of upstreams that differs from the last
// one. A set in another order has the same table.
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
	passing := make(map[string]*target.Target) // addresses of the last set that are not known
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

// newDynamicLocked is the target of an address that is not known. If there is room it is
// known from then on.
func (h *Handler) newDynamicLocked(address string) *target.Target {
	t := h.NewTarget(address)
	key := endpoint.Key{Name: t.Name, Address: t.Address}
	switch {
	case h.Dynamic.gone: // a request from before
		t.State = &endpoint.State{Key: key, Owner: h.Pool, Left: true}
	case len(h.Dynamic.Known) >= maxDynamic:
		t.State = &endpoint.State{Key: key, Owner: h.Pool, Left: true}
		return t
	default:
		m := h.Pool.joinLocked(key)
		m.refs++
		t.State = m.State
	}
	h.Dynamic.Known[address] = t
	return t
}

// Rebuild makes the handler's tables anew from the states of its endpoints.
func (h *Handler) Rebuild(now time.Time) {
	if h.Dynamic == nil {
		h.Table.Store(h.build(h.Targets, now))
		return
	}
	if d := h.Dynamic.current.Load(); d != nil {
		d.table.Store(h.build(d.targets, now))
	}
}

// takeTargets returns every target whose state this handler holds, once.
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

// GoLive makes the pool run by this handler's configuration, once that has started
// or gets its first request: until then a reload may still fail.
func (h *Handler) GoLive() {
	if h.Pool.generation.Load() != h.Generation {
		h.takeOver()
	}
}

// takeOver makes the pool go by this handler's configuration, unless it goes by a newer one already.
func (h *Handler) takeOver() {
	if h.Pool.generation.Load().serial > h.Generation.serial {
		return
	}
	h.Pool.Mu.Lock()
	if h.Pool.generation.Load().serial < h.Generation.serial {
		h.Pool.generation.Store(h.Generation)
	}
	h.Pool.Mu.Unlock()
	h.Pool.checker.replan()
	h.Pool.Poke()
}

// BreakerConfig is what the breakers of this handler's pool run by.
func (h *Handler) BreakerConfig() *breaker.Config { return h.Generation.Breaker.Load() }

// currentTable is the table that the last calls went by; nil if there is none
// yet.
func (h *Handler) currentTable() *Routes {
	if h.Dynamic == nil {
		return h.Table.Load()
	}
	if d := h.Dynamic.current.Load(); d != nil {
		return d.table.Load()
	}
	return nil
}
