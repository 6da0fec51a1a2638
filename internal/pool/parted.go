package pool

import (
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/target"
)

// What calls get whose handler a reload has removed.

// Parted reports whether a reload has removed the handler.
func (h *Handler) Parted() bool { return h.parted.Load() != nil }

// An heir is what Heir found while a generation ran.
type heir struct {
	of      *Generation
	handler *Handler
}

// Heir returns the handler whose endpoints calls that wait may have: that of the running configuration which took the
// place of a handler that a reload has removed, else the handler itself. It takes Pool.Mu.
func (h *Handler) Heir() *Handler {
	former := h.parted.Load()
	if former == nil || h.Dynamic != nil || h.Reach == [32]byte{} {
		return h
	}
	g := h.Pool.generation.Load()
	found := h.heir.Load()
	if found == nil || found.of != g || found.handler != h && found.handler.Parted() {
		h.Pool.Mu.Lock()
		found = &heir{g, h.heirAmong(*former, g.handlers)}
		h.Pool.Mu.Unlock()
		h.heir.Store(found)
	}
	return found.handler
}

// heirAmong returns the handler with the same Reach that has most of the former targets, or the only one if none has any;
// the handler itself if there is none. It needs Pool.Mu.
func (h *Handler) heirAmong(former []*target.Target, handlers []*Handler) *Handler {
	best, most, alike := h, -1, 0
	for _, other := range handlers {
		if other.Reach != h.Reach || other.Dynamic != nil {
			continue
		}
		alike++
		if n := inCommon(former, other.Targets); n > most {
			best, most = other, n
		}
	}
	if most == 0 && alike > 1 {
		return h
	}
	return best
}

// inCommon counts the endpoints of one list whose names are in the other.
func inCommon(one, other []*target.Target) (n int) {
	for _, t := range one {
		if slices.ContainsFunc(other, func(o *target.Target) bool { return o.Name == t.Name }) {
			n++
		}
	}
	return n
}

// TableToWaitFor is TableFor for a call that waits. If a reload has removed the handler, the table is that of the
// handler's heir. If there is none, TableToWaitFor builds it, because the control loop no longer does. It
// takes Pool.Mu.
func (h *Handler) TableToWaitFor(pool reverseproxy.UpstreamPool, now time.Time) *Routes {
	heir := h.Heir()
	targets := heir.parted.Load()
	switch {
	case targets == nil:
		return heir.TableFor(pool, now)
	case h.Dynamic != nil:
		targets = &h.TableFor(pool, now).Targets
	}
	h.Pool.Mu.Lock()
	defer h.Pool.Mu.Unlock()
	return h.build(*targets, now)
}
