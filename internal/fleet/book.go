package fleet

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of what is remembered of others, whatever they tell.
const (
	maxPeers   = 5000
	maxFacts   = 20000
	maxScoped  = 15000 // of these, about one scope of an endpoint
	maxOrders  = 1000  // orders for which there is room beside them
	maxEvents  = 1000
	activeFor  = 10 * time.Second // for which calls at an endpoint count
	overFor    = 10 * time.Second // for which a fact that is over is remembered
	sweepEach  = time.Second
	missedEach = 3 // Hellos that may be missed
)

// A Book is what an instance knows of the others. Its methods are safe for concurrent use. It
// has no clock of its own.
type Book struct {
	mu     sync.Mutex
	facts  map[string]map[string]facts // by endpoint and scope
	count  int                         // of all facts
	scoped int                         // of those about one scope
	swept  time.Time                   // when what is over was dropped last, for want of room
	peers  map[string]*Peer
	events []Happened // the latest, oldest first
}

// facts are those about one scope of an endpoint, or about the whole, by key.
type facts map[string]*noted

// Happened is an event of another instance.
type Happened struct {
	Fact
	At time.Time
}

// noted is a fact that counts until a time.
type noted struct {
	Fact
	until time.Time
	lasts time.Time // of an order; zero: until it is undone
}

// at returns the fact as of now; its Left is 0 if it is over.
func (n *noted) at(now time.Time) Fact {
	f := n.Fact
	f.Left = max(0, n.until.Sub(now))
	if !n.lasts.IsZero() {
		f.Lasts = n.lasts.Sub(now)
		if f.Lasts <= 0 {
			f.Lasts, f.Undone = 0, true
		}
	}
	return f
}

// note returns a fact with the times until which it counts.
func note(f *Fact, now time.Time) *noted {
	n := &noted{Fact: *f, until: now.Add(f.Left)}
	if f.Lasts > 0 {
		n.lasts = now.Add(f.Lasts)
	}
	return n
}

// A Peer is another instance.
type Peer struct {
	Instance, Boot, Release string
	Since                   time.Time       // since when it is known
	Seen                    time.Time       // when it was last heard of
	Until                   time.Time       // until when it counts as there
	active                  map[string]bool // short forms of places that had calls lately
	serial                  uint64          // of its latest Hello or Bye

	// Of how much the latest Hello had no room for.
	moreEndpoints, moreScopes bool
}

// hasCalls reports whether the instance had calls lately at a place of an endpoint. Both are in their short form; whole is the endpoint's. If
// its Hello had no room for that, it counts as if it had.
func (p *Peer) hasCalls(place, whole string) bool {
	if p.active[place] || p.moreEndpoints {
		return true
	}
	return place != whole && p.moreScopes && p.active[whole]
}

// Take notes a fact, and reports whether it is news.
func (b *Book) Take(f *Fact, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch f.Kind {
	case Hello:
		return b.helloLocked(f, now)
	case Bye:
		return b.byeLocked(f, now)
	case Event:
		b.eventLocked(f, now)
		return true
	}
	key := f.Key()
	of := b.facts[f.Endpoint][f.Scope]
	last := of[key]
	switch {
	case f.Kind == Order && f.Version > highest(last, now):
		return false
	case last == nil:
	case f.Kind == Order:
		if !f.newerThan(&last.Fact) {
			return false
		}
	case last.Boot == f.Boot && last.Serial >= f.Serial:
		return false
	}
	if last == nil {
		if !b.hasRoomLocked(f) {
			b.sweepLocked(now)
		}
		if !b.hasRoomLocked(f) {
			return false
		}
		of = b.enterLocked(f)
	}
	of[key] = note(f, now)
	return true
}

const (
	// maxAhead is how much greater than the time an order's version may be: 100 years, in milliseconds. So no clock is too wrong.
	maxAhead = 100 * 365 * 24 * 3600 * 1000
	// maxStep is how much greater than the latest order's version it may be beyond that. So no stranger can tell orders until their
	// versions reach the greatest that a fact may have, and none can follow.
	maxStep = 1000
)

// highest returns the greatest version that the next order of a slot may have.
func highest(last *noted, now time.Time) uint64 {
	version := uint64(max(0, now.UnixMilli())) + maxAhead
	if last != nil {
		version = max(version, last.Version+maxStep)
	}
	return version
}

// hasRoomLocked reports whether one more fact can be remembered. Facts about scopes leave room for
// those about whole endpoints.
func (b *Book) hasRoomLocked(f *Fact) bool {
	return b.count < withOrders(maxFacts, f.Kind) && (f.Scope == "" || b.scoped < maxScoped)
}

// withOrders returns how many facts there may be before one of a kind is refused: other facts leave room for orders.
func withOrders(most int, k Kind) int {
	if k == Order {
		return most + maxOrders
	}
	return most
}

// enterLocked counts one more fact, and returns those of its place.
func (b *Book) enterLocked(f *Fact) facts {
	if b.facts == nil {
		b.facts = make(map[string]map[string]facts)
	}
	places := b.facts[f.Endpoint]
	if places == nil {
		places = make(map[string]facts)
		b.facts[f.Endpoint] = places
	}
	if places[f.Scope] == nil {
		places[f.Scope] = make(facts)
	}
	b.count++
	if f.Scope != "" {
		b.scoped++
	}
	return places[f.Scope]
}

func (b *Book) helloLocked(f *Fact, now time.Time) bool {
	p := b.peers[f.Instance]
	if p != nil && p.Boot == f.Boot && f.Serial < p.serial {
		return false
	}
	if p == nil || p.Until.Before(now) {
		if p == nil && len(b.peers) >= maxPeers {
			b.sweepLocked(now)
			if len(b.peers) >= maxPeers {
				return false
			}
		}
		p = &Peer{Instance: f.Instance, Since: now}
		if b.peers == nil {
			b.peers = make(map[string]*Peer)
		}
		b.peers[f.Instance] = p
	}
	news := p.Boot != f.Boot
	p.Boot, p.serial, p.Release, p.Seen, p.Until = f.Boot, f.Serial, f.Release, now, now.Add(f.Left)
	p.active = make(map[string]bool, len(f.Active))
	scopes := false
	for _, place := range f.Active {
		p.active[place] = true
		scopes = scopes || strings.HasPrefix(place, scopeMark)
	}
	p.moreScopes = len(f.Active) >= maxActive
	p.moreEndpoints = p.moreScopes && !scopes
	return news
}

func (b *Book) byeLocked(f *Fact, now time.Time) bool {
	p := b.peers[f.Instance]
	if p == nil || p.Boot != f.Boot {
		return false
	}
	p.serial, p.Until = f.Serial, now
	return true
}

func (b *Book) eventLocked(f *Fact, now time.Time) {
	if len(b.events) >= maxEvents {
		b.events = slices.Delete(b.events, 0, maxEvents/10)
	}
	b.events = append(b.events, Happened{*f, now.Add(-f.Age)})
}

// sweepLocked drops what is over, for want of room: not more often than each sweepEach, since it looks
// at all that is remembered.
func (b *Book) sweepLocked(now time.Time) {
	if now.Sub(b.swept) >= sweepEach || now.Before(b.swept) {
		b.swept = now
		b.forgetLocked(now)
	}
}

// forgetLocked drops what is over.
func (b *Book) forgetLocked(now time.Time) {
	for id, places := range b.facts {
		for scope, of := range places {
			for key, n := range of {
				if n.until.Add(overFor).Before(now) {
					delete(of, key)
					b.count--
					if scope != "" {
						b.scoped--
					}
				}
			}
			if len(of) == 0 {
				delete(places, scope)
			}
		}
		if len(places) == 0 {
			delete(b.facts, id)
		}
	}
	for name, p := range b.peers {
		if p.Until.Add(overFor).Before(now) {
			delete(b.peers, name)
		}
	}
}

// Forget drops what is over.
func (b *Book) Forget(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forgetLocked(now)
}

// sayerLocked returns the instance that tells of a breaker; nil if it is not there, its process has ended since, or the fact counts
// no more. A process that follows another of the same name has breakers of its own.
func (b *Book) sayerLocked(n *noted, now time.Time) *Peer {
	p := b.peers[n.Instance]
	if p == nil || p.Boot != n.Boot || !now.Before(p.Until) || !now.Before(n.until) {
		return nil
	}
	return p
}

// About returns the facts about an endpoint that count now, those about its scopes among them.
func (b *Book) About(id string, now time.Time) (list []Fact) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, of := range b.facts[id] {
		list = of.at(list, now)
	}
	return list
}

// AboutScope returns the facts about one scope of an endpoint that count now.
func (b *Book) AboutScope(id, scope string, now time.Time) []Fact {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.facts[id][scope].at(nil, now)
}

// at adds those that count now to a list.
func (of facts) at(list []Fact, now time.Time) []Fact {
	for _, n := range of {
		if now.Before(n.until) {
			list = append(list, n.at(now))
		}
	}
	return list
}

// OpenScopes returns the scopes of an endpoint that are open at other instances.
func (b *Book) OpenScopes(id string, now time.Time) (open []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for scope, of := range b.facts[id] {
		if scope == "" {
			continue
		}
		for _, n := range of {
			if n.Kind == Breaker && n.State == Opened && b.sayerLocked(n, now) != nil {
				open = append(open, scope)
				break
			}
		}
	}
	return open
}

// Orders returns the orders that are known, those that are undone among them.
func (b *Book) Orders(now time.Time) (list []Fact) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, places := range b.facts {
		for _, n := range places[""] {
			if n.Kind == Order && now.Before(n.until) {
				list = append(list, n.at(now))
			}
		}
	}
	return list
}

// Version returns the version of the latest order of a slot; 0: there is none.
func (b *Book) Version(id, slot string) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := Fact{Kind: Order, Endpoint: id, Slot: slot}
	if n := b.facts[id][""][f.Key()]; n != nil {
		return n.Version
	}
	return 0
}

// Peers returns the other instances that are there, sorted by name.
func (b *Book) Peers(now time.Time) (peers []Peer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.peers {
		if now.Before(p.Until) {
			peers = append(peers, *p)
		}
	}
	slices.SortFunc(peers, func(a, b Peer) int { return cmp.Compare(a.Instance, b.Instance) })
	return peers
}

// Others returns how many other instances are there.
func (b *Book) Others(now time.Time) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.peers {
		if now.Before(p.Until) {
			n++
		}
	}
	return n
}

// Demands returns what the other instances that are there need of an endpoint's limit.
func (b *Book) Demands(id string, now time.Time) (demands []Fact) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.facts[id][""] {
		if p := b.peers[n.Instance]; n.Kind == Demand && now.Before(n.until) && p != nil && now.Before(p.Until) {
			demands = append(demands, n.Fact)
		}
	}
	return demands
}

// OpenAt returns what each instance that is there has open: facts of the kind Breaker, by
// instance.
func (b *Book) OpenAt(now time.Time) map[string][]Fact {
	b.mu.Lock()
	defer b.mu.Unlock()
	open := make(map[string][]Fact)
	for _, places := range b.facts {
		for _, of := range places {
			for _, n := range of {
				if n.Kind == Breaker && (n.State == Opened || n.State == Recovering) && b.sayerLocked(n, now) != nil {
					open[n.Instance] = append(open[n.Instance], n.at(now))
				}
			}
		}
	}
	for _, list := range open {
		slices.SortFunc(list, func(a, b Fact) int {
			return cmp.Or(cmp.Compare(a.Pool, b.Pool), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Scope, b.Scope))
		})
	}
	return open
}

// Events returns the latest events of others, in the order in which they came.
func (b *Book) Events() []Happened {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.events)
}
