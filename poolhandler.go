package failover

import (
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/sla"
)

// A poolHandler is one handler's use of a pool: its targets, the tables that its calls
// go by, and what it says of the pool itself. What is not guarded by pool.mu is set
// before it is attached, and only read from then on.
type poolHandler struct {
	// what each call looks at, close together
	pool       *pool
	generation *generation // set by attach
	table      atomic.Pointer[routes]
	dynamic    *dynamicTargets // nil for static upstreams

	targets      []*target // sorted by priority; guarded by pool.mu once attached
	overflow     float64   // when a tier gives load to the next; 0: strict
	standbyShare float64   // of the calls, which goes to tiers below the one that serves

	// newTarget makes the target of a dynamic address, without its state.
	newTarget func(address string) *target

	terms     poolTerms
	breaker   *breaker.Config // nil: the handler says nothing of it
	longest   time.Duration   // timeout of an attempt
	objective *sla.Objective  // nil: no SLA, and no history is kept

	checks    func(own *checkOverride) *checkConfig // of an endpoint; nil result: none
	saysCheck bool                                  // checks are this handler's own, not the defaults
	hasChecks bool                                  // some endpoint is checked
	probes    http.RoundTripper                     // for checks; nil: not ready yet; guarded by pool.mu

	logger *zap.Logger
	source eventSource
}

// logPanic logs a panic that was recovered, with the stack of the caller.
func (h *poolHandler) logPanic(what string, value any) {
	h.logger.Error(what, zap.String("pool", h.pool.name), zap.Any("panic", value), zap.ByteString("stack", debug.Stack()))
}

// poolTerms are a handler's options, as far as the handlers of one configuration have
// to agree on them to share a pool.
type poolTerms interface {
	// agreesWith tells why two handlers cannot share a pool; nil: they can.
	agreesWith(other poolTerms) error
}

// An eventSource is a configuration, as the pool hands events to its subscribers and
// keeps history in its storage. It may be used by several goroutines.
type eventSource interface {
	// usable tells whether the configuration has started and not ended yet.
	usable() bool
	// emit hands an event to the configuration's subscribers, who may be slow and may panic.
	emit(e event.Event)
	// storage is the configuration's.
	storage() sla.Storage
}
