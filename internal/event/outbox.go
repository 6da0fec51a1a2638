package event

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// outboxEvery is how often one sort of event may leave.
	outboxEvery = time.Second
	// outboxQueue is how many events may wait for a log or for Caddy's events
	// app before some are lost.
	outboxQueue = 256
	// outboxPatience is how long a pool that ends waits for what is under way.
	outboxPatience = 2 * time.Second
)

// Outbox lets events out of a pool. Of a sort of event one leaves a second; the
// others are counted in the next. What leaves is remembered at once, and goes to
// the log and to Caddy's events app on a goroutine of each, so that whoever is
// slow there delays neither calls nor the control loop.
type Outbox struct {
	Log, Caddy *courier

	mu     sync.Mutex
	recent map[sort]*folded
	notes  *folded // since the last note; nil: none
	Closed bool
}

// sort is what events are folded by.
type sort struct{ kind, endpoint, to, reason string }

// folded is what was kept back of one sort of event since the last one left.
type folded struct {
	count int
	kept  Event // the newest, if count is above 0
	timer *time.Timer
}

// NewOutbox makes an outbox that hands events to the log and to Caddy's events app, each on a goroutine of its own.
func NewOutbox(log, caddy func(Event)) *Outbox {
	return &Outbox{
		Log:    newCourier(log),
		Caddy:  newCourier(caddy),
		recent: make(map[sort]*folded),
	}
}

// Post sends an event, or keeps it back for up to a second after the last of its
// sort.
func (o *Outbox) Post(e Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.Closed {
		return
	}
	sort := sort{e.Kind, e.Endpoint, e.To, e.Reason}
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

// Note writes a line to the log that is no event, folded as events are.
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

// notesEvery is how often notes are written.
const notesEvery = 10 * time.Second

// flush lets go what was kept back, or forgets the sort if that is nothing.
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

// Close sends what is still kept back, and waits for a moment until it has left.
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

// A courier delivers events one after the other on its own goroutine. What does
// not fit its queue is lost, and counted.
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

// send must not be called after close.
func (c *courier) send(e Event) {
	select {
	case c.queue <- e:
	default:
		c.Lost.Add(1)
	}
}

// close waits for what is in the queue, but not for long: the rest is delivered
// later, by a goroutine that then ends.
func (c *courier) close() {
	close(c.queue)
	timer := time.NewTimer(outboxPatience)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
	}
}
