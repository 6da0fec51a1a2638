package failover

import (
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
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

// outbox lets events out of a pool. Of a sort of event one leaves a second; the
// others are counted in the next. What leaves is remembered at once, and goes to
// the log and to Caddy's events app on a goroutine of each, so that whoever is
// slow there delays neither calls nor the control loop.
type outbox struct {
	log, caddy *courier

	mu     sync.Mutex
	recent map[eventSort]*folded
	notes  *folded // since the last note; nil: none
	closed bool
}

// eventSort is what events are folded by.
type eventSort struct{ kind, endpoint, to, reason string }

// folded is what was kept back of one sort of event since the last one left.
type folded struct {
	count int
	kept  Event // the newest, if count is above 0
	timer *time.Timer
}

func newOutbox(log, caddy func(Event)) *outbox {
	return &outbox{
		log:    newCourier(log),
		caddy:  newCourier(caddy),
		recent: make(map[eventSort]*folded),
	}
}

// post sends an event, or keeps it back for up to a second after the last of its
// sort.
func (o *outbox) post(e Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	sort := eventSort{e.Kind, e.Endpoint, e.To, e.Reason}
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

// note writes a line to the log that is no event, folded as events are.
func (o *outbox) note(e Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
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
		if !o.closed && f.count > 0 {
			f.kept.Count = f.count
			o.log.send(f.kept)
		}
	})
	o.notes = f
	o.log.send(e)
}

// notesEvery is how often notes are written.
const notesEvery = 10 * time.Second

// flush lets go what was kept back, or forgets the sort if that is nothing.
func (o *outbox) flush(sort eventSort, f *folded) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed:
	case f.count == 0:
		delete(o.recent, sort)
	default:
		o.sendFoldedLocked(f)
		f.timer.Reset(outboxEvery)
	}
}

func (o *outbox) sendFoldedLocked(f *folded) {
	e := f.kept
	e.Count = f.count
	f.count, f.kept = 0, Event{}
	o.sendLocked(e)
}

func (o *outbox) sendLocked(e Event) {
	e = events.add(e)
	o.log.send(e)
	o.caddy.send(e)
}

// close sends what is still kept back, and waits for a moment until it has left.
func (o *outbox) close() {
	o.mu.Lock()
	o.closed = true
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
	o.log.close()
	o.caddy.close()
}

// A courier delivers events one after the other on its own goroutine. What does
// not fit its queue is lost, and counted.
type courier struct {
	queue chan Event
	done  chan struct{}
	lost  atomic.Int64
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
		c.lost.Add(1)
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

// logEvent writes an event to the log of the configuration the pool runs by.
func (p *pool) logEvent(e Event) {
	logger := p.logger()
	if lost := p.outbox.log.lost.Swap(0); lost > 0 {
		logger.Warn("the log was too slow: events are missing from it", zap.String("pool", p.name), zap.Int64("missing", lost))
	}
	entry := logger.Check(levelOf(e.Kind), e.Kind)
	if entry == nil {
		return
	}
	fields := []zapcore.Field{zap.String("pool", e.Pool)}
	if e.Endpoint != "" {
		fields = append(fields, zap.String("endpoint", e.Endpoint))
	}
	if e.To != "" {
		fields = append(fields, zap.String("to", e.To))
	}
	if e.Reason != "" {
		fields = append(fields, zap.String("reason", e.Reason))
	}
	for _, name := range e.detailNames() {
		fields = append(fields, zap.Any(name, e.Details[name]))
	}
	entry.Write(append(fields, zap.Int("count", e.Count), zap.Time("at", e.At), zap.Uint64("id", e.ID))...)
}

// levelOf is how urgent a kind of event is in a log.
func levelOf(kind string) zapcore.Level {
	switch kind {
	case eventAllDown:
		return zapcore.ErrorLevel
	case eventBreakerRecovering, eventBreakerClosed, eventSLAMetAgain, eventOperator:
		return zapcore.InfoLevel
	}
	return zapcore.WarnLevel
}
