package pool

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/target"
)

// DynamicTargets are the targets of a handler that looks up its upstreams for each request. An
// address without a configured endpoint gets the pool's defaults. The pool forgets an address that
// it has not seen for ten minutes. At most maxDynamic addresses are known at once. Further ones get
// calls too, but their state is forgotten with their set of upstreams.
type DynamicTargets struct {
	current atomic.Pointer[dynamicTable]

	// Guarded by the pool's mutex.
	Known map[string]*target.Target // by address
	gone  bool                      // the handler has left the pool
}

// maxDynamic is the largest number of addresses that a handler knows.
const maxDynamic = 1000

// dynamicTable is the table of one set of upstreams, in the order of the lookup.
type dynamicTable struct {
	addresses []string
	targets   []*target.Target // sorted by priority
	table     atomic.Pointer[Routes]
	used      atomic.Bool // it was used since the latest tick
}

// is reports whether the table is for this set of upstreams, in this order.
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

// UpstreamAt returns the upstream of an address; nil if there is none.
func UpstreamAt(pool reverseproxy.UpstreamPool, address string) *reverseproxy.Upstream {
	for _, u := range pool {
		if u.Dial == address {
			return u
		}
	}
	return nil
}

// passingLocked returns the states of addresses that get calls but are not known.
func (p *Pool) passingLocked() (states []*endpoint.State) {
	for _, g := range p.attached {
		for _, h := range g.handlers {
			if h.Dynamic == nil {
				continue
			}
			current := h.Dynamic.current.Load()
			if current == nil || len(current.targets) <= maxDynamic {
				continue
			}
			for _, t := range current.targets {
				if h.Dynamic.Known[t.Address] != t {
					states = append(states, t.State)
				}
			}
		}
	}
	return states
}

// makeRoom makes room for more addresses. It forgets Forgettable addresses of earlier sets, beginning
// with those that were seen longest ago.
func (d *DynamicTargets) makeRoom(p *Pool, more int, now time.Time) {
	over := len(d.Known) + more - maxDynamic
	if over <= 0 {
		return
	}
	var idle []*target.Target
	for _, t := range d.Known {
		if p.seenLocked(t.State).Before(now) && t.State.Forgettable() {
			idle = append(idle, t)
		}
	}
	slices.SortFunc(idle, func(a, b *target.Target) int {
		return cmp.Or(p.seenLocked(a.State).Compare(p.seenLocked(b.State)), cmp.Compare(a.Address, b.Address))
	})
	for _, t := range idle[:min(over, len(idle))] {
		d.drop(p, t)
	}
}

// drop forgets an address.
func (d *DynamicTargets) drop(p *Pool, t *target.Target) {
	delete(d.Known, t.Address)
	p.releaseLocked(t.State)
}

// has reports whether the set consists of these addresses, in any order.
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

// forgetLocked drops dynamic endpoints that have not been seen for ForgetSeen. Those of the
// current set count as seen while it is used.
func (p *Pool) forgetLocked(now time.Time) {
	for _, g := range p.attached {
		for _, h := range g.handlers {
			if h.Dynamic != nil {
				h.Dynamic.forget(p, now)
			}
		}
	}
}

func (d *DynamicTargets) forget(p *Pool, now time.Time) {
	if current := d.current.Load(); current != nil {
		used := current.used.Swap(false)
		for _, t := range current.targets {
			if used || t.State.Busy.Load() > 0 {
				p.sawLocked(t.State, now)
			}
		}
	}
	for _, t := range d.Known {
		if now.Sub(p.seenLocked(t.State)) < endpoint.ForgetSeen || t.State.Steered() {
			continue
		}
		if current := d.current.Load(); current != nil && slices.Contains(current.targets, t) {
			d.current.Store(nil) // the next lookup makes another
		}
		d.drop(p, t)
	}
}

// inheritLocked passes the addresses of a handler that leaves to the pool's newest configuration,
// whose lookups may still return them.
func (p *Pool) inheritLocked(from *Handler) {
	if from.Dynamic == nil || len(p.attached) == 0 {
		return
	}
	for _, heir := range p.attached[len(p.attached)-1].handlers {
		if heir.Dynamic == nil {
			continue
		}
		for address, t := range from.Dynamic.Known {
			if heir.Dynamic.Known[address] != nil {
				continue
			}
			mine := heir.NewTarget(address)
			if (endpoint.Key{Name: mine.Name, Address: mine.Address}) != t.State.Key {
				continue // it has another name now
			}
			m := p.memberLocked(t.State)
			if m == nil {
				continue
			}
			m.refs++
			mine.State = t.State
			heir.Dynamic.Known[address] = mine
		}
	}
}
