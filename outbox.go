package failover

import (
	"sync"
	"time"

	"go.uber.org/zap"
)

// Failover is a call's move from one endpoint to another.
type Failover struct {
	At       time.Time     `json:"at"`
	Pool     string        `json:"pool"`
	From     string        `json:"from"`
	To       string        `json:"to"`
	Reason   string        `json:"reason"`   // the outcome of the attempt that failed
	Attempt  int           `json:"attempt"`  // the one that failed, from 1
	Duration time.Duration `json:"duration"` // of that attempt, nanoseconds
}

// failoverLog keeps the last failovers. The zero value is empty.
type failoverLog struct {
	mu    sync.Mutex
	ring  [1000]Failover
	next  int
	total uint64
}

func (l *failoverLog) add(f Failover) {
	l.mu.Lock()
	l.ring[l.next] = f
	l.next = (l.next + 1) % len(l.ring)
	l.total++
	l.mu.Unlock()
}

// last returns up to n failovers, oldest first, and how many there ever were.
func (l *failoverLog) last(n int) ([]Failover, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = min(n, len(l.ring), int(l.total))
	list := make([]Failover, 0, n)
	for i := range n {
		list = append(list, l.ring[(l.next-n+i+len(l.ring))%len(l.ring)])
	}
	return list, l.total
}

// outboxEvery is how often one kind of message may leave.
const outboxEvery = time.Second

// outbox carries messages out of a pool on a goroutine of its own, so that a
// slow log delays neither calls nor the control loop. Of one kind, one message
// a second leaves; the others are counted in the next.
type outbox struct {
	queue chan func()
	done  chan struct{}

	mu     sync.Mutex
	recent map[messageKey]*folded
	lost   int // did not fit the queue
	closed bool
}

type messageKey struct{ kind, from, to, reason string }

// folded is what was kept back of one kind of message since the last one left.
type folded struct {
	left  time.Time
	count int
	send  func(count int) // the newest that was kept back
	timer *time.Timer
}

func newOutbox() *outbox {
	o := &outbox{
		queue:  make(chan func(), 256),
		done:   make(chan struct{}),
		recent: make(map[messageKey]*folded),
	}
	go func() {
		defer close(o.done)
		for send := range o.queue {
			send()
		}
	}()
	return o
}

// close sends what is still kept back and waits until it has left.
func (o *outbox) close() {
	o.mu.Lock()
	o.closed = true
	for _, f := range o.recent {
		f.timer.Stop()
		if f.count > 0 {
			o.enqueueLocked(f.send, f.count)
		}
	}
	clear(o.recent)
	close(o.queue)
	o.mu.Unlock()
	<-o.done
}

// post sends a message, or keeps it back for a second after the last of its
// kind. send gets the number of messages it stands for.
func (o *outbox) post(key messageKey, now time.Time, send func(count int)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	f := o.recent[key]
	if f == nil {
		f = &folded{left: now}
		f.timer = time.AfterFunc(outboxEvery, func() { o.flush(key, f) })
		o.recent[key] = f
		o.enqueueLocked(send, 1)
		return
	}
	f.count++
	f.send = send
}

// flush lets go what was kept back, or forgets the kind if that is nothing.
func (o *outbox) flush(key messageKey, f *folded) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	if f.count == 0 {
		delete(o.recent, key)
		return
	}
	o.enqueueLocked(f.send, f.count)
	f.count, f.send = 0, nil
	f.timer.Reset(outboxEvery)
}

func (o *outbox) enqueueLocked(send func(count int), count int) {
	select {
	case o.queue <- func() { send(count) }:
	default:
		o.lost++
	}
}

// failover logs a failover.
func (o *outbox) failover(logger *zap.Logger, f Failover) {
	o.post(messageKey{"failover", f.From, f.To, f.Reason}, f.At, func(count int) {
		logger.Warn("failover",
			zap.String("pool", f.Pool),
			zap.String("from", f.From),
			zap.String("to", f.To),
			zap.String("reason", f.Reason),
			zap.Int("attempt", f.Attempt),
			zap.Duration("duration", f.Duration),
			zap.Int("count", count))
	})
}
