package notify

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/apifailover/caddy-failover/internal/event"
)

// receivers holds the receivers of all configurations by URL and events. A reload that keeps both
// keeps the receiver, so it loses no notice and repeats none.
var receivers = caddy.NewUsagePool()

// A receiver sends notices to a URL. It has a goroutine that follows the events, and another one while
// it sends a notice. So a URL that hangs delays only its own notices.
type receiver struct {
	target *target
	on     []string
	logger atomic.Pointer[zap.Logger] // of the newest configuration
	once   sync.Once
	ctx    context.Context
	end    context.CancelFunc

	leave  sync.Once
	leaves chan struct{} // closed when the process ends
	ended  chan struct{} // closed when the goroutine that follows the events has ended
}

func newReceiver(t *target, on []string) *receiver {
	r := &receiver{target: t, on: on, leaves: make(chan struct{}), ended: make(chan struct{})}
	r.ctx, r.end = context.WithCancel(context.Background())
	return r
}

// start starts to follow events, the first time. From now on the receiver logs to logger.
func (r *receiver) start(logger *zap.Logger) {
	r.logger.Store(logger)
	r.once.Do(func() {
		past, events := event.Latest.Subscribe(0)
		newest := uint64(0)
		if len(past) > 0 {
			newest = past[len(past)-1].ID
		}
		go r.run(events, newest)
	})
}

// Destruct implements caddy.Destructor. It ends a try that is under way, and does not block. When the process ends, it waits
// for the pending notices, those of all receivers at the same time.
func (r *receiver) Destruct() error {
	if caddy.Exiting() && r.logger.Load() != nil {
		receivers.Range(func(_, other any) bool {
			other.(*receiver).sendPending()
			return true
		})
		r.sendPending()
		exitOnce.Do(func() { exitBy = time.Now().Add(exitWithin) })
		r.await(exitBy)
	}
	r.end()
	return nil
}

// exitWithin is how long an ending process waits for all its notices together.
const exitWithin = 3 * time.Second

var (
	exitOnce sync.Once
	exitBy   time.Time // until when the process waits; exitOnce sets it
)

// sendPending makes the receiver send each pending notice at once, once, and then end. It does not block.
func (r *receiver) sendPending() { r.leave.Do(func() { close(r.leaves) }) }

// await waits until the receiver has ended, at most until a time.
func (r *receiver) await(until time.Time) {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-r.ended:
	case <-timer.C:
	}
}

// A result is the result of one try to send the notice of a story.
type result struct {
	story *story
	err   error
}

// run follows events until the receiver ends. newest is the ID of the latest event before them.
func (r *receiver) run(events *event.Subscription, newest uint64) {
	defer close(r.ended)
	defer func() { events.Close() }()
	n := &news{on: r.on, pools: make(map[string]*story)}
	results := make(chan result, 1)
	timer := time.NewTimer(0)
	defer timer.Stop()
	sending, leaving, leaves := false, false, r.leaves
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-leaves:
			leaving, leaves = true, nil
		case e, ok := <-events.Events:
			if ok {
				newest = e.ID
				n.take(e, time.Now())
				break
			}
			var missed []event.Event
			missed, events = event.Latest.Subscribe(newest)
			for _, e := range missed {
				newest = e.ID
				n.take(e, time.Now())
			}
		case got := <-results:
			sending = false
			r.settle(got, time.Now())
			if leaving {
				got.story.pending = nil
			}
		case <-timer.C:
		}
		s, at := n.next()
		if leaving {
			if s == nil && !sending {
				return
			}
			at = time.Time{}
		}
		switch wait := time.Until(at); {
		case sending || s == nil:
			timer.Stop()
		case wait > 0:
			timer.Reset(wait)
		default:
			sending = true
			i := s.startSending()
			notice := s.notice(i, incidentOf(s.pool, i.main.Incident))
			go func() { results <- result{s, r.deliver(notice)} }()
		}
	}
}

// deliver tries once to send a notice. A panic is an error.
func (r *receiver) deliver(n *Notice) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("sending panicked: %v: %s", p, debug.Stack())
		}
	}()
	ctx, cancel := context.WithTimeout(r.ctx, sendTimeout)
	defer cancel()
	return r.target.send(ctx, n)
}

// settle records and logs the result of a try.
func (r *receiver) settle(got result, now time.Time) {
	s, failed := got.story, got.story.failures
	fields := []zap.Field{zap.String("pool", s.pool), zap.String("to", r.target.label)}
	if got.err == nil {
		s.markSent(now)
		if failed > 0 {
			r.logger.Load().Info("notice sent", append(fields, zap.Int("failed_before", failed))...)
		}
		return
	}
	fields = append(fields, zap.String("error", r.target.secrets.redact(got.err)))
	if !s.markFailed(now, failureOf(got.err)) {
		r.logger.Load().Error("notice given up", append(fields, zap.Int("tries", failed+1))...)
	} else if failed&(failed-1) == 0 { // the 1st, 2nd, 3rd, 5th, 9th ...
		r.logger.Load().Warn("sending a notice failed; trying again", append(fields, zap.Int("tries", failed+1), zap.Time("next", s.notBefore))...)
	}
}
