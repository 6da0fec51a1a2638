package event

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// outboxEvery is the shortest time between two events of one sort.
	outboxEvery = time.Second
	// outboxQueue is the number of events that can wait for the log or for Caddy's events
	// app. Further events are lost.
	outboxQueue = 256
	// outboxPatience is how long Close waits for queued events.
	outboxPatience = 2 * time.Second
)

// Outbox sends the events of a pool. It sends one event of each sort a second; the next one
// counts those between. [Latest] gets an event at once. The log and Caddy's events app get
// it on a goroutine each, so a slow one delays neither calls nor the control loop. All
// methods are safe for concurrent use.
type Outbox struct {
	Log, Caddy *courier

	mu     sync.Mutex
	recent map[sort]*folded
	notes  *folded // notes held back since the last one; nil if none
	Closed bool
}

// sort is the key by which events are folded.
type sort struct{ kind, endpoint, scope, to, reason string }

// folded holds the events of one sort that were held back since the last one was sent.
type folded struct {
	count int
	kept  Event // the newest event, if count is above 0
	timer *time.Timer
}

// NewOutbox returns an outbox that sends events to log and caddy, each on its own
// goroutine.
func NewOutbox(log, caddy func(Event)) *Outbox {
	return &Outbox{
		Log:    newCourier(log),
		Caddy:  newCourier(caddy),
		recent: make(map[sort]*folded),
	}
}

// Post sends an event, or holds it back for up to a second after the last one of its sort.
func (o *Outbox) Post(e Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.Closed {
		return
	}
	sort := sort{e.Kind, e.Endpoint, e.Scope, e.To, e.Reason}
	if f := o.recent[sort]; f != nil {
		f.count += e.Count
		f.kept = e
		return
	}
	f := new(folded)
	f.timer = time.AfterFunc(outboxEvery, func() { o.flush(sort, f) })
	o.recent[sort] = f
	o.sendLocked(e)
}

// Note writes a line that is not an event to the log. It folds lines like events.
func (o *Outbox) Note(e Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.Closed {
		return
	}
	if f := o.notes; f != nil {
		f.count += e.Count
		f.kept = e
		return
	}
	f := new(folded)
	f.timer = time.AfterFunc(notesEvery, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.notes = nil
		if !o.Closed && f.count > 0 {
			f.kept.Count = f.count
			o.Log.send(f.kept)
		}
	})
	o.notes = f
	o.Log.send(e)
}

// notesEvery is the shortest time between two notes.
const notesEvery = 10 * time.Second

// flush sends the held-back events of a sort, or forgets the sort if there are none.
func (o *Outbox) flush(sort sort, f *folded) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.Closed:
	case f.count == 0:
		delete(o.recent, sort)
	default:
		o.sendFoldedLocked(f)
		f.timer.Reset(outboxEvery)
	}
}

func (o *Outbox) sendFoldedLocked(f *folded) {
	e := f.kept
	e.Count = f.count
	f.count, f.kept = 0, Event{}
	o.sendLocked(e)
}

func (o *Outbox) sendLocked(e Event) {
	e = Latest.Add(e)
	o.Log.send(e)
	o.Caddy.send(e)
}

// Close sends the held-back events and waits up to outboxPatience for delivery.
func (o *Outbox) Close() {
	o.mu.Lock()
	o.Closed = true
	for _, f := range o.recent {
		f.timer.Stop()
		if f.count > 0 {
			o.sendFoldedLocked(f)
		}
	}
	clear(o.recent)
	if f := o.notes; f != nil {
		f.timer.Stop()
	}
	o.mu.Unlock()
	o.Log.close()
	o.Caddy.close()
}

// A courier delivers events in order on its own goroutine. Events that do not fit its queue
// are lost and counted.
type courier struct {
	queue chan Event
	done  chan struct{}
	Lost  atomic.Int64
}

func newCourier(deliver func(Event)) *courier {
	c := &courier{queue: make(chan Event, outboxQueue), done: make(chan struct{})}
	go func() {
		defer close(c.done)
		for e := range c.queue {
			deliver(e)
		}
	}()
	return c
}

// send queues an event. Do not call it after close.
func (c *courier) send(e Event) {
	select {
	case c.queue <- e:
	default:
		c.Lost.Add(1)
	}
}

// close waits up to outboxPatience for the queue to empty. The goroutine delivers the rest
// later and then ends.
func (c *courier) close() {
	close(c.queue)
	timer := time.NewTimer(outboxPatience)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
	}
}
