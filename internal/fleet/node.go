package fleet

import (
	"context"
	crand "crypto/rand"
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
	// renameEach is the shortest time between two new names, which a stranger could take as well.
	renameEach = time.Minute
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

// A Change is the loss or the return of a fleet's engine, or of its room to store.
type Change struct {
	Connected bool
	Err       error         // why it was lost; nil: it is back
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
	// Active returns the places that had calls since a time: endpoints first, then their scopes.
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
	heard     atomic.Uint64       // records that watchers got
	lag       atomic.Int64        // nanoseconds
	counts    [2][8]atomic.Uint64 // out and in, by kind
	drops     [6]atomic.Uint64
	wake      chan struct{}
	taking    sync.Mutex // held while a fact is handed on

	mu       sync.Mutex
	instance string
	serial   uint64
	own      map[string]*ownFact
	swept    time.Time // when own facts that are over were dropped last, for want of room
	queue    []Fact
	engines  []*session
	tokens   float64
	filled   time.Time
	hello    uint64 // serial of the latest Hello
	helloAt  time.Time
	reread   bool // facts were dropped
	left     bool // nothing more is told
	renamed  time.Time

	standings standings
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
	if most := withOrders(maxOwn, f.Kind); n.own[key] == nil && len(n.own) >= most {
		if now.Sub(n.swept) >= sweepEach || now.Before(n.swept) { // it looks at all
			n.swept = now
			n.forgetLocked(now)
		}
		if len(n.own) >= most {
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
