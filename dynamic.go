package failover

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/breaker"
)

// dynamicTargets are the targets of a handler whose upstreams are looked up for
// each request. An address that is not among the configured endpoints gets the
// pool's defaults, and its state is forgotten when it has not been seen for ten
// minutes. At most maxDynamic addresses are known at once: where more are looked up, those
// beyond are called all the same, but what is learnt about them is forgotten with the
// set of upstreams that brought them.
type dynamicTargets struct {
	current atomic.Pointer[dynamicTable]

	// Guarded by the pool's mutex.
	known map[string]*target // by address
	gone  bool               // the handler has left the pool
}

// maxDynamic is how many addresses a handler knows.
const maxDynamic = 1000

// dynamicTable is the table of one set of upstreams, in the order in which they
// came.
type dynamicTable struct {
	addresses []string
	targets   []*target // sorted by priority
	table     atomic.Pointer[routes]
	used      atomic.Bool // since the last tick
}

func (d *dynamicTable) is(pool reverseproxy.UpstreamPool) bool {
	if len(pool) != len(d.addresses) {
		return false
	}
	for i, u := range pool {
		if u.Dial != d.addresses[i] {
			return false
		}
	}
	return true
}

// upstreamAt is the upstream of an address.
func upstreamAt(pool reverseproxy.UpstreamPool, address string) *reverseproxy.Upstream {
	for _, u := range pool {
		if u.Dial == address {
			return u
		}
	}
	return nil
}

// tableFor is the routing table of the upstreams that the proxy offers.
func (h *poolHandler) tableFor(pool reverseproxy.UpstreamPool, now time.Time) *routes {
	if h.dynamic == nil {
		return h.table.Load()
	}
	return h.tableOf(pool, now)
}

// tableOf is the table of dynamic upstreams.
func (h *poolHandler) tableOf(pool reverseproxy.UpstreamPool, now time.Time) *routes {
	if d := h.dynamic.current.Load(); d != nil && d.is(pool) {
		if !d.used.Load() {
			d.used.Store(true)
		}
		return d.table.Load()
	}
	return h.dynamicTable(pool, now)
}

// dynamicTable makes the table of a set of upstreams that differs from the last
// one. A set in another order has the same table.
func (h *poolHandler) dynamicTable(pool reverseproxy.UpstreamPool, now time.Time) *routes {
	h.pool.mu.Lock()
	defer h.pool.mu.Unlock()
	d := &dynamicTable{addresses: make([]string, len(pool))}
	for i, u := range pool {
		d.addresses[i] = u.Dial
	}
	last := h.dynamic.current.Load()
	if last != nil && last.has(d.addresses) {
		d.targets = last.targets
		d.table.Store(last.table.Load())
		d.used.Store(true)
		h.dynamic.current.Store(d)
		return d.table.Load()
	}
	passing := make(map[string]*target) // addresses of the last set that are not known
	if last != nil {
		for _, t := range last.targets {
			if h.dynamic.known[t.address] != t {
				passing[t.address] = t
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
		if t := h.dynamic.known[address]; t != nil {
			h.pool.sawLocked(t.state, now)
			d.targets = append(d.targets, t)
		} else {
			unknown = append(unknown, address)
		}
	}
	h.dynamic.makeRoom(h.pool, len(unknown), now)
	for _, address := range unknown {
		t := passing[address]
		if len(h.dynamic.known) < maxDynamic || t == nil {
			t = h.newDynamicLocked(address)
		}
		h.pool.sawLocked(t.state, now)
		d.targets = append(d.targets, t)
	}
	slices.SortStableFunc(d.targets, func(a, b *target) int { return cmp.Compare(a.priority, b.priority) })
	built := h.build(d.targets, now)
	d.table.Store(built)
	h.dynamic.current.Store(d)
	h.pool.checker.replan()
	return built
}

// newDynamicLocked is the target of an address that is not known. If there is room it is
// known from then on.
func (h *poolHandler) newDynamicLocked(address string) *target {
	t := h.newTarget(address)
	key := endpointKey{t.name, t.address}
	switch {
	case h.dynamic.gone: // a request from before
		t.state = &endpointState{endpointKey: key, owner: h.pool, left: true}
	case len(h.dynamic.known) >= maxDynamic:
		t.state = &endpointState{endpointKey: key, owner: h.pool, left: true}
		return t
	default:
		m := h.pool.joinLocked(key)
		m.refs++
		t.state = m.endpointState
	}
	h.dynamic.known[address] = t
	return t
}

// passingLocked are the states of addresses that are called but not known.
func (p *pool) passingLocked() (states []*endpointState) {
	for _, g := range p.attached {
		for _, h := range g.handlers {
			if h.dynamic == nil {
				continue
			}
			current := h.dynamic.current.Load()
			if current == nil || len(current.targets) <= maxDynamic {
				continue
			}
			for _, t := range current.targets {
				if h.dynamic.known[t.address] != t {
					states = append(states, t.state)
				}
			}
		}
	}
	return states
}

// makeRoom forgets addresses of earlier sets, so that more can be known: those that were
// seen longest ago, of which nothing is in flight, closed, and that no operator steers.
func (d *dynamicTargets) makeRoom(p *pool, more int, now time.Time) {
	over := len(d.known) + more - maxDynamic
	if over <= 0 {
		return
	}
	var idle []*target
	for _, t := range d.known {
		if p.seenLocked(t.state).Before(now) && t.state.forgettable() {
			idle = append(idle, t)
		}
	}
	slices.SortFunc(idle, func(a, b *target) int {
		return cmp.Or(p.seenLocked(a.state).Compare(p.seenLocked(b.state)), cmp.Compare(a.address, b.address))
	})
	for _, t := range idle[:min(over, len(idle))] {
		d.drop(p, t)
	}
}

// drop forgets an address.
func (d *dynamicTargets) drop(p *pool, t *target) {
	delete(d.known, t.address)
	p.releaseLocked(t.state)
}

// forgettable tells whether nothing is lost with the state but its past.
func (s *endpointState) forgettable() bool {
	if s.steered() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.busy.Load() == 0 && s.breaker.State == breaker.Closed
}

// has tells whether the set consists of these addresses, in any order.
func (d *dynamicTable) has(addresses []string) bool {
	if len(addresses) != len(d.addresses) {
		return false
	}
	count := make(map[string]int, len(addresses))
	for _, address := range d.addresses {
		count[address]++
	}
	for _, address := range addresses {
		if count[address]--; count[address] < 0 {
			return false
		}
	}
	return true
}

// forgetLocked drops dynamic endpoints that have not been seen for long; those
// of the current set are seen.
func (p *pool) forgetLocked(now time.Time) {
	for _, g := range p.attached {
		for _, h := range g.handlers {
			if h.dynamic != nil {
				h.dynamic.forget(p, now)
			}
		}
	}
}

func (d *dynamicTargets) forget(p *pool, now time.Time) {
	if current := d.current.Load(); current != nil {
		used := current.used.Swap(false)
		for _, t := range current.targets {
			if used || t.state.busy.Load() > 0 {
				p.sawLocked(t.state, now)
			}
		}
	}
	for _, t := range d.known {
		if now.Sub(p.seenLocked(t.state)) < forgetSeen || t.state.steered() {
			continue
		}
		if current := d.current.Load(); current != nil && slices.Contains(current.targets, t) {
			d.current.Store(nil) // is made anew if it is asked for again
		}
		d.drop(p, t)
	}
}

// inheritLocked makes the pool's newest configuration remember the addresses of a
// handler that leaves: the lookups of that configuration may still bring them.
func (p *pool) inheritLocked(from *poolHandler) {
	if from.dynamic == nil || len(p.attached) == 0 {
		return
	}
	for _, heir := range p.attached[len(p.attached)-1].handlers {
		if heir.dynamic == nil {
			continue
		}
		for address, t := range from.dynamic.known {
			if heir.dynamic.known[address] != nil {
				continue
			}
			mine := heir.newTarget(address)
			if (endpointKey{mine.name, mine.address}) != t.state.endpointKey {
				continue // it has another name now
			}
			m := p.memberLocked(t.state)
			if m == nil {
				continue
			}
			m.refs++
			mine.state = t.state
			heir.dynamic.known[address] = mine
		}
	}
}

// rebuild makes the handler's tables anew from the states of its endpoints.
func (h *poolHandler) rebuild(now time.Time) {
	if h.dynamic == nil {
		h.table.Store(h.build(h.targets, now))
		return
	}
	if d := h.dynamic.current.Load(); d != nil {
		d.table.Store(h.build(d.targets, now))
	}
}

// takeTargets returns every target whose state this handler holds, once.
func (h *poolHandler) takeTargets() []*target {
	targets := h.targets
	h.targets = nil
	if h.dynamic != nil {
		h.dynamic.gone = true
		for address, t := range h.dynamic.known {
			targets = append(targets, t)
			delete(h.dynamic.known, address)
		}
	}
	return targets
}
