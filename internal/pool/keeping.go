package pool

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
	// judgeEndpointsEvery is longer, because the values are only for display.
	judgeEndpointsEvery = time.Minute
	saveEvery           = time.Minute
	pruneEvery          = 24 * time.Hour

	// storageTimeout is the timeout of a save or a load while the pool runs. lastTimeout is that of a
	// save for which a stopping Caddy waits.
	storageTimeout = 30 * time.Second
	lastTimeout    = 5 * time.Second
	hungTimeout    = 100 * time.Millisecond

	// storagePrefix begins all keys in the storage.
	storagePrefix = "failover"
)

// keeping is the goroutine of a pool that compares the history with the objective, and keeps the
// history in Caddy's storage. A slow storage delays nothing else.
type keeping struct {
	// storage returns the storage for the history, nil if no configuration runs now, and whether to
	// keep the history at all.
	storage func() (sla.Storage, bool)

	wake chan struct{}      // there may be something to load
	save chan chan struct{} // requests to save now; the goroutine closes the inner channel afterwards
	quit chan struct{}
	done chan struct{}

	abort   context.CancelFunc         // ends what the goroutine does with the storage
	hangs   atomic.Bool                // the storage took longer than lastTimeout at the latest SaveNow
	lastFor atomic.Pointer[Generation] // the generation for which SaveAll saved

	standing atomic.Pointer[Standing]
	dirty    atomic.Bool   // something was recorded since the latest save
	loaded   bool          // used by the goroutine only
	begun    chan struct{} // closed once the goroutine has tried to load what there is

	incidents struct { // used by the goroutine only
		storage sla.Storage // nil until there is one
		loaded  bool
	}

	mu     sync.Mutex
	keeper *sla.Keeper // nil until there is a storage
	using  sla.Storage
}

// Standing is the latest comparison of the pool and its endpoints with the objective. It is read-only.
type Standing struct {
	objective sla.Objective
	Pool      sla.Standing
	Alert     sla.Alert

	endpoints map[string]sla.Standing // by name
	at        time.Time               // when endpoints were compared; zero: they are compared again
}

func (k *keeping) start(p *Pool) {
	if k.storage == nil {
		k.storage = p.storage
	}
	k.wake, k.save = make(chan struct{}, 1), make(chan chan struct{})
	k.quit, k.done, k.begun = make(chan struct{}), make(chan struct{}), make(chan struct{})
	var ctx context.Context
	ctx, k.abort = context.WithCancel(context.Background())
	go k.run(ctx, p)
}

// stop saves and ends the goroutine. It waits for that for at most lastTimeout, and only briefly if the storage hung at the
// latest SaveNow.
func (k *keeping) stop() {
	patience := lastTimeout
	if k.hangs.Load() {
		patience = hungTimeout
		k.abort()
	}
	close(k.quit)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-k.done:
	case <-timer.C:
		k.abort()
	}
}

// Poke tells the goroutine that a configuration has started.
func (k *keeping) Poke() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// SaveNow saves the history and the incidents. It waits for that for at most lastTimeout.
func (k *keeping) SaveNow() {
	timer := time.NewTimer(lastTimeout)
	defer timer.Stop()
	saved := make(chan struct{})
	select {
	case k.save <- saved:
	case <-k.quit:
		return
	case <-timer.C:
		k.hangs.Store(true)
		return
	}
	select {
	case <-saved:
	case <-timer.C:
		k.hangs.Store(true)
	}
}

// SaveAll calls SaveNow for all pools that run by the configuration of a generation, at the same time, once for each.
func SaveAll(by *Generation) {
	var saves sync.WaitGroup
	for _, p := range Running() {
		g := p.generation.Load()
		if g != nil && g.config == by.config && isUsable(g.Source) && p.Keeping.lastFor.Swap(g) != g {
			saves.Go(p.Keeping.SaveNow)
		}
	}
	saves.Wait()
}

// keepAll saves the history and the incidents within lastTimeout.
func (k *keeping) keepAll(ctx context.Context, p *Pool) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, lastTimeout)
	defer cancel()
	k.keep(ctx, p, time.Now(), lastTimeout)
	k.keepIncidents(ctx, p, time.Now(), lastTimeout)
	k.hangs.Store(time.Since(began) >= lastTimeout)
}

func (k *keeping) run(ctx context.Context, p *Pool) {
	defer close(k.done)
	defer k.abort()
	ticker := time.NewTicker(judgeEvery)
	defer ticker.Stop()
	var alert sla.Alert
	var pruned time.Time
	saved := time.Now()
	begun := sync.OnceFunc(func() { close(k.begun) })
	for {
		select {
		case <-k.quit:
			k.keepAll(ctx, p)
			return
		case <-k.wake:
			k.load(ctx, p, time.Now())
			begun()
			k.loadIncidents(ctx, p)
			k.judge(p, time.Now(), &alert, true)
		case done := <-k.save:
			k.keepAll(ctx, p)
			close(done)
		case <-ticker.C:
			now := time.Now()
			k.judge(p, now, &alert, false)
			k.keepIncidents(ctx, p, now, storageTimeout)
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

// judge compares the pool with its objective, and emits the events that follow. When a configuration has started, it
// compares the endpoints as well, and so does the next judge: then they may have had their first calls.
func (k *keeping) judge(p *Pool, now time.Time, alert *sla.Alert, started bool) {
	p.fold(now)
	o := p.Objective()
	s := Standing{objective: o}
	if o.Availability > 0 || o.LatencyTarget > 0 {
		s.Pool = o.Standing(p.History.Pool(), now)
		if s.endpoints, s.at = k.endpoints(p, o, now, started); started {
			s.at = time.Time{}
		}
	}
	for _, change := range alert.Update(nil, now, s.Pool) {
		p.Emit(burnEvent(change))
	}
	s.Alert = *alert
	k.standing.Store(&s)
}

// endpoints compares each endpoint with the objective. Each comparison takes about a millisecond, so
// the result is reused for judgeEndpointsEvery, unless it must be new.
func (k *keeping) endpoints(p *Pool, o sla.Objective, now time.Time, anew bool) (map[string]sla.Standing, time.Time) {
	if last := k.standing.Load(); !anew && last != nil && last.objective == o && last.endpoints != nil {
		if since := now.Sub(last.at); since >= 0 && since < judgeEndpointsEvery {
			return last.endpoints, last.at
		}
	}
	endpoints := make(map[string]sla.Standing)
	for _, name := range p.History.Endpoints() {
		endpoints[name] = o.Standing(p.History.Endpoint(name), now)
	}
	return endpoints, now
}

// keeperNow returns the keeper with the storage of the running configuration; nil if there is
// no history to keep.
func (k *keeping) keeperNow(p *Pool) *sla.Keeper {
	storage, kept := k.storage()
	if !kept {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case storage == nil: // no configuration runs now
	case k.keeper == nil:
		k.keeper = sla.NewKeeper(storage, storagePrefix, p.Name, instanceName())
		k.using = storage
	case !sameStorage(storage, k.using):
		k.keeper.SetStorage(storage)
		k.using = storage
	}
	return k.keeper
}

// awaitLoad waits until the history of earlier processes has been loaded, for at most lastTimeout. So a report
// that is asked for while Caddy starts is whole.
func (k *keeping) awaitLoad(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lastTimeout)
	defer cancel()
	select {
	case <-k.begun:
	case <-k.done:
	case <-ctx.Done():
	}
}

// load adds the history that an earlier process stored, once.
func (k *keeping) load(ctx context.Context, p *Pool, now time.Time) {
	keeper := k.keeperNow(p)
	if keeper == nil || k.loaded {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	warnings, err := keeper.Load(ctx, &p.History, now)
	k.complain(p, warnings, err)
	k.loaded = err == nil
}

// keep saves the history if it has changed.
func (k *keeping) keep(ctx context.Context, p *Pool, now time.Time, timeout time.Duration) {
	p.fold(now)
	p.prune()
	keeper := k.keeperNow(p)
	if keeper == nil {
		p.History.Advance(now)
		return
	}
	if !k.dirty.Swap(false) && k.loaded && !p.isDown() {
		p.History.Advance(now)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	warnings, err := keeper.Save(ctx, &p.History, now)
	k.complain(p, warnings, err)
	if err != nil {
		k.dirty.Store(true)
		return
	}
	k.loaded = true
}

// prune deletes the stored history of instances that are long gone.
func (k *keeping) prune(ctx context.Context, p *Pool, now time.Time) {
	keeper := k.keeperNow(p)
	if keeper == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	n, err := keeper.Prune(ctx, now)
	k.complain(p, nil, err)
	if n > 0 {
		p.logger().Info("deleted the history of instances that are gone", zap.String("pool", p.Name), zap.Int("instances", n))
	}
}

func (k *keeping) complain(p *Pool, warnings []error, err error) {
	for _, w := range warnings {
		p.logger().Warn("history is damaged", zap.String("pool", p.Name), zap.Error(w))
	}
	if err != nil {
		p.logger().Error("keeping history", zap.String("pool", p.Name), zap.Error(err))
	}
}

// storage returns the storage of the running configuration, nil if none runs, and whether the
// pool keeps its history there.
func (p *Pool) storage() (storage sla.Storage, kept bool) {
	if g := p.generation.Load(); g == nil || g.sla.Load() == nil {
		return nil, false
	}
	if source := p.Source(); source != nil {
		storage = source.Storage()
	}
	return storage, true
}

// Objective returns the pool's objective; zero if there is none.
func (p *Pool) Objective() sla.Objective {
	if g := p.generation.Load(); g != nil {
		if o := g.sla.Load(); o != nil {
			return *o
		}
	}
	return sla.Objective{}
}

// isDown reports whether an endpoint or the whole pool counts as down.
func (p *Pool) isDown() bool {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	if p.down.Load() {
		return true
	}
	for _, s := range p.Members {
		if s.wasDown {
			return true
		}
	}
	return false
}

// Report returns the report on a range of time. If the history is kept in a storage, the report
// includes that of the pool's other instances. warnings say which of it could not be read.
func (p *Pool) Report(ctx context.Context, from, to, now time.Time) (rep sla.Report, warnings []error) {
	keeper := p.Keeping.keeperNow(p)
	if keeper != nil {
		p.Keeping.awaitLoad(ctx)
	}
	p.fold(now)
	snapshots := []*sla.Snapshot{p.History.Snapshot(now)}
	if keeper != nil {
		others, damaged, err := keeper.Others(ctx)
		snapshots, warnings = append(snapshots, others...), damaged
		if err != nil {
			warnings = append(warnings, err)
		}
	}
	q := sla.Query{Pool: p.Name, From: from, To: to, Now: now, Objective: p.Objective()}
	return sla.NewReport(q, snapshots...), warnings
}

// instanceName returns the name of this Caddy among those that share a storage. Caddy makes it at
// the first call of caddy.InstanceID, and stores it in its data directory. Calls at the same time may
// each make one, and the last one is stored. So instanceName waits until it gets the same one twice.
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

// sameStorage reports whether two storages are certainly the same.
func sameStorage(a, b sla.Storage) bool {
	if fa, ok := a.(*certmagic.FileStorage); ok {
		fb, ok := b.(*certmagic.FileStorage)
		return ok && fa.Path == fb.Path
	}
	return reflect.TypeOf(a).Kind() == reflect.Pointer && a == b
}

// formerEndpoints is how many endpoints that have left the pool stay in its reports.
const formerEndpoints = 50

// prune bounds the history of endpoints that have left the pool, as dynamic ones do.
func (p *Pool) prune() {
	p.Mu.Lock()
	defer p.Mu.Unlock() // so that no endpoint comes back meanwhile
	here := make(map[string]bool, len(p.Members))
	for key := range p.Members {
		here[key.Name] = true
	}
	p.History.Prune(formerEndpoints, func(name string) bool { return here[name] })
}
