package pool

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apifailover/caddy-failover/internal/endpoint"
)

// A Queue holds the calls that wait for an endpoint of a pool, in the order of their arrival. It
// outlives configurations: calls of an old one keep their places beside those of the new one. While
// any call waits, a goroutine lets calls in.
type Queue struct {
	count   atomic.Int64                  // calls that wait, with or without a place
	blocked atomic.Int64                  // calls that have a place
	kinds   atomic.Pointer[map[any]*kind] // those with a place, at the latest look or Join; read-only
	stats   waitStats
	tries   tries
	wake    chan struct{}
	ending  ending

	mu      sync.Mutex // taken before Pool.Mu and before the mutexes of endpoints
	places  list.List  // of *Place, by arrival
	lanes   map[Way]*lane
	serving bool // the goroutine runs
}

// A Waiter is a call that waits. Its methods are called by the queue's goroutine, under
// the queue's mutex, and only while the call waits. Blocks and Join call Kind before that.
type Waiter interface {
	// Kind returns the same value for calls that may go to the same endpoints now.
	Kind() any
	// Doubtful reports whether the call has failed, perhaps by its own fault, so that it
	// should not be the trial of an endpoint.
	Doubtful() bool
	// Enter reserves an attempt at an endpoint with room in its lane, and returns that lane; its
	// zero value if there is none. The attempt may be a trial only if trial is set.
	Enter(now time.Time, lanes Lanes, trial bool) Way
	// Due returns when a limit of an endpoint will have room for the call, after an Enter that found
	// no endpoint; zero: it does not wait for a limit.
	Due(now time.Time) time.Time
}

// A Way is an endpoint for calls of one scope.
type Way struct {
	State *endpoint.State
	Scope string // as Routes.Scope
}

// kind counts the waiting calls of one kind.
type kind struct {
	all, doubtful int
	stuck         bool // the first of them finds no endpoint now
}

// A Place is the place of one call in the queue. Its methods may be called by the call's
// goroutine.
type Place struct {
	queue    *Queue
	waiter   Waiter
	kind     any // Waiter.Kind at the latest look; guarded by the queue's mutex
	doubtful bool
	since    time.Time
	in       chan struct{}
	element  *list.Element // nil: no longer in the queue; guarded by the queue's mutex
	lane     *lane         // the lane that let it in; guarded by the queue's mutex
}

// Take counts one more waiting call, unless as many as most wait already. It reports whether it did.
func (q *Queue) Take(most int) bool {
	if q.count.Add(1) > int64(most) {
		q.count.Add(-1)
		return false
	}
	return true
}

// Release undoes Take for a call whose wait has ended, and records the wait.
func (q *Queue) Release(waited time.Duration, how WaitEnd) {
	q.count.Add(-1)
	q.stats.add(waited, how)
}

// TurnedAway counts a call for which there was no room.
func (q *Queue) TurnedAway() { q.stats.turnedAway.Add(1) }

// blocks reports whether calls wait because they found no endpoint.
func (q *Queue) blocks() bool { return q.blocked.Load() > 0 }

// Blocks reports whether calls of w's kind wait because they found no endpoint, so that w must not go
// before them.
func (q *Queue) Blocks(w Waiter) bool {
	if !q.blocks() {
		return false
	}
	kinds := q.kinds.Load()
	if kinds == nil {
		return false
	}
	k := (*kinds)[w.Kind()]
	return k != nil && k.all > 0
}

// Join gives a call a place behind all calls that have waited since before since.
func (q *Queue) Join(w Waiter, since time.Time) *Place {
	p := &Place{queue: q, waiter: w, kind: w.Kind(), doubtful: w.Doubtful(), since: since, in: make(chan struct{})}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.noteKindLocked(p.kind)
	after := q.places.Back()
	for after != nil && after.Value.(*Place).since.After(since) {
		after = after.Prev()
	}
	if after == nil {
		p.element = q.places.PushFront(p)
	} else {
		p.element = q.places.InsertAfter(p, after)
	}
	q.blocked.Add(1)
	if q.lanes == nil {
		q.lanes = make(map[Way]*lane)
	}
	if !q.serving {
		q.serving = true
		go q.serve()
	}
	if k := (*q.kinds.Load())[p.kind]; !k.stuck { // else it is behind a call that finds no endpoint
		q.nudge()
	}
	return p
}

// In is closed when the call is let in.
func (p *Place) In() <-chan struct{} { return p.in }

// Leave gives up the place. It returns false if the call has been let in already.
func (p *Place) Leave() bool {
	q := p.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if p.element == nil {
		return false
	}
	q.removeLocked(p)
	q.nudge() // another call may be first now
	return true
}

func (q *Queue) removeLocked(p *Place) {
	q.places.Remove(p.element)
	p.element = nil
	q.blocked.Add(-1)
}

// Wake makes the queue look for endpoints soon. It may be called under any lock.
func (q *Queue) Wake() {
	if q.blocks() {
		q.nudge()
	}
}

func (q *Queue) nudge() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// pollAtMost is the shortest time between two looks for endpoints whose limits have room again.
const pollAtMost = time.Millisecond

// serve lets calls in until none waits.
func (q *Queue) serve() {
	timer := time.NewTimer(endpoint.PollAllIn)
	defer timer.Stop()
	for {
		select {
		case <-q.wake:
		case <-timer.C:
		}
		q.mu.Lock()
		now := time.Now()
		due := q.letInLocked(now)
		if q.places.Len() == 0 {
			q.serving, q.lanes = false, nil
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		pause := endpoint.PollAllIn
		if !due.IsZero() {
			pause = min(pause, max(pollAtMost, due.Sub(now)))
		}
		timer.Reset(pause)
	}
}

// kindsLocked counts the waiting calls by their current kind.
func (q *Queue) kindsLocked() map[any]*kind {
	kinds := make(map[any]*kind)
	for e := q.places.Front(); e != nil; e = e.Next() {
		p := e.Value.(*Place)
		p.kind = p.waiter.Kind()
		k := kinds[p.kind]
		if k == nil {
			k = new(kind)
			kinds[p.kind] = k
		}
		k.all++
		if p.doubtful {
			k.doubtful++
		}
	}
	return kinds
}

// noteKindLocked makes Blocks know a kind until the next look.
func (q *Queue) noteKindLocked(one any) {
	next := map[any]*kind{one: {all: 1}}
	if kinds := q.kinds.Load(); kinds != nil {
		if k := (*kinds)[one]; k != nil && k.all > 0 {
			return
		}
		for other, k := range *kinds {
			if other != one {
				next[other] = k
			}
		}
	}
	q.kinds.Store(&next)
}

// letInLocked lets in the calls that find an endpoint, in the order of the queue. For each kind it
// stops at the first call that finds none. It returns when a limit will first have room for one of
// these; zero: none of them waits for a limit.
func (q *Queue) letInLocked(now time.Time) (due time.Time) {
	kinds := q.kindsLocked()
	defer q.kinds.Store(&kinds)
	for e, open := q.places.Front(), len(kinds); e != nil && open > 0; {
		p := e.Value.(*Place)
		e = e.Next()
		k := kinds[p.kind]
		if k.stuck {
			continue // an earlier call of its kind found no endpoint
		}
		trial := !p.doubtful || k.doubtful == k.all
		way := p.waiter.Enter(now, Lanes{q}, trial)
		if way.State == nil {
			if trial {
				k.stuck = true
				open--
				due = endpoint.Earliest(due, p.waiter.Due(now))
			}
			continue
		}
		if p.lane = q.lanes[way]; p.lane != nil {
			p.lane.busy++
		}
		q.removeLocked(p)
		if k.all--; p.doubtful {
			k.doubtful--
		}
		close(p.in)
	}
	return due
}

// A lane bounds how many calls of the queue may be in flight at an endpoint that comes back, so that
// it gets no more than it can answer. A round is as many answers as the window has calls. The window
// begins at one call, and doubles with each round. After the first round in which every answer was
// slow, or many failed, it grows by one each round instead, and shrinks after each such round. This
// follows TCP Vegas, but uses the fastest answer of a round, because a queue inside the endpoint
// slows all answers. See Brakmo and Peterson, TCP Vegas: End to End Congestion Avoidance, 1995.
type lane struct {
	busy    int // calls let in that have had no answer
	window  int
	fastest time.Duration // the fastest answer; 0: none yet
	settled bool          // a round has been slow, or failed

	// Of this round.
	answers, failures int
	least             time.Duration // the fastest answer; 0: none yet
}

const (
	// A round is slow if its fastest answer took slowFactor times as long as the fastest of all, and
	// slowMargin longer.
	slowFactor = 2
	slowMargin = 10 * time.Millisecond
	// A round has failed if more than one in failuresOf of its attempts has.
	failuresOf = 4
)

// answered counts the answer of a call's attempt.
func (l *lane) answered(took time.Duration, well bool) {
	l.busy--
	l.answers++
	if !well {
		l.failures++
	} else if l.least == 0 || took < l.least {
		l.least = took
	}
	if l.answers < l.window {
		return
	}
	if l.fastest == 0 || l.least > 0 && l.least < l.fastest {
		l.fastest = l.least
	}
	slow := l.least > slowFactor*l.fastest && l.least > l.fastest+slowMargin
	switch {
	case l.failures*failuresOf > l.answers:
		l.settled, l.window = true, max(1, l.window/2)
	case slow && l.window == 1:
		l.fastest, l.window = l.least, 2 // one call alone is slow, so the queue's calls are not the cause
	case slow:
		l.settled, l.window = true, max(1, l.window*3/4)
	case l.settled:
		l.window++
	default:
		l.window *= 2
	}
	l.answers, l.failures, l.least = 0, 0, 0
}

// Lanes are the lanes of a queue, for use within Enter.
type Lanes struct{ queue *Queue }

// Pace gives an endpoint that was out a lane, which limits its calls from the queue.
func (l Lanes) Pace(w Way) {
	if l.queue.lanes[w] == nil {
		l.queue.lanes[w] = &lane{window: 1}
	}
}

// Room reports whether an endpoint may have another call of the queue.
func (l Lanes) Room(w Way) bool {
	own := l.queue.lanes[w]
	return own == nil || own.busy < own.window
}

// Answered notes that the call's attempt was answered or has ended after took, and whether it went
// well. Only its first call counts.
func (p *Place) Answered(took time.Duration, well bool) {
	q := p.queue
	q.mu.Lock()
	if p.lane != nil {
		p.lane.answered(took, well)
		p.lane = nil
	}
	q.mu.Unlock()
	q.Wake()
}
