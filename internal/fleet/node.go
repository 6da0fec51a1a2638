package fleet

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxOwn      = 4096                 // facts of this instance that wait or count
	maxQueue    = 256                  // facts without a key that wait to be told
	maxBatch    = 64                   // facts in one call of the engine
	restEach    = 2 * time.Millisecond // after a fact was told: at most 500 a second
	callTimeout = 2 * time.Second      // of a call of the engine, and until a watcher is ready
	readTimeout = 5 * time.Second      // of a snapshot
	firstPause  = 100 * time.Millisecond
	longPause   = time.Second
	// helloEach is the time between two Hellos of an instance; helloRate is how many a second
	// a large fleet sends in all.
	helloEach = time.Second
	helloRate = 50
	// steadyAfter is how many Hellos after a connection the others are known.
	steadyAfter = 4
	// spread is within which time instances that all notice a loss repeat what they know.
	spread = time.Second
	// takeRate is how many facts a second an instance takes, and takeBurst how many at once.
	takeRate  = 5000
	takeBurst = 20000
)

// Reasons for which facts are dropped.
const (
	DroppedQueue     = "queue"     // there was no room, or no engine to tell them
	DroppedFull      = "full"      // the engine had no room to store them
	DroppedSize      = "size"      // they were too large
	DroppedSignature = "signature" // they were not signed with the fleet's secret
	DroppedInvalid   = "invalid"   // they were not facts
	DroppedRate      = "rate"      // they came too fast
)

// DropReasons are the reasons for which facts are dropped.
var DropReasons = []string{DroppedQueue, DroppedFull, DroppedSize, DroppedSignature, DroppedInvalid, DroppedRate}

// A Change is the loss or the return of a fleet's engine.
type Change struct {
	Connected bool
	Err       error         // why it was lost
	Gone      time.Duration // how long it was gone
}

// Settings are those of a node. The functions are called from goroutines of the node, Take one
// at a time. They must not call the node's Close.
type Settings struct {
	Fleet, Secret string
	Instance      string
	Release       string // of the plugin
	// Take takes a fact of another instance. live is false for what was stored before.
	Take func(f *Fact, live bool, now time.Time)
	// Active returns the IDs of the endpoints that had calls since a time.
	Active func(since time.Time) []string
	// Beat is called each time before the instance says that it is there. steady says that
	// the engine has not been away lately, so that the others are known; every is the time
	// until the next call.
	Beat func(steady bool, every time.Duration, now time.Time)
	// Changed is told when the engine is lost, and when it is back.
	Changed func(Change)
	// Renamed is told that another instance has this one's name, and the new name.
	Renamed func(name string)
}

// A Node is an instance's part in a fleet. Nothing that it is told waits for an engine: what
// cannot be told now is told later if it still counts. All methods are safe for concurrent use.
type Node struct {
	Book
	Identifier
	set   Settings
	codec Codec
	boot  string

	connected atomic.Bool
	lag       atomic.Int64        // nanoseconds
	counts    [2][8]atomic.Uint64 // out and in, by kind
	drops     [6]atomic.Uint64
	wake      chan struct{}
	taking    sync.Mutex // held while a fact is handed on

	mu       sync.Mutex
	instance string
	serial   uint64
	own      map[string]*ownFact
	queue    []Fact
	engines  []*session
	tokens   float64
	filled   time.Time
	hello    uint64 // serial of the latest Hello
	helloAt  time.Time
	reread   bool // facts were dropped
	left     bool // nothing more is told
}

// ownFact is what this instance tells, or an order that it repeats.
type ownFact struct {
	noted
	dirty   bool
	due     time.Time // when it is to be told
	told    bool
	adopted bool // another instance said so
}

// A session is an engine that a node uses, or would use if no newer one ran.
type session struct {
	engine Engine
	cancel context.CancelFunc // nil: it does not run
}

// NewNode returns a node without an engine.
func NewNode(s Settings) *Node {
	return &Node{
		set: s, Identifier: NewIdentifier(s.Fleet, s.Secret), codec: NewCodec(s.Fleet, s.Secret),
		boot: crand.Text()[:12], instance: cut(s.Instance, maxText), own: make(map[string]*ownFact),
		wake: make(chan struct{}, 1),
	}
}

// Instance returns the name of this instance.
func (n *Node) Instance() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.instance
}

// Fleet returns the name of the fleet.
func (n *Node) Fleet() string { return n.set.Fleet }

// Release returns the version of the plugin.
func (n *Node) Release() string { return n.set.Release }

// Connected reports whether the engine can be had.
func (n *Node) Connected() bool { return n.connected.Load() }

// Lag returns how old what the others know of this instance is: the time that its latest Hello
// took through the engine, or for which the oldest fact has been waiting.
func (n *Node) Lag(now time.Time) time.Duration {
	lag := time.Duration(n.lag.Load())
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.helloAt.IsZero() {
		lag = max(lag, now.Sub(n.helloAt))
	}
	for _, o := range n.own {
		if o.dirty && !o.adopted {
			lag = max(lag, now.Sub(o.due))
		}
	}
	return lag
}

// Dropped returns how many facts were dropped for a reason.
func (n *Node) Dropped(reason string) uint64 {
	return n.drops[slices.Index(DropReasons, reason)].Load()
}

func (n *Node) drop(reason string) { n.drops[slices.Index(DropReasons, reason)].Add(1) }

// Counted returns how many facts of a kind were sent, and taken.
func (n *Node) Counted(k Kind) (out, in uint64) {
	i := slices.Index(Kinds, k)
	return n.counts[0][i].Load(), n.counts[1][i].Load()
}

// Tell tells the others a fact, soon. It never waits.
func (n *Node) Tell(f Fact, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.serial++
	f.Instance, f.Boot, f.Serial = n.instance, n.boot, n.serial
	key := f.Key()
	if key == "" {
		if len(n.queue) >= maxQueue {
			n.queue = slices.Delete(n.queue, 0, 1)
			n.drop(DroppedQueue)
		}
		n.queue = append(n.queue, f)
		n.poke()
		return
	}
	if n.own[key] == nil && len(n.own) >= maxOwn {
		n.forgetLocked(now)
		if len(n.own) >= maxOwn {
			n.drop(DroppedQueue)
			return
		}
	}
	if f.Kind == Order {
		n.Book.Take(&f, now) // a later one of others must be newer
	}
	last := n.own[key]
	n.own[key] = &ownFact{noted: *note(&f, now), dirty: true, due: now, told: last != nil && last.told}
	n.poke()
}

// NextVersion returns a version for an order that is newer than all that are known of its slot.
func (n *Node) NextVersion(id, slot string, now time.Time) uint64 {
	return max(n.Book.Version(id, slot)+1, uint64(max(0, now.UnixMilli())))
}

func (n *Node) poke() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// forgetLocked drops own facts that are over.
func (n *Node) forgetLocked(now time.Time) {
	for key, o := range n.own {
		if !now.Before(o.until) && !o.dirty {
			delete(n.own, key)
		}
	}
}

// Run uses an engine from now on, until stop is called; then the one before is used again, if
// it still runs. Neither waits for an engine.
func (n *Node) Run(e Engine) (stop func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.engines) > 0 {
		n.engines[len(n.engines)-1].stop()
	}
	s := &session{engine: e}
	n.engines = append(n.engines, s)
	n.start(s)
	return func() { n.end(s) }
}

func (n *Node) end(s *session) {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := slices.Index(n.engines, s)
	if i < 0 {
		return
	}
	ran := s.cancel != nil
	s.stop()
	n.engines = slices.Delete(n.engines, i, i+1)
	if ran && len(n.engines) > 0 {
		n.start(n.engines[len(n.engines)-1])
	}
	if len(n.engines) == 0 {
		n.connected.Store(false)
	}
}

func (s *session) stop() {
	if s.cancel != nil {
		s.cancel()
		s.cancel = nil
	}
}

func (n *Node) start(s *session) {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go n.run(ctx, s.engine)
}

// Leave tells the others that this instance ends, if its engine can be had, and tells no more.
func (n *Node) Leave(ctx context.Context) {
	n.mu.Lock()
	var e Engine
	if len(n.engines) > 0 && n.connected.Load() {
		s := n.engines[len(n.engines)-1]
		s.stop()
		e = s.engine
	}
	n.left = true
	n.serial++
	f := Fact{Kind: Bye, Instance: n.instance, Boot: n.boot, Serial: n.serial}
	n.mu.Unlock()
	if e == nil {
		return
	}
	if data, err := n.codec.Encode(&f); err == nil {
		_, _ = e.Publish(ctx, []Record{{Key: f.Key(), Data: data}})
	}
}

// run connects again and again until ctx ends.
func (n *Node) run(ctx context.Context, e Engine) {
	pause := firstPause
	var since time.Time
	lost := false
	for ctx.Err() == nil {
		err := n.session(ctx, e, func() {
			pause = firstPause
			n.connected.Store(true)
			if lost {
				lost = false
				n.changed(Change{Connected: true, Gone: time.Since(since)})
			}
		})
		if ctx.Err() != nil {
			return
		}
		n.connected.Store(false)
		if !lost {
			lost, since = true, time.Now()
			n.changed(Change{Err: err})
		}
		timer := time.NewTimer(time.Duration(float64(pause) * (0.5 + 0.5*rand.Float64())))
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		pause = min(2*pause, longPause)
	}
}

func (n *Node) changed(c Change) {
	if n.set.Changed != nil {
		n.set.Changed(c)
	}
}

// session uses the engine until it is lost. connected is called once all is in step.
func (n *Node) session(ctx context.Context, e Engine, connected func()) error {
	ctx, cancel := context.WithCancel(ctx)
	ready, ended, over := make(chan struct{}), make(chan error, 1), make(chan struct{})
	defer func() {
		cancel()
		<-over
	}()
	go func() {
		defer close(over)
		err := e.Watch(ctx, sync.OnceFunc(func() { close(ready) }), func(r Record) { n.take(ctx, &r, true) })
		if err == nil {
			err = errors.New("the engine stopped")
		}
		ended <- err
	}()
	timer := time.NewTimer(callTimeout)
	defer timer.Stop()
	select {
	case <-ready:
	case err := <-ended:
		return fmt.Errorf("watching: %w", err)
	case <-timer.C:
		return fmt.Errorf("watching: no answer within %v", callTimeout)
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := n.read(ctx, e); err != nil {
		return err
	}
	connected()
	return n.talk(ctx, e, ended)
}

// read takes all that is stored, and makes sure that what is missing there is told again.
func (n *Node) read(ctx context.Context, e Engine) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	records, err := e.Snapshot(ctx)
	if err != nil {
		return fmt.Errorf("reading all facts: %w", err)
	}
	stored := make(map[string]Fact, len(records))
	for i := range records {
		if f, ok := n.take(ctx, &records[i], false); ok {
			key := f.Key()
			if last, twice := stored[key]; !twice || f.Kind == Order && f.newerThan(&last) || last.Serial < f.Serial {
				stored[key] = f
			}
		}
	}
	now := time.Now()
	_, alone := e.(perInstance)
	if !alone {
		n.adopt(now)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.reread = false
	for key, o := range n.own {
		f, ok := stored[key]
		switch {
		case ok && o.Kind == Order && f.Version >= o.Version:
			o.dirty = o.dirty && f.Version == o.Version && !o.told && !o.adopted
		case ok && f.Boot == o.Boot && f.Serial == o.Serial:
		default:
			o.dirty, o.due = true, now
			if o.adopted {
				o.due = now.Add(time.Duration(rand.Float64() * float64(spread)))
			}
		}
	}
	if alone {
		for _, o := range n.own {
			o.dirty = true
		}
	}
	n.poke()
	return nil
}

// adopt makes the orders that are known this instance's own, so that it repeats them if the
// engine forgets them.
func (n *Node) adopt(now time.Time) {
	for _, f := range n.Book.Orders(now) {
		n.repeat(f, now, false)
	}
}

// repeat takes an order of another instance over. tell says that it is to be told now.
func (n *Node) repeat(f Fact, now time.Time, tell bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := f.Key()
	if o := n.own[key]; o != nil && !f.newerThan(&o.Fact) {
		if f.Version == o.Version && o.adopted && !tell {
			o.dirty = false // another one has repeated it
		}
		return
	}
	if n.own[key] == nil && len(n.own) >= maxOwn {
		n.drop(DroppedQueue)
		return
	}
	n.own[key] = &ownFact{noted: *note(&f, now), dirty: tell, due: now, told: !tell, adopted: true}
	if tell {
		n.poke()
	}
}

// talk tells facts until the engine is lost.
func (n *Node) talk(ctx context.Context, e Engine, ended <-chan error) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	hello, began := time.Now(), time.Now()
	full := false
	for {
		now := time.Now()
		proof := false
		if !now.Before(hello) {
			every := n.every(e, now)
			if n.set.Beat != nil {
				n.set.Beat(now.Sub(began) > steadyAfter*every, every, now)
			}
			n.greet(now, every)
			hello = now.Add(every)
			n.Book.Forget(now)
			proof = true
		}
		records, kinds, next := n.due(now, proof)
		if len(records) > 0 {
			forgotten, err := publish(ctx, e, records)
			if errors.Is(err, ErrFull) {
				for range records {
					n.drop(DroppedFull)
				}
				if !full {
					full = true
					n.changed(Change{Connected: true, Err: err})
				}
				err = nil
			} else if err == nil {
				full = false
			}
			if err != nil {
				n.untold(records)
				return fmt.Errorf("telling facts: %w", err)
			}
			for _, i := range kinds {
				n.counts[0][i].Add(1)
			}
			n.published(e, now)
			n.mu.Lock()
			forgotten = forgotten || n.reread
			n.mu.Unlock()
			if forgotten {
				if err := n.read(ctx, e); err != nil {
					return err
				}
			}
		}
		wait := hello.Sub(now)
		if !next.IsZero() {
			wait = min(wait, next.Sub(now))
		}
		rest := time.Duration(len(records)) * restEach
		wait = max(wait, rest)
		timer.Reset(max(0, wait))
		wake := n.wake
		if rest > 0 {
			wake = nil
			timer.Reset(rest)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			return fmt.Errorf("watching: %w", err)
		case <-wake:
		case <-timer.C:
		}
	}
}

func publish(ctx context.Context, e Engine, records []Record) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return e.Publish(ctx, records)
}

// every returns the time between two Hellos: the larger the fleet, the longer.
func (n *Node) every(e Engine, now time.Time) time.Duration {
	each := helloEach
	if slow, ok := e.(perInstance); ok {
		each = 5 * slow.Interval()
	}
	return max(each, time.Duration(n.Book.Others(now)+1)*time.Second/helloRate)
}

// greet tells that this instance is there.
func (n *Node) greet(now time.Time, every time.Duration) {
	f := Fact{Kind: Hello, Left: min(maxLifetime, missedEach*every+every/2), Every: every, Release: n.set.Release}
	if n.set.Active != nil {
		for _, id := range n.set.Active(now.Add(-activeFor)) {
			f.Active = append(f.Active, Short(id))
		}
	}
	n.Tell(f, now)
	n.mu.Lock()
	n.hello, n.helloAt = n.serial, now
	n.forgetLocked(now)
	n.mu.Unlock()
}

// published notes that facts were told. If the engine does not return a Hello to its sender,
// that is how long it took.
func (n *Node) published(e Engine, began time.Time) {
	if _, ok := e.(perInstance); !ok {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.helloAt = time.Time{}
	n.lag.Store(int64(time.Since(began)))
}

// due returns the facts that are to be told now, and when the next is.
func (n *Node) due(now time.Time, proof bool) (records []Record, kinds []int, next time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	add := func(f *Fact, key string, told bool) bool {
		data, err := n.codec.Encode(f)
		if err != nil {
			n.drop(DroppedSize)
			return false
		}
		records = append(records, Record{Key: key, Data: data, Left: f.Left, Proof: proof && told && f.Kind == Hello})
		kinds = append(kinds, slices.Index(Kinds, f.Kind))
		return true
	}
	if n.left {
		return nil, nil, next
	}
	var keys []string
	for key, o := range n.own {
		switch {
		case !o.dirty:
		case o.due.After(now):
			if next.IsZero() || o.due.Before(next) {
				next = o.due
			}
		default:
			keys = append(keys, key)
		}
	}
	// the most important first, then the oldest
	slices.SortFunc(keys, func(a, b string) int {
		x, y := n.own[a], n.own[b]
		if u, v := urgency(x.Kind), urgency(y.Kind); u != v {
			return u - v
		}
		return x.due.Compare(y.due)
	})
	for _, key := range keys {
		if len(records) >= maxBatch {
			return records, kinds, now
		}
		o := n.own[key]
		f := o.at(now)
		before := o.told
		o.dirty, o.told = false, true
		if !add(&f, key, before) {
			delete(n.own, key)
		}
	}
	for len(n.queue) > 0 && len(records) < maxBatch {
		f := n.queue[0]
		n.queue = n.queue[1:]
		add(&f, "", true)
	}
	if len(n.queue) > 0 {
		next = now
	}
	return records, kinds, next
}

func urgency(k Kind) int {
	switch k {
	case Hello:
		return 0
	case Order, Hold:
		return 1
	case Breaker, Trial:
		return 2
	}
	return 3
}

// untold marks facts as not told, after the engine has failed.
func (n *Node) untold(records []Record) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range records {
		if o := n.own[r.Key]; o != nil {
			o.dirty = true
		} else if r.Key == "" {
			n.drop(DroppedQueue)
		}
	}
}

// take takes a record of an engine, and returns its fact; ok is false if it is none.
func (n *Node) take(ctx context.Context, r *Record, live bool) (f Fact, ok bool) {
	if ctx.Err() != nil {
		return f, false
	}
	now := time.Now()
	if live && !n.affords(now) {
		n.drop(DroppedRate)
		return f, false
	}
	f, err := n.codec.Decode(r.Data)
	if err != nil {
		if errors.Is(err, ErrSignature) {
			n.drop(DroppedSignature)
		} else {
			n.drop(DroppedInvalid)
		}
		return f, false
	}
	if r.Left > 0 && f.Left > r.Left {
		if f.Lasts > 0 {
			f.Lasts = max(time.Millisecond, f.Lasts-(f.Left-r.Left))
		}
		f.Left = r.Left
	}
	n.mu.Lock()
	mine, named := f.Boot == n.boot, f.Instance == n.instance
	if mine && f.Kind == Hello && f.Serial == n.hello && live {
		n.lag.Store(int64(now.Sub(n.helloAt)))
		n.helloAt = time.Time{}
	}
	if !mine && named && live && f.Kind == Hello {
		n.instance = cut(n.set.Instance, maxText-5) + "-" + crand.Text()[:4]
		name := n.instance
		n.mu.Unlock()
		if n.set.Renamed != nil {
			n.set.Renamed(name)
		}
	} else {
		n.mu.Unlock()
	}
	if mine {
		return f, true
	}
	if !live && named && f.Kind == Hello {
		return f, true // of this instance's own past
	}
	n.counts[1][slices.Index(Kinds, f.Kind)].Add(1)
	if !n.Book.Take(&f, now) {
		if f.Kind == Order {
			n.correct(&f, now, live)
		}
		return f, true
	}
	if f.Kind == Order {
		n.mu.Lock()
		tell := n.alone()
		n.mu.Unlock()
		n.repeat(f, now, tell)
	}
	if n.set.Take != nil && (f.Left > 0 || live) {
		n.taking.Lock()
		n.set.Take(&f, live, now)
		n.taking.Unlock()
	}
	return f, true
}

// correct tells the newest order of a slot again if another instance tells an older one.
func (n *Node) correct(f *Fact, now time.Time, live bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	o := n.own[f.Key()]
	switch {
	case o == nil || !live:
	case o.Version == f.Version:
		if o.adopted && !n.alone() {
			o.dirty = false // another one has repeated it
		}
	case o.newerThan(f) && !o.dirty:
		o.dirty, o.due = true, now.Add(time.Duration(rand.Float64()*float64(spread)))
		n.poke()
	}
}

// alone reports whether the engine has a value for each instance, which goes with it. It needs
// the mutex.
func (n *Node) alone() bool {
	if len(n.engines) == 0 {
		return false
	}
	_, ok := n.engines[len(n.engines)-1].engine.(perInstance)
	return ok
}

// affords reports whether one more fact can be taken now.
func (n *Node) affords(now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.filled.IsZero() {
		n.tokens = takeBurst
	} else {
		n.tokens = min(takeBurst, n.tokens+takeRate*max(0, now.Sub(n.filled).Seconds()))
	}
	n.filled = now
	if n.tokens < 1 {
		n.reread = true
		return false
	}
	n.tokens--
	return true
}
