package pool

import (
	"cmp"
	secure "crypto/rand"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/event"
)

// Pools holds the state of every pool by name. A pool lives as long as any configuration uses it.
var Pools = caddy.NewUsagePool()

// Load returns the pool of a name, and makes it if necessary. The caller releases it through Pools.
func Load(name string) (*Pool, error) {
	value, _, err := Pools.LoadOrNew(name, func() (caddy.Destructor, error) {
		p := New(name)
		p.Loop.start(p)
		p.Keeping.start(p)
		return p, nil
	})
	if err != nil {
		return nil, err
	}
	return value.(*Pool), nil
}

// New makes a pool whose control loop does not run yet.
func New(name string) *Pool {
	p := &Pool{Name: name, Phase: rand.Uint64(), Members: make(map[endpoint.Key]*PoolMember)}
	_, _ = secure.Read(p.Secret[:]) // never fails
	p.Outbox = event.NewOutbox(p.logEvent, p.tellCaddy)
	p.Queue.wake, p.Queue.ending.known = make(chan struct{}, 1), make(chan struct{})
	return p
}

// Destruct implements caddy.Destructor.
func (p *Pool) Destruct() error {
	p.checker.stop()
	p.Loop.stop()
	p.Keeping.stop()
	p.Outbox.Close()
	return nil
}

// Status returns the status of every pool of this process, sorted by name. It holds each lock only
// for a short time.
func Status(now time.Time) []api.PoolStatus {
	all := []api.PoolStatus{}
	for _, p := range Running() {
		all = append(all, p.Status(now))
	}
	return all
}

// Running returns the pools of this process, sorted by name.
func Running() []*Pool {
	var all []*Pool
	Pools.Range(func(_, value any) bool {
		all = append(all, value.(*Pool))
		return true
	})
	slices.SortFunc(all, func(a, b *Pool) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// Find returns the pool of a name, nil if there is none.
func Find(name string) *Pool {
	var found *Pool
	Pools.Range(func(key, value any) bool {
		if key == name {
			found = value.(*Pool)
		}
		return found == nil
	})
	return found
}
