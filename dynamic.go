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
	gone  bool               // the policy has left the pool
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
func (p *Policy) tableFor(pool reverseproxy.UpstreamPool, now time.Time) *routes {
	if p.dynamic == nil {
		return p.table.Load()
	}
	return p.tableOf(pool, now)
}

// tableOf is the table of dynamic upstreams.
func (p *Policy) tableOf(pool reverseproxy.UpstreamPool, now time.Time) *routes {
	if d := p.dynamic.current.Load(); d != nil && d.is(pool) {
		if !d.used.Load() {
			d.used.Store(true)
		}
		return d.table.Load()
	}
	return p.dynamicTable(pool, now)
}

// dynamicTable makes the table of a set of upstreams that differs from the last
// one. A set in another order has the same table.
func (p *Policy) dynamicTable(pool reverseproxy.UpstreamPool, now time.Time) *routes {
	p.pool.mu.Lock()
	defer p.pool.mu.Unlock()
	d := &dynamicTable{addresses: make([]string, len(pool))}
	for i, u := range pool {
		d.addresses[i] = u.Dial
	}
	last := p.dynamic.current.Load()
	if last != nil && last.has(d.addresses) {
		d.targets = last.targets
		d.table.Store(last.table.Load())
		d.used.Store(true)
		p.dynamic.current.Store(d)
		return d.table.Load()
	}
	passing := make(map[string]*target) // addresses of the last set that are not known
	if last != nil {
		for _, t := range last.targets {
			if p.dynamic.known[t.address] != t {
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
		if t := p.dynamic.known[address]; t != nil {
			t.state.seen = now
			d.targets = append(d.targets, t)
		} else {
			unknown = append(unknown, address)
		}
	}
	p.dynamic.makeRoom(p.pool, len(unknown), now)
	for _, address := range unknown {
		t := passing[address]
		if len(p.dynamic.known) < maxDynamic || t == nil {
			t = p.newDynamicLocked(address)
		}
		t.state.seen = now
		d.targets = append(d.targets, t)
	}
	slices.SortStableFunc(d.targets, func(a, b *target) int { return cmp.Compare(a.priority, b.priority) })
	built := p.build(d.targets, now)
	d.table.Store(built)
	p.dynamic.current.Store(d)
	p.pool.checker.replan()
	return built
}

// newDynamicLocked is the target of an address that is not known. If there is room it is
// known from then on.
func (p *Policy) newDynamicLocked(address string) *target {
	t := p.newTarget(p.endpointAt(address), 1)
	key := endpointKey{t.name, t.address}
	switch {
	case p.dynamic.gone: // a request from before
		t.state = &endpointState{endpointKey: key, owner: p.pool, left: true}
	case len(p.dynamic.known) >= maxDynamic:
		t.state = &endpointState{endpointKey: key, owner: p.pool, left: true}
		return t
	default:
		t.state = p.pool.stateLocked(key)
		t.state.refs++
	}
	p.dynamic.known[address] = t
	return t
}

// passingLocked are the states of addresses that are called but not known.
func (p *pool) passingLocked() (states []*endpointState) {
	for _, g := range p.attached {
		for _, policy := range g.policies {
			if policy.dynamic == nil {
				continue
			}
			current := policy.dynamic.current.Load()
			if current == nil || len(current.targets) <= maxDynamic {
				continue
			}
			for _, t := range current.targets {
				if policy.dynamic.known[t.address] != t {
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
		if t.state.seen.Before(now) && t.state.forgettable() {
			idle = append(idle, t)
		}
	}
	slices.SortFunc(idle, func(a, b *target) int {
		return cmp.Or(a.state.seen.Compare(b.state.seen), cmp.Compare(a.address, b.address))
	})
	for _, t := range idle[:min(over, len(idle))] {
		d.drop(p, t)
	}
}

// drop forgets an address.
func (d *dynamicTargets) drop(p *pool, t *target) {
	delete(d.known, t.address)
	t.state.refs--
	p.dropLocked(t.state)
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

// endpointAt is the configuration of a dynamic upstream.
func (p *Policy) endpointAt(address string) *Endpoint {
	for _, e := range p.Endpoints {
		if e.Upstream == address {
			return e
		}
	}
	return &Endpoint{Name: address, Upstream: address}
}

// forgetLocked drops dynamic endpoints that have not been seen for long; those
// of the current set are seen.
func (p *pool) forgetLocked(now time.Time) {
	for _, g := range p.attached {
		for _, policy := range g.policies {
			if policy.dynamic != nil {
				policy.dynamic.forget(p, now)
			}
		}
	}
}

func (d *dynamicTargets) forget(p *pool, now time.Time) {
	if current := d.current.Load(); current != nil {
		used := current.used.Swap(false)
		for _, t := range current.targets {
			if used || t.state.busy.Load() > 0 {
				t.state.seen = now
			}
		}
	}
	for _, t := range d.known {
		if now.Sub(t.state.seen) < forgetSeen || t.state.steered() {
			continue
		}
		if current := d.current.Load(); current != nil && slices.Contains(current.targets, t) {
			d.current.Store(nil) // is made anew if it is asked for again
		}
		d.drop(p, t)
	}
}

// inheritLocked makes the pool's newest configuration remember the addresses of a
// policy that leaves: the lookups of that configuration may still bring them.
func (p *pool) inheritLocked(from *Policy) {
	if from.dynamic == nil || len(p.attached) == 0 {
		return
	}
	for _, heir := range p.attached[len(p.attached)-1].policies {
		if heir.dynamic == nil {
			continue
		}
		for address, t := range from.dynamic.known {
			if heir.dynamic.known[address] != nil {
				continue
			}
			mine := heir.newTarget(heir.endpointAt(address), 1)
			if (endpointKey{mine.name, mine.address}) != t.state.endpointKey {
				continue // it has another name now
			}
			mine.state = t.state
			mine.state.refs++
			heir.dynamic.known[address] = mine
		}
	}
}

// rebuild makes the policy's tables anew from the states of its endpoints.
func (p *Policy) rebuild(now time.Time) {
	if p.dynamic == nil {
		p.table.Store(p.build(p.targets, now))
		return
	}
	if d := p.dynamic.current.Load(); d != nil {
		d.table.Store(p.build(d.targets, now))
	}
}

// takeTargets returns every target whose state this policy holds, once.
func (p *Policy) takeTargets() []*target {
	targets := p.targets
	p.targets = nil
	if p.dynamic != nil {
		p.dynamic.gone = true
		for address, t := range p.dynamic.known {
			targets = append(targets, t)
			delete(p.dynamic.known, address)
		}
	}
	return targets
}
