package fleet

import (
	"context"
	crand "crypto/rand"
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

// take takes a record of an engine, and returns its fact; ok is false if it is none.
func (n *Node) take(ctx context.Context, r *Record, live bool) (f Fact, ok bool) {
	if ctx.Err() != nil {
		return f, false
	}
	now := time.Now()
	if live {
		n.heard.Add(1)
	}
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
	if !mine && named && live && f.Kind == Hello && now.Sub(n.renamed) >= renameEach {
		n.renamed = now
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
	case o.Stamp() == f.Stamp():
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
