package failover

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/apifailover/caddy-failover/internal/sla"
)

const (
	judgeEvery = 10 * time.Second
	// judgeEndpointsEvery is for what only people look at.
	judgeEndpointsEvery = time.Minute
	saveEvery           = time.Minute
	pruneEvery          = 24 * time.Hour

	// storageTimeout bounds a save or a load while the pool runs, lastTimeout one
	// that a stopping Caddy waits for.
	storageTimeout = 30 * time.Second
	lastTimeout    = 5 * time.Second

	// storagePrefix is the first part of the keys of all that is kept.
	storagePrefix = "failover"
)

// keeping is the goroutine of a pool that compares its history with its objective,
// and keeps it in Caddy's storage. Slow storage delays nothing else.
type keeping struct {
	// where to keep the history, nil if that is not known now, and whether it is to
	// be kept
	storage func() (sla.Storage, bool)

	wake chan struct{}      // there may be something to load
	save chan chan struct{} // to be saved now; closed when it has been
	quit chan struct{}
	done chan struct{}

	standing atomic.Pointer[standing]
	dirty    atomic.Bool // something was recorded since the last save
	loaded   bool        // used by the goroutine only

	mu     sync.Mutex
	keeper *sla.Keeper // nil until there is a storage
	using  sla.Storage
}

// standing is how the pool and its endpoints compared with its objective when they
// were last looked at. It is read-only.
type standing struct {
	objective sla.Objective
	pool      sla.Standing
	alert     sla.Alert

	endpoints map[string]sla.Standing // by name
	at        time.Time               // of endpoints
}

func (k *keeping) start(p *pool) {
	if k.storage == nil {
		k.storage = p.storage
	}
	k.wake, k.save = make(chan struct{}, 1), make(chan chan struct{})
	k.quit, k.done = make(chan struct{}), make(chan struct{})
	go k.run(p)
}

// stop saves for the last time.
func (k *keeping) stop() {
	close(k.quit)
	<-k.done
}

// poke says that a configuration has started.
func (k *keeping) poke() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// saveNow saves and waits for it, but not for long.
func (k *keeping) saveNow() {
	timer := time.NewTimer(lastTimeout)
	defer timer.Stop()
	saved := make(chan struct{})
	select {
	case k.save <- saved:
	case <-k.quit:
		return
	case <-timer.C:
		return
	}
	select {
	case <-saved:
	case <-timer.C:
	}
}

func (k *keeping) run(p *pool) {
	defer close(k.done)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ticker := time.NewTicker(judgeEvery)
	defer ticker.Stop()
	var alert sla.Alert
	var pruned time.Time
	saved := time.Now()
	for {
		select {
		case <-k.quit:
			k.keep(ctx, p, time.Now(), lastTimeout)
			return
		case <-k.wake:
			k.load(ctx, p, time.Now())
		case done := <-k.save:
			k.keep(ctx, p, time.Now(), lastTimeout)
			close(done)
		case <-ticker.C:
			now := time.Now()
			k.judge(p, now, &alert)
			if since := now.Sub(saved); since >= saveEvery || since < 0 {
				saved = now
				k.keep(ctx, p, now, storageTimeout)
				if now.Sub(pruned) >= pruneEvery {
					pruned = now
					k.prune(ctx, p, now)
				}
			}
		}
	}
}

// judge compares the pool with its objective, and emits what that brings about.
func (k *keeping) judge(p *pool, now time.Time, alert *sla.Alert) {
	p.fold(now)
	o := p.objective()
	s := standing{objective: o}
	if o.Availability > 0 || o.LatencyTarget > 0 {
		s.pool = o.Standing(p.history.Pool(), now)
		s.endpoints, s.at = k.endpoints(p, o, now)
	}
	for _, change := range alert.Update(nil, now, s.pool) {
		p.emit(burnEvent(change))
	}
	s.alert = *alert
	k.standing.Store(&s)
}

// endpoints compares each endpoint with the objective. That takes about a
// millisecond each, so it is done every judgeEndpointsEvery only.
func (k *keeping) endpoints(p *pool, o sla.Objective, now time.Time) (map[string]sla.Standing, time.Time) {
	if last := k.standing.Load(); last != nil && last.objective == o && last.endpoints != nil {
		if since := now.Sub(last.at); since >= 0 && since < judgeEndpointsEvery {
			return last.endpoints, last.at
		}
	}
	endpoints := make(map[string]sla.Standing)
	for _, name := range p.history.Endpoints() {
		endpoints[name] = o.Standing(p.history.Endpoint(name), now)
	}
	return endpoints, now
}

// keeperNow returns the keeper, with the storage of the configuration that runs;
// nil if nothing is to be kept.
func (k *keeping) keeperNow(p *pool) *sla.Keeper {
	storage, kept := k.storage()
	if !kept {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case storage == nil: // no configuration runs any more
	case k.keeper == nil:
		k.keeper = sla.NewKeeper(storage, storagePrefix, p.name, instanceName())
		k.using = storage
	case !sameStorage(storage, k.using):
		k.keeper.SetStorage(storage)
		k.using = storage
	}
	return k.keeper
}

// load adds what an earlier process kept to the history, once.
func (k *keeping) load(ctx context.Context, p *pool, now time.Time) {
	keeper := k.keeperNow(p)
	if keeper == nil || k.loaded {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	warnings, err := keeper.Load(ctx, &p.history, now)
	k.complain(p, warnings, err)
	k.loaded = err == nil
}

// keep saves the history if there is anything new.
func (k *keeping) keep(ctx context.Context, p *pool, now time.Time, timeout time.Duration) {
	p.fold(now)
	p.prune()
	keeper := k.keeperNow(p)
	if keeper == nil {
		p.history.Advance(now)
		return
	}
	if !k.dirty.Swap(false) && k.loaded && !p.isDown() {
		p.history.Advance(now)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	warnings, err := keeper.Save(ctx, &p.history, now)
	k.complain(p, warnings, err)
	if err != nil {
		k.dirty.Store(true)
		return
	}
	k.loaded = true
}

// prune deletes what instances left behind that are long gone.
func (k *keeping) prune(ctx context.Context, p *pool, now time.Time) {
	keeper := k.keeperNow(p)
	if keeper == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	n, err := keeper.Prune(ctx, now)
	k.complain(p, nil, err)
	if n > 0 {
		p.logger().Info("deleted the history of instances that are gone", zap.String("pool", p.name), zap.Int("instances", n))
	}
}

func (k *keeping) complain(p *pool, warnings []error, err error) {
	for _, w := range warnings {
		p.logger().Warn("history is damaged", zap.String("pool", p.name), zap.Error(w))
	}
	if err != nil {
		p.logger().Error("keeping history", zap.String("pool", p.name), zap.Error(err))
	}
}

// storage is that of the configuration that runs, nil if none does, and whether
// the pool's history is kept there.
func (p *pool) storage() (storage sla.Storage, kept bool) {
	if g := p.generation.Load(); g == nil || g.sla.Load() == nil {
		return nil, false
	}
	if source := p.source(); source != nil {
		storage = source.storage()
	}
	return storage, true
}

// objective is what the pool is to achieve.
func (p *pool) objective() sla.Objective {
	if g := p.generation.Load(); g != nil {
		if o := g.sla.Load(); o != nil {
			return *o
		}
	}
	return sla.Objective{}
}

// isDown tells whether an endpoint, or all of them, are being counted as down.
func (p *pool) isDown() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down.Load() {
		return true
	}
	for _, s := range p.members {
		if s.wasDown {
			return true
		}
	}
	return false
}

// report reports on a range of time. With what other instances of the pool have
// kept in the storage, if it is kept; warnings say what of that could not be read.
func (p *pool) report(ctx context.Context, from, to, now time.Time) (rep sla.Report, warnings []error) {
	p.fold(now)
	snapshots := []*sla.Snapshot{p.history.Snapshot(now)}
	if keeper := p.keeping.keeperNow(p); keeper != nil {
		others, damaged, err := keeper.Others(ctx)
		snapshots, warnings = append(snapshots, others...), damaged
		if err != nil {
			warnings = append(warnings, err)
		}
	}
	q := sla.Query{Pool: p.name, From: from, To: to, Now: now, Objective: p.objective()}
	return sla.NewReport(q, snapshots...), warnings
}

// instanceName names this Caddy among those that share a storage. Caddy keeps the name
// in its data directory, and makes it when it is first asked. Since it may be asked
// by several at once then, of which the last one wins, the name counts when it has
// stayed the same for a moment.
var instanceName = sync.OnceValue(func() string {
	var last string
	for range 20 {
		id, err := caddy.InstanceID()
		if err == nil && id.String() == last {
			return last
		}
		last = id.String()
		time.Sleep(50 * time.Millisecond)
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Sprint("process ", os.Getpid())
	}
	return host
})

// sameStorage tells whether two configurations have certainly the same storage.
func sameStorage(a, b sla.Storage) bool {
	if fa, ok := a.(*certmagic.FileStorage); ok {
		fb, ok := b.(*certmagic.FileStorage)
		return ok && fa.Path == fb.Path
	}
	return reflect.TypeOf(a).Kind() == reflect.Pointer && a == b
}

// formerEndpoints is how many endpoints that have left the pool are still
// remembered for its reports.
const formerEndpoints = 50

// prune bounds the history where endpoints come and go, as dynamic ones do.
func (p *pool) prune() {
	p.mu.Lock()
	defer p.mu.Unlock() // so that no endpoint comes back meanwhile
	here := make(map[string]bool, len(p.members))
	for key := range p.members {
		here[key.name] = true
	}
	p.history.Prune(formerEndpoints, func(name string) bool { return here[name] })
}
