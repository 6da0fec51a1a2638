package failover

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// dynamicTargets are the targets of a handler whose upstreams are looked up for
// each request. An address that is not among the configured endpoints gets the
// pool's defaults, and its state is forgotten when it has not been seen for ten
// minutes.
type dynamicTargets struct {
	current atomic.Pointer[dynamicTable]

	// Guarded by the pool's mutex.
	known map[string]*target // by address
	gone  bool               // the policy has left the pool
}

// dynamicTable is the table of one set of upstreams, in the order in which they
// came.
type dynamicTable struct {
	addresses []string
	targets   []*target // sorted by priority
	table     atomic.Pointer[table]
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
func (p *Policy) tableFor(pool reverseproxy.UpstreamPool, now time.Time) *table {
	if p.dynamic == nil {
		return p.table.Load()
	}
	return p.tableOf(pool, now)
}

// tableOf is the table of dynamic upstreams.
func (p *Policy) tableOf(pool reverseproxy.UpstreamPool, now time.Time) *table {
	if d := p.dynamic.current.Load(); d != nil && d.is(pool) {
		if !d.used.Load() {
			d.used.Store(true)
		}
		return d.table.Load()
	}
	return p.dynamicTable(pool, now)
}

// dynamicTable makes the table of a set of upstreams that differs from the last
// one.
func (p *Policy) dynamicTable(pool reverseproxy.UpstreamPool, now time.Time) *table {
	p.pool.mu.Lock()
	defer p.pool.mu.Unlock()
	d := &dynamicTable{addresses: make([]string, len(pool))}
	for i, u := range pool {
		d.addresses[i] = u.Dial
		if slices.Contains(d.addresses[:i], u.Dial) {
			continue
		}
		t := p.dynamic.known[u.Dial]
		if t == nil {
			t = p.newTarget(p.endpointAt(u.Dial), 1)
			key := endpointKey{t.name, t.address}
			if p.dynamic.gone { // a request from before
				t.state = &endpointState{endpointKey: key, pool: p.pool, left: true}
			} else {
				t.state = p.pool.stateLocked(key)
				t.state.refs++
			}
			p.dynamic.known[u.Dial] = t
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
	for address, t := range d.known {
		if now.Sub(t.state.seen) < forgetSeen || t.state.steered() {
			continue
		}
		if current := d.current.Load(); current != nil && slices.Contains(current.targets, t) {
			d.current.Store(nil) // is made anew if it is asked for again
		}
		delete(d.known, address)
		t.state.refs--
		p.dropLocked(t.state)
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
