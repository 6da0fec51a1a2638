package fleet

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Bounds of what is remembered of others, whatever they tell.
const (
	maxPeers   = 5000
	maxFacts   = 20000
	maxEvents  = 1000
	activeFor  = 10 * time.Second // for which calls at an endpoint count
	overFor    = 10 * time.Second // for which a fact that is over is remembered
	missedEach = 3                // Hellos that may be missed
)

// A Book is what an instance knows of the others. Its methods are safe for concurrent use. It
// has no clock of its own.
type Book struct {
	mu     sync.Mutex
	facts  map[string]map[string]*noted // by endpoint and key
	count  int
	peers  map[string]*Peer
	events []Happened // the latest, oldest first
}

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
	Since                   time.Time // since when it is known
	Seen                    time.Time // when it was last heard of
	Until                   time.Time // until when it counts as there
	active                  map[string]bool
	serial                  uint64 // of its latest Hello or Bye
}

// An Opinion is what the others say about an endpoint.
type Opinion struct {
	Open   int // instances whose breaker is open
	Active int // instances that had calls there lately, or whose breaker is open
	Others int // all instances
}

// Agrees reports whether so many have opened that an instance whose own calls go well should be
// wary: two, and half of those that have calls there. own says that it has calls itself.
func (o Opinion) Agrees(own bool) bool {
	active := o.Active
	if own {
		active++
	}
	return o.Open >= 2 && 2*o.Open >= active
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
	of := b.facts[f.Endpoint]
	last := of[key]
	switch {
	case last == nil:
	case f.Kind == Order:
		if !f.newerThan(&last.Fact) {
			return false
		}
	case last.Boot == f.Boot && last.Serial >= f.Serial:
		return false
	}
	if last == nil {
		if b.count >= maxFacts {
			b.forgetLocked(now)
		}
		if b.count >= maxFacts {
			return false
		}
		if of == nil {
			of = make(map[string]*noted)
			if b.facts == nil {
				b.facts = make(map[string]map[string]*noted)
			}
			b.facts[f.Endpoint] = of
		}
		b.count++
	}
	of[key] = note(f, now)
	return true
}

func (b *Book) helloLocked(f *Fact, now time.Time) bool {
	p := b.peers[f.Instance]
	if p != nil && p.Boot == f.Boot && f.Serial < p.serial {
		return false
	}
	if p == nil || p.Until.Before(now) {
		if p == nil && len(b.peers) >= maxPeers {
			b.forgetLocked(now)
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
	for _, id := range f.Active {
		p.active[id] = true
	}
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

// forgetLocked drops what is over.
func (b *Book) forgetLocked(now time.Time) {
	for id, of := range b.facts {
		for key, n := range of {
			if n.until.Add(overFor).Before(now) {
				delete(of, key)
				b.count--
			}
		}
		if len(of) == 0 {
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

// About returns the facts about an endpoint that count now.
func (b *Book) About(id string, now time.Time) (facts []Fact) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.facts[id] {
		if now.Before(n.until) {
			facts = append(facts, n.at(now))
		}
	}
	return facts
}

// Orders returns the orders that are known, those that are undone among them.
func (b *Book) Orders(now time.Time) (facts []Fact) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, of := range b.facts {
		for _, n := range of {
			if n.Kind == Order && now.Before(n.until) {
				facts = append(facts, n.at(now))
			}
		}
	}
	return facts
}

// Version returns the version of the latest order of a slot; 0: there is none.
func (b *Book) Version(id, slot string) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := Fact{Kind: Order, Endpoint: id, Slot: slot}
	if n := b.facts[id][f.Key()]; n != nil {
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

// Opinion returns what the instances that are there say about an endpoint and a scope.
func (b *Book) Opinion(id, scope string, now time.Time) (o Opinion) {
	b.mu.Lock()
	defer b.mu.Unlock()
	open := make(map[string]bool)
	for _, n := range b.facts[id] {
		if n.Kind == Breaker && n.Scope == scope && n.State == Opened && now.Before(n.until) {
			open[n.Instance] = true
		}
	}
	for name, p := range b.peers {
		if !now.Before(p.Until) {
			continue
		}
		o.Others++
		if open[name] {
			o.Open++
		}
		if open[name] || p.active[Short(id)] {
			o.Active++
		}
	}
	return o
}

// Demands returns what the other instances that are there need of an endpoint's limit.
func (b *Book) Demands(id string, now time.Time) (demands []Fact) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.facts[id] {
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
	for _, of := range b.facts {
		for _, n := range of {
			if p := b.peers[n.Instance]; n.Kind == Breaker && n.State != Closed && now.Before(n.until) && p != nil && now.Before(p.Until) {
				open[n.Instance] = append(open[n.Instance], n.at(now))
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
