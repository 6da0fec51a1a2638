package fleet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// run connects again and again until ctx ends.
func (n *Node) run(ctx context.Context, e Engine) {
	pause := firstPause
	for ctx.Err() == nil {
		err := n.session(ctx, e, func() {
			pause = firstPause
			n.connected.Store(true)
		})
		if ctx.Err() != nil {
			return
		}
		n.saw(ctx, err)
		timer := time.NewTimer(time.Duration(float64(pause) * (0.5 + 0.5*rand.Float64())))
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		pause = min(2*pause, longPause)
	}
}

// session uses the engine until it is lost. connected is called once all was read and something was told: an engine
// that can only be read is lost.
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
		return fmt.Errorf("watching: no response within %v", callTimeout)
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := n.read(ctx, e); err != nil {
		return err
	}
	return n.talk(ctx, e, ended, sync.OnceFunc(connected))
}

// read takes all that is stored, and makes sure that what is missing there is told again.
func (n *Node) read(ctx context.Context, e Engine) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	records, err := e.Snapshot(ctx)
	if err != nil {
		return fmt.Errorf("reading all facts: %w", err)
	}
	rank := func(r Record) int { // Hellos first: who is there decides what breakers mean
		if strings.HasPrefix(r.Key, string(Hello)+"/") {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(records, func(a, b Record) int { return rank(a) - rank(b) })
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
		case ok && o.Kind == Order && !o.newerThan(&f):
			o.dirty = o.dirty && f.Stamp() == o.Stamp() && !o.told && !o.adopted
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
		if f.Stamp() == o.Stamp() && o.adopted && !tell {
			o.dirty = false // another one has repeated it
		}
		return
	}
	if n.own[key] == nil && len(n.own) >= withOrders(maxOwn, f.Kind) {
		n.drop(DroppedQueue)
		return
	}
	n.own[key] = &ownFact{noted: *note(&f, now), dirty: tell, due: now, told: !tell, adopted: true}
	if tell {
		n.poke()
	}
}

// talk tells facts until the engine is lost. It calls connected each time it has told some.
func (n *Node) talk(ctx context.Context, e Engine, ended <-chan error, connected func()) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	hello, began := time.Now(), time.Now()
	missing := false // what the engine had no room for is not stored yet
	_, alone := e.(perInstance)
	heard, deaf := n.heard.Load(), 0 // records until now, and Hellos in a row after which there was none
	for {
		now := time.Now()
		proof := false
		if !now.Before(hello) {
			every := n.every(e, now)
			if now.Sub(hello) > every {
				began = now // the process was stopped, and what it knew of the others is over
			}
			if n.set.Beat != nil {
				n.set.Beat(now.Sub(began) > steadyAfter*every, every, now)
			}
			if latest := n.heard.Load(); latest != heard || alone {
				heard, deaf = latest, 0
			} else if deaf++; deaf > deafAfter {
				return errDeaf
			}
			n.greet(now, every)
			hello = now.Add(every)
			n.Book.Forget(now)
			proof = true
		}
		records, kinds, next := n.due(now, proof)
		if len(records) > 0 {
			forgotten, err := publish(ctx, e, records)
			if err != nil && !errors.Is(err, ErrFull) {
				n.untold(records)
				return fmt.Errorf("telling facts: %w", err)
			}
			connected()
			switch {
			case err != nil:
				for range records {
					n.drop(DroppedFull)
				}
				missing = true
				n.saw(ctx, err)
			case slices.ContainsFunc(records, func(r Record) bool { return r.Key != "" && r.Left > 0 }):
				n.mu.Lock()
				n.reread = n.reread || missing
				n.mu.Unlock()
				missing = false
				n.saw(ctx, nil)
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

// deafAfter is after how many Hellos in a row that a watcher did not get, nor anything else, the engine is lost.
const deafAfter = 5

var errDeaf = errors.New("the engine takes facts but passes none on")

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
		for _, place := range n.set.Active(now.Add(-activeFor)) {
			f.Active = append(f.Active, Short(place))
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
